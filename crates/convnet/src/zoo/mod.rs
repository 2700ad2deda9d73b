//! Known networks, as texts of the [network language](crate::network::text).
//!
//! Each is one file beside this one, to be read, copied and changed. Input and number of classes are arguments; the numbers
//! of parameters are those of the published networks.
//!
//! ```
//! use convnet::network::text::TextArguments;
//! use convnet::zoo;
//!
//! let network = zoo::network("vgg16", &TextArguments::default())?;
//! assert_eq!(network.output_shape().c, 1000);
//!
//! let small = TextArguments { input: Some([1, 28, 28]), classes: Some(10), ..TextArguments::default() };
//! assert_eq!(zoo::network("resnet20-cifar", &small)?.output_shape().c, 10);
//! # Ok::<(), convnet::Error>(())
//! ```

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::network::Network;
use crate::network::text::{MAX_BYTES, TextArguments, nearest};

/// Makes the list of names and the list of texts from file names.
macro_rules! networks {
    ($($name:literal)*) => {
        /// The names of all networks, the default first.
        pub const NAMES: &[&str] = &[$($name),*];
        const TEXTS: &[&str] = &[$(include_str!(concat!($name, ".net"))),*];
    };
}

networks! {
    "default" "lenet5" "alexnet" "vgg11" "vgg13" "vgg16" "vgg19" "googlenet" "resnet18" "resnet34" "resnet50" "resnet101" "resnet152"
    "resnet20_cifar" "resnet18_cifar" "squeezenet1_1" "squeezenet1_1_same" "mobilenet_v1" "mobilenet_v2" "convnext_tiny" "all_convolutional"
    "convnetjs_cifar"
}

/// The network that is trained when none is named.
pub const DEFAULT: &str = "default";

/// The text of the network of this name; `-` may stand for `_`, and capitals do not matter.
pub fn text(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    NAMES.iter().position(|known| *known == name).map(|place| TEXTS[place])
}

/// The network of this name, with the input and the classes that are given or else its own.
///
/// # Errors
/// There is no such network; the message names the nearest. Or the network cannot take the arguments.
pub fn network(name: &str, arguments: &TextArguments) -> Result<Network> {
    match text(name) {
        Some(text) => Network::parse_with(text, arguments),
        None => Err(Error::Argument(format!("there is no network '{name}'{}; there are {}", meant(name), NAMES.join(", ")))),
    }
}

fn meant(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace('-', "_");
    nearest(&name, NAMES.iter().copied()).map_or(String::new(), |near| format!("; did you mean '{near}'?"))
}

impl Network {
    /// The network that an argument means: a name of the [zoo](crate::zoo), else the text in a file, else the text itself.
    /// What has an arrow, a line break or `input` in it can be a text. A file that is named like a network of the zoo is
    /// `./lenet5`.
    ///
    /// ```
    /// use convnet::network::{Network, text::TextArguments};
    ///
    /// let arguments = TextArguments::default();
    /// assert_eq!(Network::load("lenet5", &arguments)?.output_shape().c, 10);
    /// assert_eq!(Network::load("input 1x8x8 -> conv 4 3x3", &arguments)?.output_shape().chw(), [4, 6, 6]);
    /// let error = Network::load("lenet4", &arguments).unwrap_err().to_string();
    /// assert!(error.contains("did you mean 'lenet5'?"));
    /// # Ok::<(), convnet::Error>(())
    /// ```
    ///
    /// # Errors
    /// It is none of the three, the file cannot be read, or the text has a mistake.
    pub fn load(argument: &str, arguments: &TextArguments) -> Result<Self> {
        let path = Path::new(argument);
        if let Some(text) = text(argument) {
            return Self::parse_with(text, arguments);
        }
        if path.is_file() {
            return Self::parse_with(&read(path)?, arguments);
        }
        let is_text = argument.contains("->") || argument.contains('\n') || argument.to_ascii_lowercase().contains("input ");
        if is_text {
            return Self::parse_with(argument, arguments);
        }
        let file = if path.is_dir() { "it is a folder, not a text file" } else { "there is no file of that name" };
        Err(Error::Argument(format!(
            "'{argument}' is no network: the zoo has none of that name{} ({}); {file}; and it is no text such as \
             'input 3x32x32 -> conv 10 5x5 pad 2'",
            meant(argument),
            NAMES.join(", ")
        )))
    }
}

/// The text in a file of moderate size.
fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(Error::io(path, "cannot read the network's text"))?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::format(path, format!("it has more than {MAX_BYTES} bytes, the most that a network's text may have")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Error::format(path, format!("it is not a text: byte {place} is not UTF-8; a network's text is lines such as 'conv 64 3x3 pad 1'"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(argument: &str) -> Result<Network> {
        Network::load(argument, &TextArguments::default())
    }

    #[test]
    fn an_argument_is_a_name_a_file_or_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.net");
        std::fs::write(&path, "# small\ninput 1x4x4\nflatten\nfc 3\n").unwrap();
        let expected = "input 1x4x4\nflatten\nfc 3";
        assert_eq!(load(path.to_str().unwrap()).unwrap().to_string(), expected);
        assert_eq!(load("INPUT 1x4x4\nflatten\nfc 3").unwrap().to_string(), expected);
        assert_eq!(load("input 1x4x4 -> flatten -> fc 3").unwrap().to_string(), expected);
        assert!(load(folder.path().to_str().unwrap()).unwrap_err().to_string().contains("it is a folder"));
    }

    #[test]
    fn what_is_none_of_them_is_refused_with_all_three() {
        let error = load("resnet51").unwrap_err().to_string();
        for part in ["'resnet51' is no network", "did you mean 'resnet50'?", "vgg16", "no file of that name", "input 3x32x32"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn files_that_are_too_large_or_not_text_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.net");
        std::fs::write(&path, vec![b' '; MAX_BYTES + 1]).unwrap();
        assert!(load(path.to_str().unwrap()).unwrap_err().to_string().contains("more than 1048576 bytes"));
        std::fs::write(&path, b"input 1x4x4\n\xff\xfe").unwrap();
        assert!(load(path.to_str().unwrap()).unwrap_err().to_string().contains("byte 12 is not UTF-8"));
    }
}
