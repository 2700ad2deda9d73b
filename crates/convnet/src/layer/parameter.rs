//! What a layer says of its parameters: name, sizes, role, and what they are before training.

/// What a parameter is for, which decides whether weight decay applies and whether it is trained at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Multiplies features; weight decay applies.
    Weight,
    /// Is added; no weight decay.
    Bias,
    /// The multiplier of a normalisation or of a channel; no weight decay.
    Scale,
    /// A running statistic: not trained, has no gradient.
    Buffer,
}

/// What a parameter is before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// Always this value.
    Constant(f32),
    /// Drawn by the initialisation that the run asks for: the weight of a convolution or fully connected layer.
    Weight {
        /// Numbers that are summed into one output.
        fan_in: usize,
        /// Outputs that one input number reaches.
        fan_out: usize,
    },
    /// Zero, but for Torch's legacy initialisation: the bias beside such a weight.
    Bias {
        /// Numbers that are summed into one output.
        fan_in: usize,
    },
}

/// One parameter of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// The last part of its name: `weight`, `bias`, `running_mean`, `running_var`.
    pub name: &'static str,
    /// Length of each axis, as in K×C×R×S.
    pub sizes: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// What it is before training.
    pub initial: Initial,
}

impl ParameterSpec {
    /// Number of values. Saturates instead of overflowing; a network whose counts saturate is refused when it is built.
    pub fn count(&self) -> usize {
        self.sizes.iter().fold(1usize, |product, &size| product.saturating_mul(size))
    }
}
