//! The layers: one file each, with its formula, size rule, parameters, cost, text form, forward, backward and tests.
//!
//! A layer holds its hyperparameters and nothing else. Parameters, gradients and what forward keeps for backward belong
//! to the plan and the trainer, so one network serves many plans and threads.
//!
//! # To add a layer
//! Write its file with an `impl` of [`LayerRules`] and [`LayerText`], and name it once in `layers!` below. The tests that
//! loop over [`Layer::examples`] then check its gradient, its text form and its sizes without another line. Layers from
//! outside this crate implement [`LayerRules`] alone and enter through [`Layer::custom`].

use std::fmt;
use std::sync::Arc;

use convnet_kernels::conv::ConvShape;
use convnet_kernels::window::Window;
use convnet_kernels::{Means, Real};

use crate::shape::Shape;

pub mod custom;
mod parameter;
mod pass;
pub mod single;
mod windowed;
mod words;

pub use parameter::{Initial, ParameterSpec, Role};
pub use pass::{Backward, Direction, Forward, Prepare};
pub use words::{Word, WordError, Words};

/// What a plan must set aside for one layer, in numbers of the plan's type unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Weights in the order in which the forward kernels read them; written by [`LayerRules::prepare`].
    pub prepared_forward: usize,
    /// The same for the backward kernels.
    pub prepared_backward: usize,
    /// Numbers kept from forward to backward (such as the statistics of a batch).
    pub saved: usize,
    /// `u32` indices kept from forward to backward (such as the place of each maximum).
    pub saved_indices: usize,
    /// Working memory during forward.
    pub forward_scratch: usize,
    /// Working memory during backward.
    pub backward_scratch: usize,
    /// Whether backward reads the inputs.
    pub keeps_inputs: bool,
    /// Whether backward reads the output.
    pub keeps_output: bool,
    /// Whether forward may overwrite its only input with its output, and backward the output's gradient with the input's.
    pub in_place: bool,
}

/// What a plan will ask of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use<'a> {
    /// What the plan's algorithms are chosen from.
    pub means: Means<'a>,
    /// Whether backward will follow forward.
    pub backward: bool,
    /// Whether the gradient of the first input will be asked for (not for a layer that reads the image).
    pub input_gradient: bool,
    /// As [`Prepare::flattened`].
    pub flattened: Option<Shape>,
    /// Whether a ReLU is joined to the layer, so that backward must find out where it cut off, such as from the output. Only for
    /// layers that take an epilogue.
    pub relu: bool,
}

/// Which part of its input one output position of a layer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The same position only.
    Pixel,
    /// A sliding window.
    Window(Window),
    /// The whole height and width.
    Whole,
}

/// The rules of a layer. Shapes are N×C×H×W; slices of features are channels last, N×H×W×C; slices of parameters are in
/// the logical order of their [`ParameterSpec`].
pub trait LayerRules {
    /// The first word or words of the text form, `conv`.
    fn kind(&self) -> &'static str;

    /// How many inputs the layer takes: `(least, most)`.
    fn arity(&self) -> (usize, usize) {
        (1, 1)
    }

    /// Shape of the output.
    ///
    /// # Errors
    /// Why these inputs cannot be taken, with what was found and what was needed, but without the layer's name.
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String>;

    /// What is noteworthy about sizes that are accepted all the same: rows and columns that no window covers, with the
    /// settings that would fit.
    fn warnings(&self, _inputs: &[Shape]) -> Vec<String> {
        Vec::new()
    }

    /// The parameters in a fixed order; buffers last.
    fn parameters(&self, _inputs: &[Shape]) -> Vec<ParameterSpec> {
        Vec::new()
    }

    /// The parameter count as arithmetic, `(5·5·3 + 1)·10`; `None` without parameters.
    fn formula(&self, _inputs: &[Shape]) -> Option<String> {
        None
    }

    /// Multiplications with additions of one forward pass over the whole batch. Only convolutions and fully connected
    /// layers count, as is the custom of the field.
    fn macs(&self, _inputs: &[Shape]) -> u64 {
        0
    }

    /// Which part of the input one output position sees.
    fn reach(&self) -> Reach {
        Reach::Pixel
    }

    /// Whether each output number depends only on the input number at the same place, and on nothing that differs between
    /// places: then the order in which the numbers lie does not matter.
    fn elementwise(&self) -> bool {
        false
    }

    /// Whether the layer honours [`Forward::residual`] and [`Forward::relu`] (and [`Backward::relu`]).
    fn takes_epilogue(&self) -> bool {
        false
    }

    /// What the plan must set aside.
    fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory;

    /// Writes the parameters in the order in which the kernels read them. Called after the parameters have changed.
    fn prepare<T: Real>(&self, _pass: Prepare<'_, T>) {}

    /// Writes the output, and what backward needs.
    fn forward<T: Real>(&self, pass: Forward<'_, T>);

    /// Writes the gradients of the inputs that are asked for; adds to the gradients of the parameters.
    fn backward<T: Real>(&self, pass: Backward<'_, T>);

    /// After a training step: folds the batch's statistics into the buffers (the parameters whose role is
    /// [`Role::Buffer`], in order).
    fn update_buffers<T: Real>(&self, _inputs: &[Shape], _saved: &[T], _buffers: &mut [&mut [T]]) {}
}

/// The text form of a layer, and inputs to try it on.
pub trait LayerText: Sized + fmt::Display {
    /// The word or words that begin it, separated by one space.
    const KIND: &'static str;

    /// Reads what follows the first words.
    ///
    /// # Errors
    /// The word that is wrong, and what would be right.
    fn read(words: &mut Words<'_>) -> Result<Self, WordError>;

    /// Layers of this kind with shapes of inputs that suit them, small enough for a gradient check. They cover every
    /// option.
    fn examples() -> Vec<(Self, Vec<Shape>)>;
}

/// Makes the enum [`Layer`], hands every rule on to the layer inside, and collects what the table knows.
macro_rules! layers {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// Any layer.
        #[derive(Clone, Debug)]
        #[allow(missing_docs)]
        pub enum Layer {
            $($name($module::$name),)*
            /// A layer from outside this crate.
            Custom(Arc<dyn custom::CustomLayer>),
        }

        $(impl From<$module::$name> for Layer {
            fn from(layer: $module::$name) -> Self {
                Self::$name(layer)
            }
        })*

        impl Layer {
            /// The first words of every layer's text form.
            pub const KINDS: &'static [&'static str] = &[$(<$module::$name as LayerText>::KIND),*];

            /// Reads the layer that these words say, its kind first.
            ///
            /// # Errors
            /// The word that is wrong, and what would be right.
            pub fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
                let mut kinds: Vec<&str> = Self::KINDS.to_vec();
                kinds.sort_by_key(|kind| std::cmp::Reverse(kind.split(' ').count()));
                let kind = kinds.into_iter().find(|kind| words.take_all(kind));
                match kind {
                    $(Some(<$module::$name as LayerText>::KIND) => <$module::$name as LayerText>::read(words).map(Self::from),)*
                    _ => Err(words.error_at_next(unknown_kind(words.peek().unwrap_or("")))),
                }
            }

            /// Layers of every kind with shapes of inputs that suit them: what tests loop over.
            pub fn examples() -> Vec<(Self, Vec<Shape>)> {
                let mut examples = Vec::new();
                $(examples.extend(<$module::$name as LayerText>::examples().into_iter().map(|(layer, inputs)| (Self::from(layer), inputs)));)*
                examples
            }
        }

        impl fmt::Display for Layer {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name(layer) => layer.fmt(formatter),)*
                    Self::Custom(layer) => write!(formatter, "custom {}", layer.kind()),
                }
            }
        }

        impl LayerRules for Layer {
            fn kind(&self) -> &'static str {
                match self { $(Self::$name(layer) => layer.kind(),)* Self::Custom(layer) => layer.kind() }
            }
            fn arity(&self) -> (usize, usize) {
                match self { $(Self::$name(layer) => layer.arity(),)* Self::Custom(layer) => layer.arity() }
            }
            fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
                let (least, most) = self.arity();
                if inputs.len() < least || inputs.len() > most {
                    return Err(format!("it takes {} input{}, not {}", arity_text(least, most), if most == 1 { "" } else { "s" }, inputs.len()));
                }
                match self { $(Self::$name(layer) => layer.output_shape(inputs),)* Self::Custom(layer) => layer.output_shape(inputs) }.and_then(Shape::check)
            }
            fn warnings(&self, inputs: &[Shape]) -> Vec<String> {
                match self { $(Self::$name(layer) => layer.warnings(inputs),)* Self::Custom(layer) => layer.warnings(inputs) }
            }
            fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
                match self { $(Self::$name(layer) => layer.parameters(inputs),)* Self::Custom(layer) => layer.parameters(inputs) }
            }
            fn formula(&self, inputs: &[Shape]) -> Option<String> {
                match self { $(Self::$name(layer) => layer.formula(inputs),)* Self::Custom(layer) => layer.formula(inputs) }
            }
            fn macs(&self, inputs: &[Shape]) -> u64 {
                match self { $(Self::$name(layer) => layer.macs(inputs),)* Self::Custom(layer) => layer.macs(inputs) }
            }
            fn reach(&self) -> Reach {
                match self { $(Self::$name(layer) => layer.reach(),)* Self::Custom(layer) => layer.reach() }
            }
            fn elementwise(&self) -> bool {
                match self { $(Self::$name(layer) => layer.elementwise(),)* Self::Custom(layer) => layer.elementwise() }
            }
            fn takes_epilogue(&self) -> bool {
                match self { $(Self::$name(layer) => layer.takes_epilogue(),)* Self::Custom(layer) => layer.takes_epilogue() }
            }
            fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory {
                match self { $(Self::$name(layer) => layer.memory::<T>(inputs, usage),)* Self::Custom(layer) => custom::memory::<T>(&**layer, inputs, usage) }
            }
            fn prepare<T: Real>(&self, pass: Prepare<'_, T>) {
                match self { $(Self::$name(layer) => layer.prepare(pass),)* Self::Custom(layer) => custom::prepare(&**layer, pass) }
            }
            fn forward<T: Real>(&self, pass: Forward<'_, T>) {
                match self { $(Self::$name(layer) => layer.forward(pass),)* Self::Custom(layer) => custom::forward(&**layer, pass) }
            }
            fn backward<T: Real>(&self, pass: Backward<'_, T>) {
                match self { $(Self::$name(layer) => layer.backward(pass),)* Self::Custom(layer) => custom::backward(&**layer, pass) }
            }
            fn update_buffers<T: Real>(&self, inputs: &[Shape], saved: &[T], buffers: &mut [&mut [T]]) {
                match self {
                    $(Self::$name(layer) => layer.update_buffers(inputs, saved, buffers),)*
                    Self::Custom(layer) => custom::update_buffers(&**layer, inputs, saved, buffers),
                }
            }
        }
    };
}

layers! {
    adaptive_avg_pool::AdaptiveAvgPool,
    adaptive_max_pool::AdaptiveMaxPool,
    add::Add,
    avg_pool2d::AvgPool2d,
    batch_norm2d::BatchNorm2d,
    concat::Concat,
    conv2d::Conv2d,
    dropout::Dropout,
    flatten::Flatten,
    gelu::Gelu,
    global_avg_pool::GlobalAvgPool,
    global_max_pool::GlobalMaxPool,
    layer_norm::LayerNorm,
    leaky_relu::LeakyRelu,
    linear::Linear,
    log_softmax::LogSoftmax,
    lp_pool2d::LpPool2d,
    max_pool2d::MaxPool2d,
    relu::Relu,
    scale::Scale,
    sigmoid::Sigmoid,
    silu::Silu,
    softmax::Softmax,
    spatial_dropout::SpatialDropout,
    tanh::Tanh,
}

impl Layer {
    /// The convolution that this layer is, of inputs that it has accepted; `flattened` is as in [`Prepare::flattened`].
    pub(crate) fn convolution(&self, inputs: &[Shape], flattened: Option<Shape>) -> Option<ConvShape> {
        match self {
            Self::Conv2d(layer) => Some(layer.accepted(inputs)),
            Self::Linear(layer) => Some(layer.accepted(inputs, flattened)),
            _ => None,
        }
    }

    /// A layer from outside this crate.
    pub fn custom(layer: impl LayerRules + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(layer))
    }
}

fn arity_text(least: usize, most: usize) -> String {
    match (least, most) {
        (least, most) if least == most => least.to_string(),
        (least, usize::MAX) => format!("at least {least}"),
        (least, most) => format!("{least} to {most}"),
    }
}

/// The sentence for a word that no layer begins with, with the nearest kinds that there are.
fn unknown_kind(word: &str) -> String {
    let mut kinds: Vec<&str> = Layer::KINDS.to_vec();
    kinds.sort_unstable();
    format!("'{word}' is not a layer; layers are {}", kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::single::{GRADIENT_TOLERANCE, gradient_errors};
    use super::*;

    #[test]
    fn every_layer_has_the_gradient_of_its_forward() {
        for (layer, inputs) in Layer::examples() {
            for training in [false, true] {
                let errors = gradient_errors(&layer, &inputs, training, 7).unwrap();
                assert!(!errors.is_empty(), "{layer}: nothing was checked");
                for error in errors {
                    assert!(error.error <= GRADIENT_TOLERANCE, "{layer} on {inputs:?}, training {training}: {error:?}");
                }
            }
        }
    }

    #[test]
    fn every_layer_prints_what_parses_back_to_it() {
        for (layer, inputs) in Layer::examples() {
            let text = layer.to_string();
            let list: Vec<Word> = text.split(' ').map(|word| Word { text: word.into(), offset: 0, length: 0 }).collect();
            let mut words = Words::new(&list, text.len());
            let back = Layer::read(&mut words).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert!(words.is_done(), "{text}: words left over");
            assert_eq!(back.to_string(), text);
            assert_eq!(back.output_shape(&inputs), layer.output_shape(&inputs));
            assert_eq!(back.parameters(&inputs), layer.parameters(&inputs));
        }
    }

    #[test]
    fn an_unknown_layer_is_named_with_those_there_are() {
        let list = [Word { text: "conw".into(), offset: 4, length: 4 }];
        let error = Layer::read(&mut Words::new(&list, 8)).unwrap_err();
        assert_eq!((error.offset, error.length), (4, 4));
        assert!(error.message.contains("'conw'") && error.message.contains("relu"), "{}", error.message);
    }

    #[test]
    fn a_wrong_number_of_inputs_is_refused() {
        let shape = Shape::new(1, 2, 3, 3);
        assert!(Layer::from(relu::Relu).output_shape(&[shape, shape]).unwrap_err().contains("1 input, not 2"));
        assert!(Layer::from(add::Add).output_shape(&[shape]).unwrap_err().contains("at least 2 inputs, not 1"));
    }
}
