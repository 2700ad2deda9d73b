//! The text form of a network.
//!
//! One layer a line, or several joined by `->`. A `#` starts a comment. Each layer takes what the one before it gives; what
//! the last one gives is the network's output.
//!
//! ```
//! use convnet::network::Network;
//!
//! let network = Network::parse(
//!     "input 1x28x28                  # channels x height x width
//!      conv 8 5x5 stride 2 pad 2      # 8 filters of 5 rows x 5 columns
//!      relu
//!      flatten -> fc 10",
//! )?;
//! assert_eq!(network.output_shape().c, 10);
//! assert_eq!(network.to_string(), "input 1x28x28\nconv 8 5x5 stride 2 pad 2\nrelu\nflatten\nfc 10");
//! # Ok::<(), convnet::Error>(())
//! ```
//!
//! # Statements
//!
//! | written | says |
//! |---|---|
//! | `input 3x32x32` | the image: channels × height × width; once, before the layers |
//! | `conv 64 3x3 pad 1` | a layer: its kind, then what the kind's own page says; capitals do not matter |
//! | `a -> b` | `b` takes what `a` gives, as if it stood on the next line; a line may end or begin with the arrow |
//! | `[ a -> b ]*3` | the same layers three times in a row, each time with parameters of their own |
//! | `add( a -> b \| c \| identity )` | all branches take the same value; what they give is added. `identity` passes it on |
//! | `concat( a \| b )` | the same, with the channels one behind the other |
//! | `stem: conv 64 7x7` | the layer's own name; without it a layer is named by its kind and a counter, `conv1` |
//! | `from stem` | the next layer takes what `stem` gives, whatever stands before; `from input` takes the image |
//! | `let k = 64` | a number with a name |
//! | `let block(k, s) = …` | layers with a name, up to the end of the line or of the open bracket |
//! | `block(256, 2)` | those layers, with these values |
//!
//! Inside brackets and parentheses a new line separates layers as an arrow does. A definition may use those above it, but not
//! itself. Brackets, branches and definitions may be nested 64 deep, and a network has at most 10,000 layers. `pool` is `maxpool`, `batchnorm` is `bn`,
//! `linear` and `dense` are `fc`.
//!
//! # Numbers
//! Where a number stands, the name of one may stand, and `+ - * /` between numbers and names without spaces: `2*k`,
//! `k/4`, `conv k fx1 pad 1xn-1`. Multiplication and division come first; there are no parentheses in arithmetic. A
//! division that leaves a remainder gives a decimal number, which no size takes.
//!
//! ```
//! use convnet::network::Network;
//!
//! let network = Network::parse(
//!     "input 3x32x32
//!      let k = 16
//!      let basic(k, f) = add( conv k fxf pad same -> relu -> conv k fxf pad same | identity ) -> relu
//!      conv k 3x3 pad 1
//!      [ basic(k, 3) ]*2
//!      conv 2*k 1x1 stride 2
//!      basic(2*k, 5)",
//! )?;
//! assert_eq!(network.output_shape().chw(), [32, 16, 16]);
//! # Ok::<(), convnet::Error>(())
//! ```
//!
//! `classes` is an ordinary name that [`TextArguments::classes`] sets from outside, so that one text serves many data sets.
//!
//! # Any graph
//! Branches that part and meet in pairs are written by nesting. Whatever else a network is made of, `from` can say:
//!
//! ```
//! use convnet::network::Network;
//!
//! let network = Network::parse(
//!     "input 4x8x8
//!      a: conv 4 3x3 pad 1
//!      b: conv 4 3x3 pad 1
//!      from a -> c: relu
//!      add( from b | from c | from input )",
//! )?;
//! assert_eq!(network.nodes().len(), 4);
//! # Ok::<(), convnet::Error>(())
//! ```
//!
//! # Patterns
//! The pattern `INPUT -> [[CONV -> RELU]*N -> POOL?]*M -> [FC -> RELU]*K -> FC` is a text once its letters are numbers and its
//! layers have theirs: `INPUT 3x32x32 -> [[CONV 64 3x3 pad 1 -> RELU]*2]*3 -> flatten -> [FC 128 -> RELU]*1 -> FC 10`.
//!
//! # Torch
//! A layer may be written as Torch7 did, width before height and with Torch's defaults: `nn.SpatialConvolution(3, 64, 5, 5, 1, 1,
//! 2, 2)`, `cudnn.ReLU(true)`. The numbers of planes are checked against what comes in. The lines around them are understood
//! too: `net = nn.Sequential()`, `net:add(…)`, `return net`, `require 'nn'` and comments with `--`, and the containers
//! `nn.Sequential`, `nn.Concat(2)`, and `nn.ConcatTable` followed by `nn.CAddTable` or `nn.JoinTable(2)`.
//!
//! ```
//! use convnet::network::Network;
//!
//! let network = Network::parse(
//!     "input 3x32x32
//!      net = nn.Sequential()
//!      net:add(nn.SpatialConvolution(3, 6, 5, 5)) -- 3 planes in, 6 out
//!      net:add(nn.ReLU())
//!      net:add(nn.View(6*28*28))
//!      net:add(nn.Linear(6*28*28, 10))",
//! )?;
//! assert_eq!(network.to_string(), "input 3x32x32\nconv 6 5x5\nrelu\nflatten\nfc 10");
//! # Ok::<(), convnet::Error>(())
//! ```
//!
//! # Mistakes
//! Each is an [`Error::Text`] that points at its line and column. A kernel that is larger than its image,
//! branches that do not match and layers that nobody reads are mistakes of the text as well.
//!
//! ```
//! use convnet::{Error, network::Network};
//!
//! let Err(Error::Text(error)) = Network::parse("input 3x32x32\nconw 64 3x3") else { panic!() };
//! assert_eq!(error.to_string(), "line 2, column 1: 'conw' is not a layer; did you mean 'conv'?");
//! ```

use std::str::FromStr;

use self::numbers::Number;
use super::Network;
use crate::error::{Error, Result};

mod build;
mod kinds;
mod lua;
mod nearest;
mod numbers;
mod program;
#[cfg(test)]
mod robustness;
mod syntax;
mod tokens;

pub(crate) use nearest::nearest;
pub(crate) use tokens::MAX_BYTES;

/// How deep brackets, branches and definitions may be nested.
pub(crate) const MAX_DEPTH: usize = 64;

/// What is said beside a text.
///
/// ```
/// use convnet::network::{Network, text::TextArguments};
///
/// let text = "let classes = 1000\ninput 3x224x224\nconv 8 3x3 pad 1\nflatten\nfc classes";
/// let arguments = TextArguments { input: Some([1, 28, 28]), classes: Some(10), ..TextArguments::default() };
/// let network = Network::parse_with(text, &arguments)?;
/// assert_eq!(network.input_shape().chw(), [1, 28, 28]);
/// assert_eq!(network.output_shape().c, 10);
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextArguments {
    /// Channels, height and width, in place of the text's `input`.
    pub input: Option<[usize; 3]>,
    /// The value of the text's constant `classes`.
    pub classes: Option<usize>,
    /// Whether sizes that do not fit, so that the last rows or columns are never seen, are mistakes.
    pub strict: bool,
}

impl Network {
    /// The network that a text says; see [the language](self).
    ///
    /// # Errors
    /// [`Error::Text`] with the place of the mistake.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, &TextArguments::default())
    }

    /// The network that a text says, with another input or number of classes than it says, or with sizes checked strictly.
    ///
    /// # Errors
    /// [`Error::Text`] with the place of the mistake, or [`Error::Argument`] when the text cannot take an argument.
    pub fn parse_with(text: &str, arguments: &TextArguments) -> Result<Self> {
        let too_many = |_| Error::Argument("the number of classes is too large to count".into());
        let classes = arguments.classes.map(|classes| i64::try_from(classes).map(Number::Whole)).transpose().map_err(too_many)?;
        let program = syntax::parse(text, classes)?;
        build::build(text, &program, arguments)
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TextError;
    use crate::layer::Layer;

    /// What the text parses to, as canonical text without its first line, lines joined by `;`.
    fn layers(text: &str) -> String {
        let network = Network::parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        network.to_string().lines().skip(1).collect::<Vec<_>>().join("; ")
    }

    fn mistake(text: &str) -> TextError {
        match Network::parse(text) {
            Err(Error::Text(error)) => error,
            other => panic!("{text}\ngives {other:?}"),
        }
    }

    /// Checks that a text is refused at the marked part, with a message that holds each of these.
    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let (begin, end) = (text.find('«').unwrap(), text.find('»').unwrap() - '«'.len_utf8());
        let error = mistake(&text.replace(['«', '»'], ""));
        assert_eq!((error.offset, error.offset + error.length), (begin, end), "{text}: {error}");
        for part in parts {
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn arrows_lines_brackets_and_comments_say_one_chain() {
        let chain = "conv 4 3x3; relu; conv 4 3x3; relu; flatten";
        for text in [
            "input 1x9x9\nconv 4 3x3\nrelu\nconv 4 3x3\nrelu\nflatten",
            "input 1x9x9 -> [conv 4 3x3 -> relu]*2 -> flatten",
            "# a comment\n\ninput 1x9x9 ->\n\n [ conv 4 3x3 # inside\n relu\n ] * 2\n-> flatten\n",
            "INPUT 1X9X9 -> [[CONV 4 3x3 -> RELU]*1]*2 -> [flatten] -> [FC 3]*0",
            "input 1x9x9\r\n[\r\n\tconv 4 3x3 -> relu\r\n]*2\r\nflatten",
            "\u{feff}input 1x9x9\nlet n = 2\n[conv 2*n 3 -> relu]*n -> flatten",
        ] {
            assert_eq!(layers(text), chain, "{text}");
        }
    }

    #[test]
    fn branches_take_the_same_value_and_are_joined() {
        let text = "input 4x9x9 -> add( conv 4 3x3 pad 1 -> relu | identity | add(relu|identity) ) -> relu";
        assert_eq!(layers(text), "add( conv 4 3x3 pad 1 -> relu | identity | add( relu | identity ) ); relu");
        let network = Network::parse(text).unwrap();
        let inputs: Vec<Vec<usize>> = network.nodes().iter().map(|node| node.inputs().iter().map(|id| id.index()).collect()).collect();
        assert_eq!(inputs, [vec![0], vec![1], vec![0], vec![3, 0], vec![2, 0, 4], vec![5]]);
        assert_eq!(layers("input 4x9x9\nADD(\n relu\n relu\n |\n identity\n)"), "add( relu -> relu | identity )");
    }

    #[test]
    fn definitions_are_filled_in_with_their_values() {
        let text = "input 1x32x32
            let two(k, f) = conv k fxf -> relu -> [
                conv k fx1
                relu
            ]*n
            let n = 2
            let block(k) = two(k, 3) -> add( two(k, 1) | identity )
            block(2*n)";
        let error = mistake(text);
        assert!(error.message.contains("'n' is not a number: 'n' has no value"), "{error}");
        let text = text.replace("            let n = 2\n", "").replace("input 1x32x32", "input 1x32x32\nlet n = 2");
        let two = |kernel: usize| format!("conv 4 {kernel}x{kernel}; relu; conv 4 {kernel}x1; relu; conv 4 {kernel}x1; relu");
        assert_eq!(layers(&text), format!("{}; add( {} | identity )", two(3), two(1).replace("; ", " -> ")));
        assert_eq!(layers("input 1x9x9\nlet last() = flatten -> fc 3\nrelu -> last()"), "relu; flatten; fc 3");
    }

    #[test]
    fn names_are_kept_and_from_goes_back_to_them() {
        let text = "input 4x9x9\nstem: conv 4 3x3 pad 1\nrelu\nadd( from stem | identity | from input )\nconv4: relu";
        assert_eq!(layers(text), "stem: conv 4 3x3 pad 1; relu; add( from stem | identity | from input ); conv4: relu");
        assert_eq!(layers("input 4x9x9\na: relu\nb: add( from a -> relu | identity )"), "a: relu; b: add( relu | identity )");
        // `let`, `from` and `identity` are names as well, before a colon.
        assert_eq!(layers("input 4x9x9\nlet: relu\nfrom: relu\nidentity: relu"), "let: relu; from: relu; identity: relu");
    }

    #[test]
    fn the_input_and_the_classes_can_be_said_from_outside() {
        let text = "let classes = 1000\nlet double = 2*classes\ninput 3x8x8\nflatten -> fc double -> fc classes";
        let arguments = TextArguments { input: Some([1, 4, 5]), classes: Some(7), strict: false };
        let network = Network::parse_with(text, &arguments).unwrap();
        assert_eq!(network.to_string(), "input 1x4x5\nflatten\nfc 14\nfc 7");
        let without = TextArguments { input: Some([1, 4, 4]), ..TextArguments::default() };
        assert_eq!(Network::parse_with("flatten", &without).unwrap().to_string(), "input 1x4x4\nflatten");
        assert_eq!(Network::parse_with("INPUT -> flatten", &without).unwrap().to_string(), "input 1x4x4\nflatten");
        let error = Network::parse_with("input 1x4x4\nflatten", &TextArguments { classes: Some(3), ..TextArguments::default() });
        assert!(error.unwrap_err().to_string().contains("let classes = 10"));
        let empty = TextArguments { input: Some([1, 0, 4]), ..TextArguments::default() };
        assert!(Network::parse_with("flatten", &empty).unwrap_err().to_string().contains("input 1x0x4"));
    }

    #[test]
    fn strict_sizes_make_what_is_never_seen_a_mistake() {
        let text = "input 3x10x10\nrelu\nconv 4 3x3 stride 2";
        assert_eq!(Network::parse(text).unwrap().warnings().len(), 1);
        let error = Network::parse_with(text, &TextArguments { strict: true, ..TextArguments::default() }).unwrap_err().to_string();
        assert!(error.starts_with("line 3, column 1: layer 'conv1' (conv 4 3x3 stride 2): the last row"), "{error}");
    }

    #[test]
    fn every_layer_of_the_table_can_stand_in_a_text() {
        for (layer, inputs) in Layer::examples() {
            if inputs.len() == 1 && !matches!(layer, Layer::Add(_)) {
                let text = format!("input {}\n{layer}", crate::shape::sizes_text(&inputs[0].chw()));
                let network = Network::parse(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
                assert_eq!(network.output_shape().chw(), crate::layer::LayerRules::output_shape(&layer, &inputs).unwrap().chw(), "{text}");
                assert_eq!(Network::parse(&text.to_uppercase()).unwrap().to_string(), network.to_string());
            }
        }
    }

    #[test]
    fn mistakes_in_the_wording_are_pointed_at() {
        refused("input 3x9x9\n«conw» 4 3x3", &["did you mean 'conv'?"]);
        refused("input 3x9x9\nrelu ->\n  «transformer» 4", &["'transformer' is not a layer; layers are a"]);
        refused("input 3x9x9\nconv 4 3x3 «stide» 2", &["'stide'"]);
        refused("input 3x9x9\nconv «k» 3x3", &["'k' is not the number of filters"]);
        refused("input 3x9x9\nconv «2*k» 3x3", &["'2*k' has no value: 'k' has no value", "let k"]);
        refused("input 3x9x9\nlet k = 6\nconv «k/4» 3x3", &["'1.5' is not the number of filters", "('k/4' is 1.5 here)"]);
        refused("input 3x9x9\nrelu «relu»", &["one word too many for 'relu'", "'->'"]);
        refused("input 3x9x9 -> CONV«» -> RELU", &["the number of filters is missing", "as in 'conv 64 3x3 pad 1'"]);
        refused("input 3x9x9 -> conv 4«»", &["the kernel is missing", "as in 'conv 64 3x3 pad 1'"]);
        refused("input 3x9x9 -> [relu]*«N»", &["'N' is not a number", "let N"]);
        refused("input 3x9x9 -> [relu]*«2.5»", &["2.5 is not how often"]);
        refused("input 3x9x9 -> [relu]*«-1»", &["-1 is not how often"]);
        refused("input 3x9x9 -> relu«?»", &["leave it out"]);
        refused("input 3x9x9\nrelu -> «->» relu", &["'->' cannot stand here; expected a layer"]);
        refused("input 3x9x9\nrelu ->«»", &["the text ends here"]);
        refused("«->» relu", &["expected a layer"]);
        refused("input 3x9x9\nrelu «)»", &["closes nothing"]);
        refused("input 3x9x9\nrelu «|» relu", &["only inside add"]);
        refused("input 3x9x9\n[relu -> relu«»", &["the text ends here", "']'"]);
        refused("input 3x9x9\nadd( relu | «)»", &["identity"]);
        refused("input 3x9x9\n«add»", &["'add' needs its branches"]);
        refused("input 3x9x9\n«relu»( identity | identity )", &["'relu' has one input"]);
        refused("input 3x9x9\nconv(«64», 3x3)", &["conv 64 3x3 pad 1", "without parentheses"]);
        refused("input 3x9x9\n«blok»(3)", &["'blok' is not a layer", "let blok(…)"]);
        refused("input 3x9x9\nlet block(k) = relu\n«blok»(3)", &["did you mean 'block'?"]);
        refused("input 3x9x9\nlet block(k) = relu\n«block» 3", &["use it with its values"]);
        refused("input 3x9x9\nlet block(k) = relu\n«block(3, 4)»", &["takes 1 values (k), not 2"]);
        refused("input 3x9x9\nlet block(k) = relu -> «block»(k)", &["cannot use itself"]);
        refused("input 3x9x9\nlet «stride» = 2", &["word of the language"]);
        refused("input 3x9x9\nlet k = «relu» -> relu", &["'relu' is not a number", "let k() = relu"]);
        refused("input 3x9x9\nlet k = 2 «->» relu", &["the end of the line"]);
        refused("input 3x9x9\nlet k = 2\nlet «k» = 3", &["has a meaning already"]);
        refused("input 3x9x9\nconv «k» 1\nlet k = 2", &["'k' is not the number of filters"]);
        refused("input 3x9x9\nlet b(k, «k») = relu", &["two parameters named 'k'"]);
    }

    #[test]
    fn mistakes_in_the_input_and_in_names_are_pointed_at() {
        refused("«»relu", &["must begin with the image's channels, height and width"]);
        refused("«input»\nrelu", &["as in 'input 3x32x32'"]);
        refused("«input 32x32»\nrelu", &["2 sizes, 3 are expected"]);
        refused("«input 3x0x32»\nrelu", &["empty axis"]);
        refused("«input 3x9999999999x99999999999»\nrelu", &["more numbers than memory"]);
        refused("input 3x8x8\nrelu\n«input» 3x8x8", &["once, before the layers"]);
        refused("input 3x8x8\n[«input» 3x8x8]*2", &["must begin a line"]);
        refused("input 3x8x8\na: relu\n«a»: relu", &["two layers named 'a'"]);
        refused("input 3x8x8\n[«a»: relu]*2", &["two layers named 'a'", "given again each time"]);
        refused("input 3x8x8\n«a»: [relu]*2", &["only a single layer can have a name"]);
        refused("input 3x8x8\na:«\n»relu", &["expected a layer behind 'a:'"]);
        refused("input 3x8x8\n«input»: relu", &["choose another name"]);
        refused("input 3x8x8\n«a+b»: relu", &["cannot be a layer's name"]);
        refused("input 3x8x8\nstem: relu\nfrom «stam»", &["did you mean 'stem'?"]);
        refused("input 3x8x8\nrelu\nfrom «relu1»", &["no layer above is named 'relu1'", "'relu1: conv 64 3x3'"]);
    }

    #[test]
    fn layers_that_do_not_fit_are_pointed_at_with_their_name() {
        refused("input 3x8x8\nrelu\n«conv 4 9x9»", &["layer 'conv1' (conv 4 9x9)", "a window of 9 is larger than the input of 8"]);
        refused("input 3x8x8\nrelu -> «add»( relu | flatten )", &["layer 'add1'", "3x8x8", "192x1x1"]);
        refused("input 3x8x8\na: «relu»\nfrom input -> relu", &["nobody reads the output of layer 'a'"]);
        refused("input 3x8x8«»", &["at least one layer"]);
        refused("input 3x8x8 -> identity«»", &["at least one layer"]);
    }

    #[test]
    fn absurd_texts_fail_fast_with_a_clear_message() {
        refused("input 3x8x8\n[[[«relu»]*1000]*1000]*1000", &["more than 10000 layers"]);
        refused("input 3x8x8\n[«[identity]*1000000000»]*1000000000", &["more than 10000 layers"]);
        let many = |repeated: &str| vec![repeated; 20_000].join("|");
        refused(&format!("input 3x8x8\n[«add»({})]*9999", many("identity")), &["more than 10000 layers"]);
        let calls = ":setNumInputDims(3)".repeat(20_000);
        assert!(mistake(&format!("input 3x8x8\n[nn.View(-1){calls}]*9999")).message.contains("more than 10000 layers"));
        let nested = |count: usize| format!("input 3x8x8\n{}relu{}", "[".repeat(count), "]".repeat(count));
        assert!(Network::parse(&nested(MAX_DEPTH)).is_ok());
        for count in [MAX_DEPTH + 1, 10_000] {
            assert!(mistake(&nested(count)).message.contains("nested more than 64 deep"));
        }
        for open in ["(", "add(", "nn.Sequential():add("] {
            mistake(&format!("input 3x8x8\n{}", open.repeat(10_000)));
        }
        // Each definition uses the one before twice, to the power of 63.
        let doubled = |first: &str| {
            let lines: String = (1..63).map(|i| format!("let d{i}() = d{}() -> d{}()\n", i - 1, i - 1)).collect();
            format!("let d0() = {first}\n{lines}input 3x8x8\nd62()")
        };
        for first in ["relu", "identity"] {
            assert!(mistake(&doubled(first)).message.contains("more than 10000 layers"));
        }
        let deep: String = (1..70).map(|i| format!("let d{i}() = d{}()\n", i - 1)).collect();
        assert!(mistake(&format!("let d0() = relu\n{deep}input 3x8x8\nd69()")).message.contains("64 deep"));
    }

    #[test]
    fn a_network_may_have_ten_thousand_layers() {
        let network = Network::parse("input 3x8x8\n[[relu]*100]*100").unwrap();
        assert_eq!(network.nodes().len(), crate::network::MAX_LAYERS);
    }
}
