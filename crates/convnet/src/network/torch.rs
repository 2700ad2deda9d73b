//! Torch7's modules in the words of the network language.
//!
//! Torch's arguments stand width before height; the language's stand height × width. Defaults are those of `torch/nn`: the
//! stride of max pooling is its kernel, that of average pooling 1; a convolution's padH is its padW.
//!
//! | module | layer |
//! |---|---|
//! | SpatialConvolution, SpatialConvolutionMM, SpatialDilatedConvolution, SpatialDepthWiseConvolution | conv |
//! | SpatialMaxPooling, SpatialDilatedMaxPooling | maxpool |
//! | SpatialAveragePooling, SpatialLPPooling | avgpool, lppool |
//! | SpatialAdaptiveMaxPooling, SpatialAdaptiveAveragePooling | adaptive maxpool, adaptive avgpool |
//! | SpatialBatchNormalization, BatchNormalization | bn |
//! | Linear | fc |
//! | View, Reshape | flatten |
//! | Dropout, SpatialDropout | dropout, spatial dropout |
//! | ReLU, LeakyReLU, Sigmoid, Tanh, Threshold(0, 0) | relu, leaky relu, sigmoid, tanh, relu |
//! | SoftMax, SpatialSoftMax, LogSoftMax, SpatialLogSoftMax | softmax, log softmax |

use std::fmt;

use crate::shape::Shape;

/// A value in Lua.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Whole(i64),
    Decimal(f64),
    Boolean(bool),
    Nil,
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(formatter),
            Self::Decimal(value) => value.fmt(formatter),
            Self::Boolean(value) => value.fmt(formatter),
            Self::Nil => formatter.write_str("nil"),
        }
    }
}

/// A module, or what is called on it: a name and values.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub name: String,
    pub arguments: Vec<Value>,
}

/// The modules that [`layer`] knows, for messages.
const KNOWN: &str = "SpatialConvolution, SpatialConvolutionMM, SpatialDilatedConvolution, SpatialDepthWiseConvolution, SpatialMaxPooling, \
                     SpatialDilatedMaxPooling, SpatialAveragePooling, SpatialLPPooling, SpatialAdaptiveMaxPooling, \
                     SpatialAdaptiveAveragePooling, SpatialBatchNormalization, BatchNormalization, Linear, View, Reshape, Dropout, \
                     SpatialDropout, ReLU, LeakyReLU, Sigmoid, Tanh, Threshold, SoftMax, SpatialSoftMax, LogSoftMax, SpatialLogSoftMax, \
                     Identity, Sequential, Concat, ConcatTable, CAddTable and JoinTable";

/// The layer that a module is, as text; `None` when it changes nothing. `input` is what comes in.
///
/// # Errors
/// The module is unknown, or its values are wrong; without its name.
pub(super) fn layer(module: &Call, methods: &[Call], input: Shape) -> Result<Option<String>, String> {
    let mut call = Reader { module, methods: methods.to_vec(), names: &[] };
    let text = match module.name.as_str() {
        "SpatialConvolution" | "SpatialConvolutionMM" => call.convolution(input)?,
        "SpatialDilatedConvolution" => call.dilated_convolution(input)?,
        "SpatialDepthWiseConvolution" => call.depthwise_convolution(input)?,
        "SpatialMaxPooling" | "SpatialDilatedMaxPooling" => call.max_pooling()?,
        "SpatialAveragePooling" => call.average_pooling()?,
        "SpatialLPPooling" => call.lp_pooling(input)?,
        "SpatialAdaptiveMaxPooling" => call.adaptive_pooling("adaptive maxpool")?,
        "SpatialAdaptiveAveragePooling" => call.adaptive_pooling("adaptive avgpool")?,
        "SpatialBatchNormalization" | "BatchNormalization" => call.batch_normalization(input)?,
        "Linear" => call.linear(input)?,
        "View" | "Reshape" => return call.view(input),
        "Dropout" => call.dropout("dropout")?,
        "SpatialDropout" => call.dropout("spatial dropout")?,
        "ReLU" => call.pointwise("relu")?,
        "Sigmoid" => call.pointwise("sigmoid")?,
        "Tanh" => call.pointwise("tanh")?,
        "SoftMax" | "SpatialSoftMax" => call.pointwise("softmax")?,
        "LogSoftMax" | "SpatialLogSoftMax" => call.pointwise("log softmax")?,
        "LeakyReLU" => call.leaky_relu()?,
        "Threshold" => call.threshold()?,
        name if name.ends_with("Criterion") => {
            return Err("a criterion is the training's loss, not a layer; leave it out".into());
        }
        _ => return Err(format!("there is no such layer here; those that are understood are {KNOWN}")),
    };
    call.finish(text).map(Some)
}

/// Reads the values of one module in turn.
struct Reader<'a> {
    module: &'a Call,
    /// What is called on the module and has not been understood yet.
    methods: Vec<Call>,
    /// Names of the values, in order.
    names: &'static [&'static str],
}

impl Reader<'_> {
    /// Says what the values are called, and how many there are.
    fn names(&mut self, names: &'static [&'static str]) -> Result<(), String> {
        self.names = names;
        let found = self.module.arguments.len();
        if found > names.len() {
            return Err(format!("it takes at most {} values ({}), not {found}", names.len(), names.join(", ")));
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<Value> {
        let place = self.names.iter().position(|known| *known == name)?;
        self.module.arguments.get(place).copied().filter(|value| *value != Value::Nil)
    }

    fn whole(&self, name: &str) -> Result<Option<usize>, String> {
        let wrong = |value: Value| format!("{name} is {value}; expected a whole number that is not negative");
        let whole = |value: Value| match value {
            Value::Whole(number) => usize::try_from(number).map_err(|_| wrong(value)),
            _ => Err(wrong(value)),
        };
        self.value(name).map(whole).transpose()
    }

    fn required(&self, name: &str) -> Result<usize, String> {
        self.whole(name)?.ok_or_else(|| format!("{name} is missing; the values are ({})", self.names.join(", ")))
    }

    fn whole_or(&self, name: &str, default: usize) -> Result<usize, String> {
        Ok(self.whole(name)?.unwrap_or(default))
    }

    fn decimal(&self, name: &str) -> Result<Option<f64>, String> {
        let decimal = |value: Value| match value {
            Value::Whole(number) => Ok(number as f64),
            Value::Decimal(number) => Ok(number),
            value => Err(format!("{name} is {value}; expected a number")),
        };
        self.value(name).map(decimal).transpose()
    }

    fn boolean(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.value(name) {
            None => Ok(default),
            Some(Value::Boolean(value)) => Ok(value),
            Some(value) => Err(format!("{name} is {value}; expected true or false")),
        }
    }

    /// Whether this is called on the module; the last of several that contradict each other counts, as in Torch.
    fn called(&mut self, name: &str, opposite: &str) -> bool {
        let (matching, others) =
            self.methods.drain(..).partition(|call| [name, opposite].contains(&call.name.as_str()) && call.arguments.is_empty());
        self.methods = others;
        let matching: Vec<Call> = matching;
        matching.last().is_some_and(|call| call.name == name)
    }

    /// The layer, if nothing else is called on it.
    fn finish(self, text: String) -> Result<String, String> {
        match self.methods.first() {
            None => Ok(text),
            Some(call) => {
                Err(format!("':{}(…)' is not understood for this module; leave it out or write the layer as '{text}'", call.name))
            }
        }
    }

    fn convolution(&mut self, input: Shape) -> Result<String, String> {
        self.names(&["nInputPlane", "nOutputPlane", "kW", "kH", "dW", "dH", "padW", "padH", "groups"])?;
        let groups = self.whole_or("groups", 1)?;
        let filters = self.required("nOutputPlane")?;
        self.convolution_text(input, filters, groups)
    }

    fn dilated_convolution(&mut self, input: Shape) -> Result<String, String> {
        self.names(&["nInputPlane", "nOutputPlane", "kW", "kH", "dW", "dH", "padW", "padH", "dilationW", "dilationH"])?;
        let filters = self.required("nOutputPlane")?;
        self.convolution_text(input, filters, 1)
    }

    fn depthwise_convolution(&mut self, input: Shape) -> Result<String, String> {
        self.names(&["nInputPlane", "depthwiseMultiplier", "kW", "kH", "dW", "dH", "padW", "padH"])?;
        let planes = self.required("nInputPlane")?;
        let filters = planes.checked_mul(self.required("depthwiseMultiplier")?).ok_or("the number of output planes is too large")?;
        self.convolution_text(input, filters, planes)
    }

    fn convolution_text(&mut self, input: Shape, filters: usize, groups: usize) -> Result<String, String> {
        self.check_planes("nInputPlane", input)?;
        let (width, height) = (self.required("kW")?, self.required("kH")?);
        let (stride_w, stride_h) = (self.whole_or("dW", 1)?, self.whole_or("dH", 1)?);
        let pad_w = self.whole_or("padW", 0)?;
        let pad_h = self.whole_or("padH", pad_w)?;
        let (dilation_w, dilation_h) = (self.whole_or("dilationW", 1)?, self.whole_or("dilationH", 1)?);
        let bias = if self.called("noBias", "noBias") { " no bias" } else { "" };
        let window = format!("{height}x{width} stride {stride_h}x{stride_w} pad {pad_h}x{pad_w} dilation {dilation_h}x{dilation_w}");
        Ok(format!("conv {filters} {window} groups {groups}{bias}"))
    }

    /// Checks the number of input planes that the module says against what comes in.
    fn check_planes(&self, name: &str, input: Shape) -> Result<(), String> {
        let said = self.required(name)?;
        if said == input.c {
            return Ok(());
        }
        let Shape { c, h, w, .. } = input;
        Err(format!("{name} is {said}, but {c}x{h}x{w} comes in; write {c} in place of {said}, or change the layers above"))
    }

    /// Kernel, stride and padding of a pooling layer behind its first words, height × width.
    fn window(&mut self, default_stride: Option<usize>) -> Result<String, String> {
        let (width, height) = (self.required("kW")?, self.required("kH")?);
        let stride_w = self.whole_or("dW", default_stride.unwrap_or(width))?;
        let stride_h = self.whole_or("dH", default_stride.unwrap_or(height))?;
        let (pad_w, pad_h) = (self.whole_or("padW", 0)?, self.whole_or("padH", 0)?);
        let padding = if (pad_w, pad_h) == (0, 0) { String::new() } else { format!(" pad {pad_h}x{pad_w}") };
        Ok(format!("{height}x{width} stride {stride_h}x{stride_w}{padding}"))
    }

    fn max_pooling(&mut self) -> Result<String, String> {
        let dilated = self.module.name.contains("Dilated");
        let names: &[&str] = &["kW", "kH", "dW", "dH", "padW", "padH", "dilationW", "dilationH"];
        self.names(if dilated { names } else { &names[..6] })?;
        let window = self.window(None)?;
        let (dilation_w, dilation_h) = (self.whole_or("dilationW", 1)?, self.whole_or("dilationH", 1)?);
        let dilation = if (dilation_w, dilation_h) == (1, 1) { String::new() } else { format!(" dilation {dilation_h}x{dilation_w}") };
        let ceil = if self.called("ceil", "floor") { " ceil" } else { "" };
        Ok(format!("maxpool {window}{dilation}{ceil}"))
    }

    fn average_pooling(&mut self) -> Result<String, String> {
        self.names(&["kW", "kH", "dW", "dH", "padW", "padH"])?;
        let window = self.window(Some(1))?;
        let ceil = if self.called("ceil", "floor") { " ceil" } else { "" };
        let exclude = if self.called("setCountExcludePad", "setCountIncludePad") { " exclude pad" } else { "" };
        Ok(format!("avgpool {window}{ceil}{exclude}"))
    }

    fn lp_pooling(&mut self, input: Shape) -> Result<String, String> {
        self.names(&["nInputPlane", "pnorm", "kW", "kH", "dW", "dH"])?;
        self.check_planes("nInputPlane", input)?;
        let power = self.decimal("pnorm")?.ok_or("pnorm is missing; it is the power, as 2")?;
        Ok(format!("lppool {power} {}", self.window(None)?))
    }

    fn adaptive_pooling(&mut self, kind: &str) -> Result<String, String> {
        self.names(&["W", "H"])?;
        Ok(format!("{kind} {}x{}", self.required("H")?, self.required("W")?))
    }

    fn batch_normalization(&mut self, input: Shape) -> Result<String, String> {
        self.names(&["nOutput", "eps", "momentum", "affine"])?;
        self.check_planes("nOutput", input)?;
        let eps = self.decimal("eps")?.map_or(String::new(), |eps| format!(" eps {eps}"));
        let momentum = self.decimal("momentum")?.map_or(String::new(), |momentum| format!(" momentum {momentum}"));
        let affine = if self.boolean("affine", true)? { "" } else { " no affine" };
        Ok(format!("bn{eps}{momentum}{affine}"))
    }

    fn linear(&mut self, input: Shape) -> Result<String, String> {
        self.names(&["inputSize", "outputSize", "bias"])?;
        let said = self.required("inputSize")?;
        let Shape { c, h, w, .. } = input;
        if said != input.image() {
            let count = input.image();
            return Err(format!(
                "inputSize is {said}, but {c}x{h}x{w} comes in, {count} numbers; write {count}, or change the layers above"
            ));
        }
        if (h, w) != (1, 1) {
            return Err(format!("{c}x{h}x{w} comes in, which is not flat; put nn.View({said}) before it"));
        }
        let mut bias = self.boolean("bias", true)?;
        bias &= !self.called("noBias", "noBias");
        Ok(format!("fc {}{}", self.required("outputSize")?, if bias { "" } else { " no bias" }))
    }

    /// A view that makes each image one vector, or that leaves it as it is.
    fn view(&mut self, input: Shape) -> Result<Option<String>, String> {
        self.methods.retain(|call| call.name != "setNumInputDims");
        let mut sizes = Vec::new();
        for value in &self.module.arguments {
            match value {
                Value::Whole(size) if *size >= -1 => sizes.push(*size),
                // The last value of nn.Reshape says whether there is a batch.
                Value::Boolean(_) if self.module.name == "Reshape" => {}
                value => return Err(format!("{value} is not a size; expected a whole number or -1")),
            }
        }
        let Shape { c, h, w, .. } = input;
        let (count, [channels, height, width]) = (input.image() as i64, [c as i64, h as i64, w as i64]);
        let flat = sizes == [-1] || sizes == [count] || sizes == [-1, count];
        if !flat && [channels, height, width][..] != sizes[..] {
            let found = sizes.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "({found}) is not flat, and {c}x{h}x{w} comes in, {count} numbers; only flattening can be done: write {count}"
            ));
        }
        let Reader { methods, .. } = self;
        let text = if flat && (h, w) != (1, 1) { Some("flatten".to_owned()) } else { None };
        match methods.first() {
            None => Ok(text),
            Some(call) => Err(format!("':{}(…)' is not understood for this module; leave it out", call.name)),
        }
    }

    fn dropout(&mut self, kind: &str) -> Result<String, String> {
        self.names(&["p", "v1", "inplace", "stochasticInference"])?;
        if self.boolean("v1", false)? || self.boolean("stochasticInference", false)? {
            return Err("v1 and stochasticInference cannot be done; leave them out".into());
        }
        self.boolean("inplace", false)?;
        Ok(format!("{kind} {}", self.decimal("p")?.unwrap_or(0.5)))
    }

    fn pointwise(&mut self, kind: &str) -> Result<String, String> {
        self.names(&["inplace"])?;
        self.boolean("inplace", false)?;
        Ok(kind.to_owned())
    }

    fn leaky_relu(&mut self) -> Result<String, String> {
        self.names(&["negval", "inplace"])?;
        self.boolean("inplace", false)?;
        Ok(format!("leaky relu {}", self.decimal("negval")?.unwrap_or(0.01)))
    }

    fn threshold(&mut self) -> Result<String, String> {
        self.names(&["th", "v", "inplace"])?;
        self.boolean("inplace", false)?;
        match (self.decimal("th")?, self.decimal("v")?) {
            (Some(0.0), None | Some(0.0)) => Ok("relu".into()),
            (threshold, value) => {
                let (threshold, value) = (threshold.unwrap_or(1e-6), value.unwrap_or(0.0));
                Err(format!("a threshold of {threshold} with the value {value} cannot be done, only (0, 0), which is nn.ReLU()"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    fn call(name: &str, arguments: &[f64]) -> Call {
        let value = |&number: &f64| if number.fract() == 0.0 { Value::Whole(number as i64) } else { Value::Decimal(number) };
        Call { name: name.into(), arguments: arguments.iter().map(value).collect() }
    }

    fn said(name: &str, arguments: &[f64], methods: &[&str], input: Shape) -> String {
        let methods: Vec<Call> = methods.iter().map(|name| call(name, &[])).collect();
        layer(&call(name, arguments), &methods, input).unwrap_or_else(|error| panic!("{name}: {error}")).unwrap_or_default()
    }

    fn refused(name: &str, arguments: &[f64], methods: &[&str], parts: &[&str]) {
        let methods: Vec<Call> = methods.iter().map(|name| call(name, &[])).collect();
        let error = layer(&call(name, arguments), &methods, Shape::new(1, 3, 8, 8)).expect_err(name);
        for part in parts {
            assert!(error.contains(part), "{name}: {error}");
        }
    }

    #[test]
    fn windows_turn_from_width_first_to_height_first_with_torchs_defaults() {
        let image = Shape::new(1, 3, 40, 50);
        for (name, arguments, methods, text) in [
            ("SpatialConvolution", &[3., 64., 5., 7.][..], &[][..], "conv 64 7x5 stride 1x1 pad 0x0 dilation 1x1 groups 1"),
            // padH is padW unless said.
            (
                "SpatialConvolution",
                &[3., 8., 5., 7., 2., 3., 1.],
                &["noBias"],
                "conv 8 7x5 stride 3x2 pad 1x1 dilation 1x1 groups 1 no bias",
            ),
            ("SpatialConvolutionMM", &[3., 8., 5., 7., 2., 3., 1., 0.], &[], "conv 8 7x5 stride 3x2 pad 0x1 dilation 1x1 groups 1"),
            (
                "SpatialDilatedConvolution",
                &[3., 8., 3., 3., 1., 1., 2., 2., 2., 3.],
                &[],
                "conv 8 3x3 stride 1x1 pad 2x2 dilation 3x2 groups 1",
            ),
            ("SpatialDepthWiseConvolution", &[3., 2., 3., 3.], &[], "conv 6 3x3 stride 1x1 pad 0x0 dilation 1x1 groups 3"),
            // The stride of max pooling is its kernel; padH of pooling is 0, whatever padW is.
            ("SpatialMaxPooling", &[2., 3.], &[], "maxpool 3x2 stride 3x2"),
            ("SpatialMaxPooling", &[3., 3., 2., 2., 1.], &["ceil"], "maxpool 3x3 stride 2x2 pad 0x1 ceil"),
            ("SpatialMaxPooling", &[3., 3.], &["ceil", "floor"], "maxpool 3x3 stride 3x3"),
            ("SpatialDilatedMaxPooling", &[3., 3., 1., 1., 0., 0., 2., 1.], &[], "maxpool 3x3 stride 1x1 dilation 1x2"),
            // The stride of average pooling is 1.
            ("SpatialAveragePooling", &[2., 3.], &[], "avgpool 3x2 stride 1x1"),
            ("SpatialAveragePooling", &[2., 2., 2., 2., 1., 1.], &["setCountExcludePad"], "avgpool 2x2 stride 2x2 pad 1x1 exclude pad"),
            ("SpatialAveragePooling", &[2., 2.], &["setCountExcludePad", "setCountIncludePad"], "avgpool 2x2 stride 1x1"),
            ("SpatialLPPooling", &[3., 2., 4., 5.], &[], "lppool 2 5x4 stride 5x4"),
            ("SpatialAdaptiveMaxPooling", &[4., 3.], &[], "adaptive maxpool 3x4"),
            ("SpatialAdaptiveAveragePooling", &[4., 3.], &[], "adaptive avgpool 3x4"),
        ] {
            assert_eq!(said(name, arguments, methods, image), text, "{name}");
        }
    }

    #[test]
    fn the_other_modules_keep_their_values() {
        let (image, flat) = (Shape::new(1, 3, 4, 5), Shape::new(1, 60, 1, 1));
        assert_eq!(said("SpatialBatchNormalization", &[3., 0.001, 0.3], &[], image), "bn eps 0.001 momentum 0.3");
        assert_eq!(said("Linear", &[60., 10.], &[], flat), "fc 10");
        assert_eq!(said("Linear", &[60., 10.], &["noBias"], flat), "fc 10 no bias");
        assert_eq!(said("View", &[-1.], &[], image), "flatten");
        assert_eq!(said("View", &[-1., 60.], &[], image), "flatten");
        assert_eq!(said("Reshape", &[60.], &[], image), "flatten");
        assert_eq!(said("View", &[60.], &[], flat), "");
        assert_eq!(said("View", &[3., 4., 5.], &[], image), "");
        assert_eq!(said("Dropout", &[], &[], image), "dropout 0.5");
        assert_eq!(said("SpatialDropout", &[0.25], &[], image), "spatial dropout 0.25");
        assert_eq!(said("LeakyReLU", &[], &[], image), "leaky relu 0.01");
        assert_eq!(said("LogSoftMax", &[], &[], flat), "log softmax");
        assert_eq!(said("Threshold", &[0., 0.], &[], image), "relu");
        let affine =
            Call { name: "BatchNormalization".into(), arguments: vec![Value::Whole(60), Value::Nil, Value::Nil, Value::Boolean(false)] };
        assert_eq!(layer(&affine, &[], flat), Ok(Some("bn no affine".into())));
        let dims = Call { name: "setNumInputDims".into(), arguments: vec![Value::Whole(3)] };
        assert_eq!(layer(&call("View", &[-1.]), &[dims], image), Ok(Some("flatten".into())));
        let batch = Call { name: "Reshape".into(), arguments: vec![Value::Whole(60), Value::Boolean(true)] };
        assert_eq!(layer(&batch, &[], image), Ok(Some("flatten".into())));
    }

    #[test]
    fn what_does_not_fit_or_is_not_known_is_refused_with_the_numbers() {
        refused("SpatialConvolution", &[4., 64., 5., 5.], &[], &["nInputPlane is 4, but 3x8x8 comes in"]);
        refused("SpatialConvolution", &[3., 64., 5.], &[], &["kH is missing", "kW, kH, dW"]);
        refused("SpatialConvolution", &[3., 64., 5., -5.], &[], &["kH is -5"]);
        refused("SpatialConvolution", &[3., 6.5, 5., 5.], &[], &["nOutputPlane is 6.5"]);
        refused("SpatialConvolution", &[3., 64., 5., 5., 1., 1., 2., 2., 1., 1.], &[], &["at most 9 values", "not 10"]);
        refused("SpatialMaxPooling", &[2., 2.], &["noBias"], &["':noBias(…)' is not understood", "'maxpool 2x2 stride 2x2'"]);
        refused("Linear", &[100., 10.], &[], &["inputSize is 100", "192 numbers"]);
        refused("Linear", &[192., 10.], &[], &["not flat", "nn.View(192)"]);
        refused("View", &[100.], &[], &["(100) is not flat", "3x8x8 comes in, 192 numbers"]);
        refused("View", &[-1., -1.], &[], &["(-1, -1) is not flat"]);
        refused("Threshold", &[], &[], &["0.000001", "nn.ReLU()"]);
        refused("SpatialConvolutionLocal", &[3., 8., 8., 8., 3., 3.], &[], &["no such layer here", "SpatialConvolution,"]);
        refused("ClassNLLCriterion", &[], &[], &["criterion"]);
    }

    fn canonical(text: &str) -> String {
        let network = Network::parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        network.to_string().lines().skip(1).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn lua_lines_say_one_network() {
        let text = "
            require 'nn'
            -- a network of two layers
            input 3x8x8
            local net = nn.Sequential()
            net:add(cudnn.SpatialConvolution(3, 4, 3, 3, 1, 1, 1):noBias()) -- pads both ways
            net:add(nn.ReLU(true)):add(nn.Identity())
            net:add(nn.View(4 * 8*8):setNumInputDims(3))
            net:add(nn.Linear(4*8*8, classes))
            return net";
        let layers = "conv 4 3x3 pad 1 no bias; relu; flatten; fc 10";
        assert_eq!(canonical(&format!("let classes = 10{text}")), layers);
        let chained = "input 3x8x8
            net = nn.Sequential()
              :add(nn.SpatialConvolution(3,4,3,3,1,1,1,1):noBias())
              :add(nn.ReLU())
            flatten -> nn.Linear(256, 10)";
        assert_eq!(canonical(chained), layers);
        assert_eq!(canonical("input 3x8x8 -> first: nn.ReLU() -> [nn.ReLU()]*2"), "first: relu; relu; relu");
    }

    #[test]
    fn containers_with_branches_become_add_and_concat() {
        let branch = "nn.Sequential():add(nn.SpatialConvolution(3, 3, 3, 3, 1, 1, 1, 1)):add(nn.ReLU())";
        let added = "add( conv 3 3x3 pad 1 -> relu | identity ); relu";
        for text in [
            format!("nn.ConcatTable():add({branch}):add(nn.Identity()) -> nn.CAddTable(true) -> nn.ReLU()"),
            format!("net:add(nn.ConcatTable()\n  :add({branch})\n  :add(nn.Identity()))\nnet:add(nn.CAddTable())\nnet:add(nn.ReLU())"),
            format!("nn.Sequential():add(nn.ConcatTable():add({branch}):add(nn.Identity())):add(nn.CAddTable()):add(nn.ReLU())"),
        ] {
            assert_eq!(canonical(&format!("input 3x8x8\n{text}")), added, "{text}");
        }
    }

    #[test]
    fn lua_that_is_not_understood_is_pointed_at() {
        for (text, column, part) in [
            ("nn.ConcatTable():add(nn.ReLU()):add(nn.Identity())", 1, "nn.CAddTable()"),
            ("nn.CAddTable()", 1, "nothing to join"),
            ("nn.Concat(3):add(nn.ReLU())", 1, "axis 2; found 3"),
            ("nn.Sequential():remove(1)", 17, "'add', the only call"),
            ("nn.ReLU", 8, "'('"),
            ("nn.View(16 5)", 12, "','"),
            ("local conv = nn.SpatialConvolution(3, 4, 3, 3)", 7, "can only be nn.Sequential()"),
            ("net:add(nn.ReLU()) -> other:add(nn.ReLU())", 23, "'other' and the lines above are about 'net'"),
            ("net:add(nn.ReLU() | identity)", 19, "with a space"),
            ("nn.SpatialConvolution(4, 4, 3, 3)", 1, "nn.SpatialConvolution: nInputPlane is 4, but 3x8x8 comes in"),
            ("nn.SpatialMaxUnpooling(2)", 1, "no such layer here"),
        ] {
            let error = Network::parse(&format!("input 3x8x8\n{text}")).unwrap_err();
            let crate::Error::Text(error) = error else { panic!("{text}: {error}") };
            assert_eq!((error.line, error.column), (2, column), "{text}: {error}");
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }
}
