//! Receptive fields: which pixels of the image one position of a value sees.
//!
//! Along one axis a position i of a value sees the pixels `start + i·jump` to `start + i·jump + size − 1`. The image itself
//! has size 1, jump 1 and start 0. A window of size F, dilation D, stride S and padding P in front turns them into
//!
//! ```text
//! size  ← size + D·(F − 1)·jump
//! start ← start − P·jump
//! jump  ← jump·S
//! ```
//!
//! (Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks", Distill 2019). These are the
//! sizes without the image's border: VGG-16 sees 212×212 at its last pooling, even where a part of that lies in the padding.
//! Where branches join, the field is the smallest interval that holds the fields of all of them. A layer that reads the
//! whole height and width (flatten, a global pooling) sees all that its input sees of the image.
//!
//! [`Network::region`] tells of one position what the rule only tells of all: it follows one position back through every branch, and leaves
//! out what lies in paddings and what rounding down never reaches.

use std::ops::Range;

use convnet_kernels::window::Axis;

use super::{Network, Node, NodeId};
use crate::error::{Error, Result};
use crate::layer::{LayerRules, Reach};
use crate::shape::Shape;

/// The receptive field along one axis, in pixels of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisField {
    /// Pixels from the first to the last that one position sees, r. Saturates instead of overflowing, as all here.
    pub size: u64,
    /// Pixels from one position to the next: the effective stride, j. The length of the image where every position sees
    /// the whole.
    pub jump: u64,
    /// The first pixel that position 0 sees; negative in the padding.
    pub start: i64,
    /// Whether every position sees the same pixels, since a layer has read the whole height and width.
    pub whole: bool,
}

impl AxisField {
    const PIXEL: Self = Self { size: 1, jump: 1, start: 0, whole: false };

    /// The pixels that a position sees, those in the padding included.
    pub fn window(&self, position: usize) -> Range<i64> {
        let moved = if self.whole { 0 } else { signed(self.jump).saturating_mul(signed(position as u64)) };
        let first = self.start.saturating_add(moved);
        first..first.saturating_add(signed(self.size))
    }

    /// The middle of what position 0 sees, as a coordinate of pixel centres.
    pub fn center(&self) -> f64 {
        self.start as f64 + (self.size as f64 - 1.0) / 2.0
    }

    fn behind(&self, axis: &Axis) -> Self {
        if self.whole {
            return *self;
        }
        let steps = ((axis.size.saturating_sub(1)) as u64).saturating_mul(axis.dilation as u64);
        Self {
            size: self.size.saturating_add(steps.saturating_mul(self.jump)),
            start: self.start.saturating_sub(signed(axis.pad_before as u64).saturating_mul(signed(self.jump))),
            jump: self.jump.saturating_mul(axis.stride as u64),
            whole: false,
        }
    }

    /// The smallest field that holds both, on an axis of `positions`, and whether the two keep step.
    fn joined(&self, other: &Self, positions: usize) -> (Self, bool) {
        let hull = |a: Range<i64>, b: Range<i64>| a.start.min(b.start)..a.end.max(b.end);
        if self.whole != other.whole {
            return (if self.whole { *self } else { *other }, true);
        }
        // The width of the hull is convex in the position, so it is widest at an end.
        let first = hull(self.window(0), other.window(0));
        let last = positions.saturating_sub(1);
        let last = hull(self.window(last), other.window(last));
        let size = length(&first).max(length(&last));
        let keeps_step = self.whole || self.jump == other.jump;
        (Self { size, jump: self.jump.max(other.jump), start: first.start, whole: self.whole }, keeps_step)
    }
}

/// What one position of a value sees of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptiveField {
    /// Along the height.
    pub h: AxisField,
    /// Along the width.
    pub w: AxisField,
    /// Whether all branches that join here move over the image in the same steps. Where they do not, the size is that of
    /// the widest position and the jump that of the slowest branch's positions.
    pub in_step: bool,
}

impl ReceptiveField {
    /// Height and width, without the image's border.
    pub fn size(&self) -> [u64; 2] {
        [self.h.size, self.w.size]
    }

    /// Pixels from one position to the next, along height and width.
    pub fn jump(&self) -> [u64; 2] {
        [self.h.jump, self.w.jump]
    }

    /// Whether every position sees the same pixels.
    pub fn is_whole(&self) -> bool {
        self.h.whole && self.w.whole
    }
}

/// The pixels of the image that one position of a value sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Rows of the image, from the first to behind the last that matter; empty if there is none.
    pub rows: Range<usize>,
    /// Columns of the image.
    pub columns: Range<usize>,
    /// Rows by the rule alone, those in the padding included.
    pub window_rows: Range<i64>,
    /// Columns by the rule alone, those in the padding included.
    pub window_columns: Range<i64>,
}

impl Network {
    /// The receptive field of every value, by its [index](NodeId::index): the image first.
    ///
    /// ```
    /// # use convnet::network::Network;
    /// # use convnet::layer::{flatten::Flatten, relu::Relu};
    /// # let mut builder = Network::builder([1, 28, 28]);
    /// # let relu = builder.add(Relu, &[builder.input()])?;
    /// # let flat = builder.add(Flatten, &[relu])?;
    /// # let network = builder.finish(flat)?;
    /// let fields = network.receptive_fields();
    /// assert_eq!(fields[relu.index()].size(), [1, 1]);
    /// assert_eq!(fields[flat.index()].size(), [28, 28]);
    /// # Ok::<(), convnet::Error>(())
    /// ```
    pub fn receptive_fields(&self) -> Vec<ReceptiveField> {
        let mut fields = vec![ReceptiveField { h: AxisField::PIXEL, w: AxisField::PIXEL, in_step: true }];
        for node in self.nodes() {
            let inputs = node.inputs().iter().zip(node.input_shapes()).map(|(&id, shape)| self.field_through(node, id, *shape, &fields));
            let joined = inputs.reduce(|a, b| {
                let (h, h_in_step) = a.h.joined(&b.h, node.output_shape().h);
                let (w, w_in_step) = a.w.joined(&b.w, node.output_shape().w);
                ReceptiveField { h, w, in_step: a.in_step && b.in_step && h_in_step && w_in_step }
            });
            fields.push(joined.unwrap_or(fields[0]));
        }
        fields
    }

    /// The field of a layer through one of its inputs.
    fn field_through(&self, node: &Node, id: NodeId, shape: Shape, fields: &[ReceptiveField]) -> ReceptiveField {
        let [h, w] = ways(node, shape);
        let input = fields[id.index()];
        if input.is_whole() {
            return input;
        }
        let [rows, columns] = if [h, w].contains(&Way::Whole) { self.trace(id, [0..shape.h, 0..shape.w]) } else { [0..0, 0..0] };
        let axis = |field: AxisField, way: &Way, seen: Range<usize>, image: usize| match way {
            Way::Same => field,
            Way::Window(axis) => field.behind(axis),
            Way::Whole => AxisField { size: seen.len() as u64, jump: image as u64, start: signed(seen.start as u64), whole: true },
        };
        ReceptiveField {
            h: axis(input.h, &h, rows, self.input_shape().h),
            w: axis(input.w, &w, columns, self.input_shape().w),
            in_step: input.in_step,
        }
    }

    /// The pixels of the image that position (`y`, `x`) of a value sees.
    ///
    /// With holes (a stride larger than the window, a dilation) not every pixel inside is seen. The rectangle is the
    /// smallest, unless some windows between such holes lie outside the image as a whole: then it may be a little larger.
    ///
    /// # Errors
    /// The value has no such position.
    pub fn region(&self, id: NodeId, y: usize, x: usize) -> Result<Region> {
        let shape = self.shape(id);
        if id.index() > self.nodes().len() || y >= shape.h || x >= shape.w {
            return Err(Error::Argument(format!(
                "there is no position {y},{x} (row, column) in a value of {}x{}; both count from 0",
                shape.h, shape.w
            )));
        }
        let [rows, columns] = self.trace(id, [y..y + 1, x..x + 1]);
        let field = self.receptive_fields()[id.index()];
        Ok(Region { rows, columns, window_rows: field.h.window(y), window_columns: field.w.window(x) })
    }

    /// The rows and columns of the image that all positions of a value see together: less than the image where rounding
    /// down leaves out its end.
    pub fn seen(&self, id: NodeId) -> [Range<usize>; 2] {
        let shape = self.shape(id);
        self.trace(id, [0..shape.h, 0..shape.w])
    }

    /// Follows rows and columns of a value back to the image.
    fn trace(&self, id: NodeId, span: [Range<usize>; 2]) -> [Range<usize>; 2] {
        let mut spans = vec![[0..0, 0..0]; id.index() + 1];
        spans[id.index()] = span;
        for index in (1..spans.len()).rev() {
            let [rows, columns] = spans[index].clone();
            let Some(node) = self.nodes().get(index - 1).filter(|_| !rows.is_empty() && !columns.is_empty()) else {
                continue;
            };
            for (input, shape) in node.inputs().iter().zip(node.input_shapes()) {
                let [h, w] = ways(node, *shape);
                let seen = [h.seen(rows.clone(), shape.h), w.seen(columns.clone(), shape.w)];
                if seen.iter().all(|axis| !axis.is_empty()) {
                    let known = &mut spans[input.index()];
                    let [rows, columns] = seen;
                    *known = [hull(&known[0], rows), hull(&known[1], columns)];
                }
            }
        }
        spans.swap_remove(0)
    }
}

/// The smallest range that holds both; an empty one counts for nothing.
fn hull(known: &Range<usize>, new: Range<usize>) -> Range<usize> {
    if known.is_empty() { new } else { known.start.min(new.start)..known.end.max(new.end) }
}

/// How a layer reads one of its inputs along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Same,
    Window(Axis),
    Whole,
}

/// How a layer reads one of its inputs, along height and width. A layer that changes a length without a window reads it
/// as a whole.
pub(super) fn ways(node: &Node, input: Shape) -> [Way; 2] {
    let output = node.output_shape();
    let pixel = |input: usize, output: usize| if input == output { Way::Same } else { Way::Whole };
    match node.layer().reach() {
        Reach::Pixel => [pixel(input.h, output.h), pixel(input.w, output.w)],
        Reach::Window(window) => [Way::Window(window.h), Way::Window(window.w)],
        Reach::Whole if node.layer().kind().starts_with("adaptive") => [part(input.h, output.h), part(input.w, output.w)],
        Reach::Whole => [Way::Whole; 2],
    }
}

/// How an adaptive pooling reads an axis: in equal parts side by side where the lengths divide, otherwise taken as whole.
fn part(input: usize, output: usize) -> Way {
    if output > 1 && input.is_multiple_of(output) { Way::Window(Axis::new(input / output).stride(input / output)) } else { Way::Whole }
}

impl Way {
    /// The elements of an axis of length `input` that the outputs `span` see.
    fn seen(&self, span: Range<usize>, input: usize) -> Range<usize> {
        match self {
            Self::Same => span,
            Self::Whole => 0..input,
            Self::Window(axis) => touched(axis, span, input),
        }
    }
}

/// From the first to behind the last element of an axis that the windows `span` look at.
fn touched(axis: &Axis, span: Range<usize>, input: usize) -> Range<usize> {
    let element = |output: usize, tap: usize| (axis.start(output) + (tap * axis.dilation) as isize) as usize;
    let taps = |output: usize| Some((output, axis.taps(output, input))).filter(|(_, taps)| !taps.is_empty());
    // With dilation, windows that begin in the padding may look at later elements than their successors; after `dilation`
    // windows the pattern repeats itself.
    let period = axis.dilation.min(LONGEST_PERIOD);
    let behind_padding = |output: usize| axis.start(output) + ((axis.size - 1) * axis.dilation) as isize >= 0;
    let before_end = |output: usize| axis.start(output) < input as isize;
    let front = first_that(span.clone(), behind_padding);
    let back = first_that(span.clone(), |output| !before_end(output));
    let first = (front..back).take(period).filter_map(taps).map(|(output, taps)| element(output, taps.start)).min();
    let last = (front..back).rev().take(period).filter_map(taps).map(|(output, taps)| element(output, taps.end - 1)).max();
    match (first, last) {
        (Some(first), Some(last)) => first..last + 1,
        _ => 0..0,
    }
}

/// The largest dilation whose pattern is followed to its end.
const LONGEST_PERIOD: usize = 4096;

/// The first of a range from which on a claim holds; its end if it never does.
fn first_that(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn length(range: &Range<i64>) -> u64 {
    u64::try_from(range.end.saturating_sub(range.start)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Backward, Forward, Layer, Memory, Use, add::Add, flatten::Flatten, relu::Relu};
    use convnet_kernels::Real;
    use convnet_kernels::window::{Rounding, Window};

    /// A window that only has a size.
    #[derive(Clone, Copy, Debug)]
    struct Slide {
        window: Window,
        rounding: Rounding,
    }

    impl LayerRules for Slide {
        fn kind(&self) -> &'static str {
            "slide"
        }
        fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
            let (h, w) = self.window.output(inputs[0].h, inputs[0].w, self.rounding)?;
            Ok(Shape { h, w, ..inputs[0] })
        }
        fn reach(&self) -> Reach {
            Reach::Window(self.window)
        }
        fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
            Memory::default()
        }
        fn forward<T: Real>(&self, _: Forward<'_, T>) {}
        fn backward<T: Real>(&self, _: Backward<'_, T>) {}
    }

    fn slide(axis: Axis) -> Layer {
        Layer::custom(Slide { window: Window::square(axis), rounding: Rounding::Floor })
    }

    /// The fields along the height behind each window of (size, stride, padding).
    fn chain(side: usize, windows: &[(usize, usize, usize)]) -> Vec<AxisField> {
        let mut builder = Network::builder([1, side, side]);
        let mut id = builder.input();
        for &(size, stride, pad) in windows {
            id = builder.add(slide(Axis::new(size).stride(stride).pad(pad)), &[id]).unwrap();
        }
        let fields = builder.finish(id).unwrap().receptive_fields();
        assert!(fields.iter().all(|field| field.h == field.w && field.in_step));
        fields[1..].iter().map(|field| field.h).collect()
    }

    #[test]
    fn vgg16_sees_212_pixels_in_steps_of_32() {
        let (conv, pool) = ((3, 1, 1), (2, 2, 0));
        let blocks = [2, 2, 3, 3, 3].map(|convs| [vec![conv; convs], vec![pool]].concat());
        let fields = chain(224, &blocks.concat());
        let sizes: Vec<u64> = fields.iter().map(|field| field.size).collect();
        assert_eq!(sizes, [3, 5, 6, 10, 14, 16, 24, 32, 40, 44, 60, 76, 92, 100, 132, 164, 196, 212]);
        assert_eq!((fields[17].jump, fields[17].start, fields[17].center()), (32, -90, 15.5));
    }

    #[test]
    fn alexnet_sees_195_pixels_in_steps_of_32() {
        let fields = chain(224, &[(11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 2, 0)]);
        let listed: Vec<_> = [0, 1, 2, 4, 5, 6, 7].map(|layer| (fields[layer].size, fields[layer].jump, -fields[layer].start)).into();
        assert_eq!(listed, [(11, 4, 0), (19, 8, 0), (51, 8, 16), (99, 16, 32), (131, 16, 48), (163, 16, 64), (195, 32, 64)]);
    }

    #[test]
    fn mobilenet_v1_sees_315_pixels_in_steps_of_32() {
        let strides = [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1];
        let fields = chain(224, &strides.map(|stride| (3, stride, 1)));
        assert_eq!((fields[13].size, fields[13].jump), (315, 32));
    }

    /// The field behind the last stage of a ResNet-50 whose blocks have these strides.
    fn resnet50(stride: impl Fn(usize, usize, usize) -> usize) -> ReceptiveField {
        let conv = |size, stride| slide(Axis::new(size).stride(stride).pad(size / 2));
        let mut builder = Network::builder([1, 224, 224]);
        let mut id = builder.add(conv(7, 2), &[NodeId::IMAGE]).unwrap();
        id = builder.add(conv(3, 2), &[id]).unwrap();
        for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
            for block in 0..blocks {
                let stride = stride(stage, block, blocks);
                let reduced = builder.add(conv(1, 1), &[id]).unwrap();
                let inner = builder.add(conv(3, stride), &[reduced]).unwrap();
                let branch = builder.add(conv(1, 1), &[inner]).unwrap();
                let shortcut = builder.add(conv(1, stride), &[id]).unwrap();
                id = builder.add(Add, &[branch, shortcut]).unwrap();
            }
        }
        builder.finish(id).unwrap().receptive_fields()[id.index()]
    }

    #[test]
    fn resnet50_sees_483_or_427_pixels_in_steps_of_32() {
        // TensorFlow's slim strides in the last block of a stage, torchvision in the first.
        let slim = resnet50(|stage, block, blocks| if stage < 3 && block + 1 == blocks { 2 } else { 1 });
        let torchvision = resnet50(|stage, block, _| if stage > 0 && block == 0 { 2 } else { 1 });
        for (field, size) in [(slim, 483), (torchvision, 427)] {
            assert_eq!((field.size(), field.jump(), field.in_step), ([size, size], [32, 32], true));
        }
    }

    #[test]
    fn three_windows_of_3_see_as_much_as_one_of_7_and_dilation_sees_more() {
        assert_eq!(chain(32, &[(3, 1, 0); 3])[2], chain(32, &[(7, 1, 0)])[0]);
        let mut builder = Network::builder([1, 32, 32]);
        let mut id = builder.input();
        for dilation in [1, 2, 4] {
            id = builder.add(slide(Axis::new(3).dilation(dilation)), &[id]).unwrap();
        }
        assert_eq!(builder.finish(id).unwrap().receptive_fields()[3].size(), [15, 15]);
    }

    #[test]
    fn joined_branches_see_what_each_of_them_sees() {
        let mut builder = Network::builder([1, 16, 16]);
        let wide = builder.add(slide(Axis { pad_before: 4, pad_after: 0, ..Axis::new(5) }), &[NodeId::IMAGE]).unwrap();
        let joined = builder.add(Add, &[wide, NodeId::IMAGE]).unwrap();
        let right = builder.add(slide(Axis { pad_before: 0, pad_after: 2, ..Axis::new(3) }), &[NodeId::IMAGE]).unwrap();
        let both = builder.add(Add, &[joined, right]).unwrap();
        let network = builder.finish(both).unwrap();
        let field = network.receptive_fields()[both.index()];
        assert_eq!((field.h.size, field.h.start, field.in_step), (7, -4, true));
        let region = network.region(both, 1, 15).unwrap();
        assert_eq!((region.rows, region.columns), (0..4, 11..16));
        assert_eq!((region.window_rows, region.window_columns), (-3..4, 11..18));
    }

    #[test]
    fn branches_out_of_step_are_noted() {
        let mut builder = Network::builder([1, 16, 16]);
        let strided = builder.add(slide(Axis::new(2).stride(2)), &[NodeId::IMAGE]).unwrap();
        let cut = builder.add(slide(Axis::new(9)), &[NodeId::IMAGE]).unwrap();
        let both = builder.add(Add, &[strided, cut]).unwrap();
        let network = builder.finish(both).unwrap();
        let field = network.receptive_fields()[both.index()];
        assert!(!field.in_step);
        // The last position sees pixels 14 and 15 one way, 7 to 15 the other; position 0 sees 0 to 8.
        assert_eq!((field.h.size, field.h.jump, field.h.start), (9, 2, 0));
        assert_eq!(network.region(both, 7, 0).unwrap().rows, 7..16);
    }

    #[test]
    fn a_flattened_value_sees_the_image_but_for_what_rounding_down_lost() {
        let mut builder = Network::builder([1, 10, 12]);
        let pool = builder.add(slide(Axis::new(3).stride(3)), &[NodeId::IMAGE]).unwrap();
        let flat = builder.add(Flatten, &[pool]).unwrap();
        let relu = builder.add(Relu, &[flat]).unwrap();
        let network = builder.finish(relu).unwrap();
        let field = network.receptive_fields()[relu.index()];
        assert!(field.is_whole());
        assert_eq!((field.size(), field.jump()), ([9, 12], [10, 12]));
        assert_eq!(network.seen(relu), [0..9, 0..12]);
        assert_eq!(network.region(relu, 0, 0).unwrap().window_rows, 0..9);
        assert!(network.region(relu, 1, 0).unwrap_err().to_string().contains("position 1,0"));
    }

    #[test]
    fn absurd_strides_saturate() {
        let fields = chain(1, &[(1, usize::MAX, 0); 3]);
        assert_eq!(fields[2].jump, u64::MAX);
        assert_eq!(fields[2].window(usize::MAX), i64::MAX..i64::MAX);
    }

    /// The elements that output `position` of a chain of axes looks at, by following every single tap.
    fn by_taps(axes: &[(Axis, usize)], position: usize) -> Vec<usize> {
        let mut seen = vec![position];
        for (axis, input) in axes.iter().rev() {
            let mut before: Vec<usize> = Vec::new();
            for output in seen {
                let taps = (0..axis.size).filter_map(|tap| (output * axis.stride + tap * axis.dilation).checked_sub(axis.pad_before));
                before.extend(taps.filter(|element| element < input));
            }
            before.sort_unstable();
            before.dedup();
            seen = before;
        }
        seen
    }

    #[test]
    fn regions_hold_exactly_what_following_every_tap_finds() {
        let mut state = 1u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % limit) as usize
        };
        let mut compared = 0;
        for trial in 0..600 {
            let mut builder = Network::builder([1, 13 + below(20), 1]);
            let mut id = builder.input();
            let mut axes = Vec::new();
            let layers = 1 + below(4);
            for layer in 0..layers {
                // Dilation in the last window only: elsewhere holes and padding together make ends that are never read.
                let dilation = if layer + 1 == layers { 1 + below(3) } else { 1 };
                let size = 1 + below(4);
                let (pad_before, pad_after) = (below(size as u64), below(size as u64));
                let axis = Axis { size, stride: 1 + below(3), pad_before, pad_after, dilation };
                // Rounding up with a stride that leaves gaps may add a window behind the end.
                let rounding = if axis.stride > size || below(2) == 0 { Rounding::Floor } else { Rounding::Ceil };
                let input = builder.shape(id).h;
                if let Ok(next) = builder.add(Layer::custom(Slide { window: Window { h: axis, w: Axis::new(1) }, rounding }), &[id]) {
                    (id, _) = (next, axes.push((axis, input)));
                }
            }
            let Ok(network) = builder.finish(id) else { continue };
            for position in 0..network.shape(id).h {
                let seen = by_taps(&axes, position);
                let region = network.region(id, position, 0).unwrap();
                match (seen.first(), seen.last()) {
                    (Some(&first), Some(&last)) => assert_eq!(region.rows, first..last + 1, "trial {trial}: {axes:?} at {position}"),
                    _ => assert!(region.rows.is_empty(), "trial {trial}: {axes:?} at {position}: {region:?}"),
                }
                assert!(seen.iter().all(|&row| region.window_rows.contains(&(row as i64))), "trial {trial}: {axes:?} at {position}");
                compared += 1;
            }
        }
        assert!(compared > 2000, "{compared}");
    }
}
