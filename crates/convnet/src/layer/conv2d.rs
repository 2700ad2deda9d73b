//! Convolution: every output number is the weighted sum of a window of the input, through all channels, plus a bias.
//!
//! ```text
//! y[n, k, oy, ox] = bias[k] + Σ over c, r, s of  x[n, c, oy·S − P + r·D, ox·S − P + s·D] · weight[k, c, r, s]
//! ```
//!
//! | | |
//! |---|---|
//! | input | N×C×H×W |
//! | weight | K×(C/G)×R×S |
//! | bias | K |
//! | output | N×K×H'×W', H' = ⌊(H + 2P − (D·(R − 1) + 1)) / S⌋ + 1, and W' likewise |
//! | gradients | dx: dy correlated with the kernel turned around; dweight: dy correlated with x; dbias: the sum of dy over N, H', W' |
//!
//! As in every library of the field this is cross-correlation: the kernel is not flipped. The padding is per side and
//! filled with zeros; it is 0 unless said, as in Torch. With G groups, filter k sees only the C/G channels of its group.

use std::fmt;

use convnet_kernels::Real;
use convnet_kernels::columns::{add_column_sums, column_sums_scratch};
use convnet_kernels::conv::{ConvShape, Epilogue, Pass, choose};
use convnet_kernels::window::Window;

use super::windowed::{Options, Remedies, misfits, positive_pair, set_padding, write_options};
use super::{Backward, Direction, Forward, Initial, LayerRules, LayerText, Memory, ParameterSpec, Prepare, Reach, Role, Use, WordError, Words};
use crate::shape::Shape;

/// K filters that slide over the image.
///
/// ```
/// use convnet::layer::{LayerRules, conv2d::Conv2d};
/// use convnet::shape::Shape;
/// let conv = Conv2d::new(10, [5, 5]).pad([2, 2]);
/// let image = [Shape::new(1, 3, 32, 32)];
/// assert_eq!(conv.output_shape(&image), Ok(Shape::new(1, 10, 32, 32)));
/// assert_eq!(conv.formula(&image).as_deref(), Some("(5·5·3 + 1)·10"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2d {
    /// Number of filters, K: the channels of the output.
    pub filters: usize,
    /// Kernel, stride, padding and dilation of both axes.
    pub window: Window,
    /// Number of groups, G.
    pub groups: usize,
    /// Whether a number is added to each output channel.
    pub bias: bool,
}

impl Conv2d {
    /// Filters of this height and width: stride 1, no padding, dilation 1, one group, with a bias.
    pub const fn new(filters: usize, [height, width]: [usize; 2]) -> Self {
        Self { filters, window: Window::new(height, width), groups: 1, bias: true }
    }

    /// The same with another stride, height × width.
    #[must_use]
    pub const fn stride(mut self, [height, width]: [usize; 2]) -> Self {
        self.window.h = self.window.h.stride(height);
        self.window.w = self.window.w.stride(width);
        self
    }

    /// The same with this padding on each side of the height and of the width.
    #[must_use]
    pub const fn pad(self, [height, width]: [usize; 2]) -> Self {
        self.pad_sides([height, height, width, width])
    }

    /// The same with this padding at the top, bottom, left and right.
    #[must_use]
    pub const fn pad_sides(mut self, sides: [usize; 4]) -> Self {
        set_padding(&mut self.window, sides);
        self
    }

    /// The same with the padding that keeps height and width, `D·(F − 1)` in all along each axis; when that is odd, the
    /// larger part comes at the bottom and on the right.
    ///
    /// # Errors
    /// The stride is not 1: then the padding would depend on the input.
    pub fn pad_same(self) -> Result<Self, String> {
        let Window { h, w } = self.window;
        if [h.stride, w.stride] != [1, 1] {
            return Err("'pad same' keeps the size and needs stride 1; with a larger stride say the padding itself, as 'pad 1'".into());
        }
        let spans = [h, w].map(|axis| axis.extent().map(|extent| extent - 1));
        let [Ok(height), Ok(width)] = spans else {
            return Err("kernel and dilation must be at least 1, and not too large to count".into());
        };
        Ok(self.pad_sides([height / 2, height.div_ceil(2), width / 2, width.div_ceil(2)]))
    }

    /// The same with another dilation, height × width; 1 is ordinary.
    #[must_use]
    pub const fn dilation(mut self, [height, width]: [usize; 2]) -> Self {
        self.window.h = self.window.h.dilation(height);
        self.window.w = self.window.w.dilation(width);
        self
    }

    /// The same with channels and filters in this many groups; as many as channels makes it depthwise.
    #[must_use]
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The same without a bias.
    #[must_use]
    pub const fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    fn problem(&self, input: Shape) -> Result<ConvShape, String> {
        ConvShape::new(input.n, input.c, [input.h, input.w], self.filters, self.window, self.groups)
    }

    /// The problem for inputs that [`output_shape`](LayerRules::output_shape) has accepted.
    pub(super) fn accepted(&self, inputs: &[Shape]) -> ConvShape {
        self.problem(inputs[0]).expect("the input was accepted by output_shape")
    }
}

/// A product that saturates: a network of such sizes is refused elsewhere.
fn product(factors: &[usize]) -> usize {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor))
}

impl LayerRules for Conv2d {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let problem = self.problem(inputs[0])?;
        Ok(Shape::new(inputs[0].n, self.filters, problem.oh(), problem.ow()))
    }

    fn warnings(&self, inputs: &[Shape]) -> Vec<String> {
        misfits(&self.window, [inputs[0].h, inputs[0].w], Remedies { half_padding: false, ceil: false })
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
        let (groups, Window { h, w }) = (self.groups.max(1), self.window);
        let channels = inputs[0].c / groups;
        let fan_in = product(&[channels, h.size, w.size]);
        let fan_out = product(&[self.filters / groups, h.size, w.size]);
        let sizes = vec![self.filters, channels, h.size, w.size];
        specs(sizes, fan_in, fan_out, self.bias)
    }

    fn formula(&self, inputs: &[Shape]) -> Option<String> {
        let products = format!("{}·{}·{}", self.window.h.size, self.window.w.size, inputs[0].c / self.groups.max(1));
        Some(parameter_formula(&products, self.filters, self.bias))
    }

    fn macs(&self, inputs: &[Shape]) -> u64 {
        self.problem(inputs[0]).map_or(0, |problem| problem.macs())
    }

    fn reach(&self) -> Reach {
        Reach::Window(self.window)
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn memory<T: Real>(&self, inputs: &[Shape], usage: Use) -> Memory {
        memory::<T>(&self.accepted(inputs), self.bias, usage)
    }

    fn prepare<T: Real>(&self, pass: Prepare<'_, T>) {
        prepare(&self.accepted(pass.input_shapes), pass);
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        forward(&self.accepted(pass.input_shapes), self.bias, pass);
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        backward(&self.accepted(pass.input_shapes), self.bias, pass);
    }
}

/// Weight and, unless left out, bias.
pub(super) fn specs(sizes: Vec<usize>, fan_in: usize, fan_out: usize, bias: bool) -> Vec<ParameterSpec> {
    let bias = bias.then(|| ParameterSpec { name: "bias", sizes: vec![sizes[0]], role: Role::Bias, initial: Initial::Bias { fan_in } });
    let weight = ParameterSpec { name: "weight", sizes, role: Role::Weight, initial: Initial::Weight { fan_in, fan_out } };
    std::iter::once(weight).chain(bias).collect()
}

/// `(5·5·3 + 1)·10`, or `5·5·3·10` without bias.
pub(super) fn parameter_formula(products: &str, outputs: usize, bias: bool) -> String {
    if bias { format!("({products} + 1)·{outputs}") } else { format!("{products}·{outputs}") }
}

/// What a plan sets aside for a layer that is this convolution.
pub(super) fn memory<T: Real>(problem: &ConvShape, bias: bool, usage: Use) -> Memory {
    let packed = |pass| (choose::<T>(problem, usage.means, pass).packed_len)(problem, usage.means.isa, pass);
    let scratch = |pass| (choose::<T>(problem, usage.means, pass).scratch_len)(problem, usage.means.isa, pass);
    let bias_scratch = if bias { column_sums_scratch(problem.output_len(), problem.k()) } else { 0 };
    let backward_input = usage.backward && usage.input_gradient;
    let mut backward_scratch = scratch(Pass::BackwardWeight).max(bias_scratch);
    if backward_input {
        backward_scratch = backward_scratch.max(scratch(Pass::BackwardInput));
    }
    Memory {
        prepared_forward: packed(Pass::Forward),
        prepared_backward: if backward_input { packed(Pass::BackwardInput) } else { 0 },
        forward_scratch: scratch(Pass::Forward),
        backward_scratch: if usage.backward { backward_scratch } else { 0 },
        keeps_inputs: true,
        ..Memory::default()
    }
}

pub(super) fn prepare<T: Real>(problem: &ConvShape, pass: Prepare<'_, T>) {
    let which = match pass.direction {
        Direction::Forward => Pass::Forward,
        Direction::Backward => Pass::BackwardInput,
    };
    (choose::<T>(problem, pass.machine.means(), which).pack)(pass.machine, problem, which, pass.parameters[0], pass.prepared);
}

pub(super) fn forward<T: Real>(problem: &ConvShape, bias: bool, pass: Forward<'_, T>) {
    let isa = pass.machine.isa;
    let algorithm = choose::<T>(problem, pass.machine.means(), Pass::Forward);
    let epilogue = Epilogue { bias: bias.then(|| pass.parameters[1]), residual: pass.residual, relu: pass.relu };
    let scratch = &mut pass.scratch[..(algorithm.scratch_len)(problem, isa, Pass::Forward)];
    (algorithm.forward)(pass.machine, problem, pass.inputs[0], pass.prepared, &epilogue, pass.output, scratch);
}

/// A fused ReLU is not undone here: a plan that trains keeps it a layer of its own.
pub(super) fn backward<T: Real>(problem: &ConvShape, bias: bool, pass: Backward<'_, T>) {
    debug_assert!(!pass.relu, "a plan that trains does not fuse a ReLU into a convolution");
    let (isa, means, dy) = (pass.machine.isa, pass.machine.means(), pass.grad_output);
    if let Some(dx) = &mut pass.grad_inputs[0] {
        let algorithm = choose::<T>(problem, means, Pass::BackwardInput);
        let scratch = &mut pass.scratch[..(algorithm.scratch_len)(problem, isa, Pass::BackwardInput)];
        (algorithm.backward_input)(pass.machine, problem, dy, pass.prepared, dx, scratch);
    }
    if let Some(dw) = pass.grad_parameters.first_mut() {
        let algorithm = choose::<T>(problem, means, Pass::BackwardWeight);
        let scratch = &mut pass.scratch[..(algorithm.scratch_len)(problem, isa, Pass::BackwardWeight)];
        (algorithm.backward_weight)(pass.machine, problem, pass.inputs[0], dy, dw, scratch);
    }
    if let (true, Some(db)) = (bias, pass.grad_parameters.get_mut(1)) {
        add_column_sums(pass.machine, dy, db, pass.scratch);
    }
}

impl LayerText for Conv2d {
    const KIND: &'static str = "conv";

    fn read(words: &mut Words<'_>) -> Result<Self, WordError> {
        let filters = words.whole("the number of filters")?;
        if filters == 0 {
            return Err(words.error_at_last("a convolution needs at least 1 filter"));
        }
        let mut conv = Self::new(filters, positive_pair(words, "the kernel")?);
        let mut same = None;
        let mut options = Options::new(words);
        while !options.is_done() {
            let window = &mut conv.window;
            if options.take("pad")? {
                if options.words().take("same") {
                    same = Some(options.words().error_at_last(""));
                } else {
                    set_padding(window, options.words().padding()?);
                }
            } else if options.take("groups")? {
                conv.groups = options.words().whole("the number of groups")?;
            } else if options.take("no bias")? {
                conv.bias = false;
            } else if !options.take_stride(window)? && !options.take_dilation(window)? {
                return Err(options.unknown(Self::KIND, "stride, pad, pad same, dilation, groups and no bias"));
            }
        }
        match same {
            Some(place) => conv.pad_same().map_err(|message| WordError { message, ..place }),
            None => Ok(conv),
        }
    }

    fn examples() -> Vec<(Self, Vec<Shape>)> {
        let same = |conv: Self| conv.pad_same().expect("the stride is 1");
        vec![
            (Self::new(3, [3, 3]), vec![Shape::new(2, 2, 5, 6)]),
            (Self::new(2, [2, 3]).stride([2, 1]).pad([1, 0]), vec![Shape::new(2, 3, 5, 4)]),
            (Self::new(3, [3, 2]).stride([2, 3]).pad_sides([0, 1, 2, 0]), vec![Shape::new(1, 2, 6, 7)]),
            (Self::new(2, [3, 2]).pad([2, 1]).dilation([2, 1]), vec![Shape::new(1, 2, 5, 4)]),
            (Self::new(4, [3, 3]).pad([1, 1]).groups(2).without_bias(), vec![Shape::new(1, 4, 4, 5)]),
            (Self::new(6, [3, 3]).stride([2, 2]).pad([1, 1]).groups(3), vec![Shape::new(2, 3, 4, 5)]),
            (same(Self::new(2, [2, 4])), vec![Shape::new(1, 2, 4, 5)]),
            (Self::new(5, [1, 1]).without_bias(), vec![Shape::new(2, 4, 3, 3)]),
            (Self::new(18, [1, 1]), vec![Shape::new(2, 5, 2, 3)]),
        ]
    }
}

impl fmt::Display for Conv2d {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}x{}", Self::KIND, self.filters, self.window.h.size, self.window.w.size)?;
        write_options(formatter, &self.window, [1, 1])?;
        if self.groups != 1 {
            write!(formatter, " groups {}", self.groups)?;
        }
        formatter.write_str(if self.bias { "" } else { " no bias" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Word;
    use super::*;

    fn read(text: &str) -> Result<Conv2d, WordError> {
        let offset = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
        let list: Vec<Word> = text.split(' ').map(|word| Word { text: word.into(), offset: offset(word), length: word.len() }).collect();
        let mut words = Words::new(&list, text.len());
        assert!(words.take(Conv2d::KIND));
        Conv2d::read(&mut words)
    }

    fn parameters(conv: &Conv2d, input: Shape) -> Vec<usize> {
        conv.parameters(&[input]).iter().map(ParameterSpec::count).collect()
    }

    #[test]
    fn the_quiz_of_the_course_has_750_weights_and_10_biases() {
        let (conv, input) = (read("conv 10 5x5 pad 2").unwrap(), Shape::new(1, 3, 32, 32));
        assert_eq!(conv.output_shape(&[input]), Ok(Shape::new(1, 10, 32, 32)));
        assert_eq!(parameters(&conv, input), [750, 10]);
        assert_eq!(conv.formula(&[input]).unwrap(), "(5·5·3 + 1)·10");
        assert_eq!(conv.macs(&[input]), 768_000);
    }

    #[test]
    fn the_first_layer_of_alexnet_has_34944_parameters() {
        let (conv, input) = (read("conv 96 11x11 stride 4").unwrap(), Shape::new(1, 3, 227, 227));
        assert_eq!(conv.output_shape(&[input]), Ok(Shape::new(1, 96, 55, 55)));
        assert_eq!(parameters(&conv, input), [34_848, 96]);
        assert!(conv.warnings(&[input]).is_empty());
        assert!(conv.warnings(&[Shape::new(1, 3, 224, 224)])[0].starts_with("the last row and column are never seen"));
    }

    #[test]
    fn three_3x3_without_padding_shrink_28_to_22_and_groups_divide_the_weights() {
        let shrink = |input: Shape| Conv2d::new(8, [3, 3]).output_shape(&[input]).unwrap();
        assert_eq!(shrink(shrink(shrink(Shape::new(1, 8, 28, 28)))).chw(), [8, 22, 22]);
        let (depthwise, input) = (Conv2d::new(32, [3, 3]).groups(32), Shape::new(1, 32, 8, 8));
        assert_eq!(parameters(&depthwise, input), [288, 32]);
        assert_eq!(depthwise.formula(&[input]).unwrap(), "(3·3·1 + 1)·32");
        assert_eq!(Conv2d::new(10, [5, 5]).without_bias().formula(&[Shape::new(1, 3, 8, 8)]).unwrap(), "5·5·3·10");
    }

    #[test]
    fn options_are_read_in_any_order_and_printed_in_one() {
        for (text, canonical) in [
            ("conv 64 3", "conv 64 3x3"),
            ("conv 8 3x3 no bias groups 2 dilation 2 pad 1 stride 2", "conv 8 3x3 stride 2 pad 1 dilation 2 groups 2 no bias"),
            ("conv 8 3x5 stride 1 pad 0 dilation 1x1 groups 1", "conv 8 3x5"),
            ("conv 8 3x5 pad 1x2", "conv 8 3x5 pad 1x2"),
            ("conv 8 3x3 stride 2 pad 0,1,0,1", "conv 8 3x3 stride 2 pad 0,1,0,1"),
            ("conv 8 3x5 pad same", "conv 8 3x5 pad 1x2"),
            ("conv 8 3x3 pad same dilation 2", "conv 8 3x3 pad 2 dilation 2"),
            ("conv 8 2x4 pad same", "conv 8 2x4 pad 0,1,1,2"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn a_wrong_word_is_pointed_at() {
        for (text, offset, message) in [
            ("conv", 4, "the number of filters is missing"),
            ("conv 0 3x3", 5, "at least 1 filter"),
            ("conv 8 3x0", 7, "at least 1"),
            ("conv 8 3x3 stride 0", 18, "the stride must be at least 1"),
            ("conv 8 3x3 padding 1", 11, "no option 'padding'"),
            ("conv 8 3x3 stride 2 stride 3", 20, "'stride' is said twice"),
            ("conv 8 3x3 pad same stride 2", 15, "needs stride 1"),
            ("conv 8 3x3 pad 1,2,3", 15, "top,bottom,left,right"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.offset == offset && error.message.contains(message), "{text}: {error:?}");
        }
    }

    #[test]
    fn impossible_and_absurd_sizes_are_errors_with_the_numbers() {
        let input = Shape::new(1, 6, 5, 5);
        for (text, message) in [
            ("conv 8 7x7", "a window of 7 is larger than the input of 5"),
            ("conv 8 3x3 groups 4", "6 input channels cannot be split into 4 groups"),
            ("conv 9 3x3 groups 2", "9 filters cannot be split into 2 groups"),
            ("conv 8 3x3 groups 0", "0 groups"),
            ("conv 1000000000000000000 3x3", "too large"),
        ] {
            let error = read(text).unwrap().output_shape(&[input]).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
