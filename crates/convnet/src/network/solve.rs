//! Which padding, stride, kernel or image size fits: the output-size formula solved for what is missing.
//!
//! Along one axis the windows fit when `(W − F + 2P)/S + 1` leaves no remainder (F is what a dilated kernel spans). A
//! value counts as a solution under these conditions:
//!
//! | solved for | candidates |
//! |---|---|
//! | padding | the same on both sides, and so small that no window lies in it as a whole; at most half of the kernel for pooling, as its layers ask |
//! | stride | at most the room that the window has to move, since a larger one never takes a step |
//! | kernel | one that fits into the padded input, for which the present padding stays allowed |
//! | image | height or width with which every layer from the image to the asked one fits, the other kept |
//!
//! When no equal padding fits (an even stride on an odd remainder), the unequal one is told instead.

use std::fmt;
use std::str::FromStr;

use convnet_kernels::window::{Axis, Rounding};
use serde::Serialize;

use super::{Network, Node, NodeId};
use crate::error::{Error, Result};
use crate::layer::{LayerRules, Reach};
use crate::shape::{Shape, sizes_text};

/// How many solutions are listed at most.
const MOST: usize = 10;

/// How far from the present value solutions are looked for.
const FURTHEST: usize = 4096;

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Solve {
    /// The padding per side.
    Pad,
    /// The stride.
    Stride,
    /// The kernel size.
    Kernel,
    /// The size of the image.
    Input,
}

impl fmt::Display for Solve {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Pad => "pad",
            Self::Stride => "stride",
            Self::Kernel => "kernel",
            Self::Input => "input",
        })
    }
}

impl FromStr for Solve {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Pad, Self::Stride, Self::Kernel, Self::Input];
        all.into_iter()
            .find(|solve| solve.to_string() == text)
            .ok_or_else(|| Error::Argument(format!("'{text}' cannot be solved for; it is pad, stride, kernel or input")))
    }
}

/// One value and what it leads to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Solution {
    /// The padding per side, the stride, the kernel size or the image's length.
    pub value: usize,
    /// Length of the layer's output.
    pub output: usize,
    /// Whether the output is as long as the layer's input.
    pub keeps_size: bool,
    /// Whether the stride is larger than what the kernel spans, so that elements between the windows are never seen.
    pub leaves_gaps: bool,
    /// The formula with its numbers, `(7 − 3 + 2·0)/2 + 1 = 3`; for an image size that of the asked layer.
    pub formula: String,
}

/// What fits along one axis, or along both when they are alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AxisSolutions {
    /// `height`, `width`, or `height and width`.
    pub axis: &'static str,
    /// The value now, and what it leads to.
    pub present: Solution,
    /// Whether the value now fits.
    pub fits: bool,
    /// What is wrong with the value now, or that nothing but padding is left over.
    pub remark: Option<String>,
    /// Values that fit, those nearest to the value now first; the value now is among them if it fits.
    pub solutions: Vec<Solution>,
    /// What else would fit, where the list does not say it all.
    pub note: Option<String>,
}

/// The answer to [`Network::solve`].
///
/// [`Display`](fmt::Display) writes it as the course's table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Solutions {
    /// Name of the layer.
    pub layer: String,
    /// Its text form.
    pub text: String,
    /// Channels, height and width of what it reads.
    pub input: [usize; 3],
    /// What was asked for.
    pub solve: Solve,
    /// What fits along each axis.
    pub axes: Vec<AxisSolutions>,
}

impl Network {
    /// The values at a layer that fit without a remainder, nearest to the present ones first. For [`Solve::Input`], the
    /// image sizes for which every layer up to this one fits; the last layer stands for the whole network.
    ///
    /// ```
    /// # use convnet::network::{Network, Solve};
    /// # use convnet::layer::conv2d::Conv2d;
    /// let mut builder = Network::builder([3, 7, 7]);
    /// let conv = builder.add(Conv2d::new(10, [3, 3]).stride([3, 3]), &[builder.input()])?;
    /// let solved = builder.finish(conv)?.solve("conv1", Solve::Stride)?;
    /// let strides: Vec<usize> = solved.axes[0].solutions.iter().map(|solution| solution.value).collect();
    /// assert_eq!(strides, [2, 4, 1]);
    /// assert_eq!(solved.axes[0].present.formula, "(7 − 3 + 2·0)/3 + 1 = 2.33");
    /// # Ok::<(), convnet::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is no such layer, or it has no window.
    pub fn solve(&self, layer: &str, solve: Solve) -> Result<Solutions> {
        let id = self.find(layer)?;
        let Some(node) = self.node(id) else { return Err(Error::Argument("the image is not a layer".into())) };
        let axes = if solve == Solve::Input { self.solve_input(id, node) } else { self.solve_window(node, solve)? };
        Ok(Solutions {
            layer: layer.to_owned(),
            text: node.layer().to_string(),
            input: node.input_shapes()[0].chw(),
            solve,
            axes: merged(axes),
        })
    }

    /// The image size nearest to the present one with which no layer leaves out anything but padding.
    pub(super) fn lossless_image(&self) -> Option<[usize; 2]> {
        let image = self.input_shape();
        let nearest = |along: Along| {
            let present = along.length(image);
            around(present, 1).find(|&length| self.leftover(self.output(), along, length).is_some_and(|leftover| leftover.lossless))
        };
        Some([nearest(Along::Height)?, nearest(Along::Width)?])
    }

    fn solve_window(&self, node: &Node, solve: Solve) -> Result<Vec<AxisSolutions>> {
        let Reach::Window(window) = node.layer().reach() else {
            let slides = |node: &&Node| matches!(node.layer().reach(), Reach::Window(_));
            let names: Vec<&str> = self.nodes().iter().filter(slides).map(Node::name).collect();
            let those = if names.is_empty() { "no layer of this network does".into() } else { format!("these do: {}", names.join(", ")) };
            return Err(Error::Argument(format!(
                "layer '{}' ({}) has no window that a {solve} could be solved for; {those}",
                node.name(),
                node.layer()
            )));
        };
        let pooling = node.layer().kind().ends_with("pool");
        let (input, output) = (node.input_shapes()[0], node.output_shape());
        let axes = [(Along::Height, window.h), (Along::Width, window.w)];
        Ok(axes.map(|(along, axis)| solve_axis(along, axis, along.length(input), along.length(output), pooling, solve)).into())
    }

    fn solve_input(&self, id: NodeId, node: &Node) -> Vec<AxisSolutions> {
        [Along::Height, Along::Width].map(|along| self.solve_image(id, node, along)).into()
    }

    fn solve_image(&self, id: NodeId, node: &Node, along: Along) -> AxisSolutions {
        let present = along.length(self.input_shape());
        let solution = |length: usize, output: usize| {
            let formula = format!("{} {length} -> {output}", along.name());
            Solution { value: length, output, keeps_size: output == length, leaves_gaps: false, formula }
        };
        let now = self.leftover(id, along, present);
        let remark = now.as_ref().and_then(|leftover| leftover.remark.clone());
        let fits = |length: usize| {
            self.leftover(id, along, length).filter(|leftover| leftover.remark.is_none()).map(|leftover| (length, leftover))
        };
        let found = around(present, 1).filter_map(fits).take(MOST);
        AxisSolutions {
            axis: along.name(),
            present: solution(present, along.length(node.output_shape())),
            fits: remark.is_none(),
            remark,
            solutions: found.map(|(length, leftover)| solution(length, leftover.output)).collect(),
            note: None,
        }
    }

    /// What the layers up to this one leave over for an image of another length along one axis; `None` if a layer cannot
    /// take it.
    fn leftover(&self, target: NodeId, along: Along, length: usize) -> Option<Leftover> {
        let mut needed = vec![false; target.index() + 1];
        needed[target.index()] = true;
        for index in (1..needed.len()).rev().filter(|&index| index > 0) {
            if needed[index] {
                self.nodes()[index - 1].inputs().iter().for_each(|input| needed[input.index()] = true);
            }
        }
        let image = self.input_shape();
        let image = if along == Along::Height { Shape { h: length, ..image } } else { Shape { w: length, ..image } };
        let mut shapes = vec![image];
        let (mut remark, mut lossless) = (None, true);
        for (index, node) in self.nodes()[..target.index()].iter().enumerate() {
            if !needed[index + 1] {
                shapes.push(image);
                continue;
            }
            let inputs: Vec<Shape> = node.inputs().iter().map(|input| shapes[input.index()]).collect();
            shapes.push(node.layer().output_shape(&inputs).ok()?);
            let Reach::Window(window) = node.layer().reach() else { continue };
            let (axis, input) = (along.axis(&window), along.length(inputs[0]));
            let remainder = axis.uncovered(input).ok()?;
            lossless &= axis.lost(input) == Ok(0);
            if remainder > 0 && remark.is_none() {
                remark = Some(format!("{}: {}, {}", node.name(), formula(&axis, input), leftover_text(&axis, input)));
            }
        }
        Some(Leftover { output: along.length(shapes[target.index()]), remark, lossless })
    }
}

struct Leftover {
    output: usize,
    /// The first layer that does not fit.
    remark: Option<String>,
    /// Whether nothing but padding is left over.
    lossless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Along {
    Height,
    Width,
}

impl Along {
    fn name(self) -> &'static str {
        if self == Self::Height { "height" } else { "width" }
    }

    fn length(self, shape: Shape) -> usize {
        if self == Self::Height { shape.h } else { shape.w }
    }

    fn axis(self, window: &convnet_kernels::window::Window) -> Axis {
        if self == Self::Height { window.h } else { window.w }
    }
}

fn solve_axis(along: Along, axis: Axis, input: usize, output: usize, pooling: bool, solve: Solve) -> AxisSolutions {
    let (present, least) = match solve {
        Solve::Pad => (axis.pad_before, 0),
        Solve::Stride => (axis.stride, 1),
        Solve::Kernel | Solve::Input => (axis.size, 1),
    };
    let with = |value: usize| match solve {
        Solve::Pad => axis.pad(value),
        Solve::Stride => axis.stride(value),
        Solve::Kernel | Solve::Input => Axis { size: value, ..axis },
    };
    let solution = |value: usize, axis: &Axis, output: usize| Solution {
        value,
        output,
        keeps_size: output == input,
        leaves_gaps: axis.extent().is_ok_and(|extent| axis.stride > extent),
        formula: formula(axis, input),
    };
    let candidates = around(present, least).map(|value| (value, with(value)));
    let found = candidates.filter(|(_, axis)| fits(axis, input) && is_sensible(axis, input, pooling, solve)).take(MOST);
    let solutions: Vec<Solution> =
        found.map(|(value, axis)| solution(value, &axis, axis.output(input, Rounding::Floor).unwrap_or(0))).collect();
    let remainder = axis.uncovered(input).unwrap_or(0);
    let rounded_up = axis.output(input, Rounding::Floor).is_ok_and(|floor| floor < output);
    let remark = match remainder {
        0 => None,
        _ if rounded_up => Some(format!("rounded up to {output}: the last window hangs over the end")),
        _ => Some(leftover_text(&axis, input)),
    };
    AxisSolutions {
        axis: along.name(),
        present: solution(present, &axis, output),
        fits: remainder == 0,
        remark,
        note: (solve == Solve::Pad).then(|| pad_note(&axis, input, solutions.is_empty())).flatten(),
        solutions,
    }
}

fn fits(axis: &Axis, input: usize) -> bool {
    axis.uncovered(input) == Ok(0)
}

/// The conditions of the table above that have nothing to do with the remainder.
fn is_sensible(axis: &Axis, input: usize, pooling: bool, solve: Solve) -> bool {
    let Ok(extent) = axis.extent() else { return false };
    let pad = axis.pad_before.max(axis.pad_after);
    let room = (input + axis.pad_before + axis.pad_after).saturating_sub(extent);
    match solve {
        Solve::Stride => axis.stride <= room.max(1),
        _ if pooling => pad <= axis.size / 2,
        _ => pad < extent,
    }
}

/// Unequal padding where no equal one fits or the present one is unequal.
fn pad_note(axis: &Axis, input: usize, none: bool) -> Option<String> {
    if axis.pad_before != axis.pad_after {
        return Some(format!(
            "now the sides differ, {} in front and {} behind; the list is of equal sides",
            axis.pad_before, axis.pad_after
        ));
    }
    if !none {
        return None;
    }
    let unequal = |total: usize| Axis { pad_before: total / 2, pad_after: total - total / 2, ..*axis };
    let total = around(axis.pad_before * 2, 0).find(|&total| fits(&unequal(total), input))?;
    let Axis { pad_before, pad_after, .. } = unequal(total);
    Some(format!("no padding that is equal on both sides fits; {pad_before} in front and {pad_after} behind does"))
}

/// The values from the nearest to the present one outwards, the smaller of two equally near ones first.
fn around(present: usize, least: usize) -> impl Iterator<Item = usize> {
    (0..=FURTHEST).flat_map(move |distance| {
        let below = present.checked_sub(distance).filter(|&value| value >= least);
        let above = present.checked_add(distance).filter(|&value| distance > 0 && value >= least);
        below.into_iter().chain(above)
    })
}

/// The output-size formula with its numbers; nothing where the window does not fit at all.
fn formula(axis: &Axis, input: usize) -> String {
    axis.formula(input).unwrap_or_default()
}

fn leftover_text(axis: &Axis, input: usize) -> String {
    match (axis.lost(input).unwrap_or(0), axis.pad_after) {
        (0, 1..) => "does not fit, but only padding is left over".into(),
        (0, 0) => "does not fit, but leaves out no more than the stride leaves out everywhere".into(),
        (1, _) => "does not fit: the last element is never seen".into(),
        (lost, _) => format!("does not fit: the last {lost} elements are never seen"),
    }
}

/// One answer for both axes when they are alike.
fn merged(mut axes: Vec<AxisSolutions>) -> Vec<AxisSolutions> {
    let alike = |text: &Option<String>| text.clone().map(|text| text.replace("height", "width"));
    if let [height, width] = &axes[..] {
        let renamed = AxisSolutions { axis: width.axis, ..height.clone() };
        let same = renamed.solutions.iter().zip(&width.solutions).all(|(a, b)| (a.value, a.output) == (b.value, b.output));
        if same
            && renamed.solutions.len() == width.solutions.len()
            && (renamed.present.value, renamed.present.output, renamed.fits) == (width.present.value, width.present.output, width.fits)
            && alike(&renamed.remark) == width.remark
            && renamed.note == width.note
        {
            axes.truncate(1);
            axes[0].axis = "height and width";
        }
    }
    axes
}

impl fmt::Display for Solutions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} ({}) reads {}", self.layer, self.text, sizes_text(&self.input))?;
        let formulas = self.axes.iter().flat_map(|axis| axis.solutions.iter().chain([&axis.present]));
        let width = formulas.map(|solution| solution.formula.chars().count()).max().unwrap_or(0);
        for axis in &self.axes {
            writeln!(formatter, "\n{}", axis.axis)?;
            let line = |formatter: &mut fmt::Formatter<'_>, when: &str, solution: &Solution, remark: &str| {
                let text = format!("  {when:5} {} {:<6} {:width$}   {remark}", self.solve, solution.value, solution.formula);
                writeln!(formatter, "{}", text.trim_end())
            };
            let remark = |solution: &Solution| match solution {
                Solution { keeps_size: true, .. } if self.solve != Solve::Input => "keeps the size",
                Solution { leaves_gaps: true, .. } => "leaves gaps between the windows",
                _ => "",
            };
            let now = match &axis.remark {
                Some(remark) => remark.clone(),
                None if remark(&axis.present).is_empty() => "fits".into(),
                None => format!("fits, {}", remark(&axis.present)),
            };
            line(formatter, "now", &axis.present, &now)?;
            for solution in axis.solutions.iter().filter(|solution| !axis.fits || solution.value != axis.present.value) {
                line(formatter, "fits", solution, remark(solution))?;
            }
            if axis.solutions.is_empty() {
                writeln!(formatter, "  nothing near fits")?;
            }
            if let Some(note) = &axis.note {
                writeln!(formatter, "  {note}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::conv2d::Conv2d;
    use crate::layer::relu::Relu;

    fn one(input: [usize; 3], conv: Conv2d) -> Network {
        let mut builder = Network::builder(input);
        let conv = builder.add(conv, &[NodeId::IMAGE]).unwrap();
        builder.finish(conv).unwrap()
    }

    fn values(axis: &AxisSolutions) -> Vec<usize> {
        axis.solutions.iter().map(|solution| solution.value).collect()
    }

    #[test]
    fn the_courses_table_of_strides_is_solved() {
        let formulas: Vec<String> = (1..=3)
            .map(|stride| {
                let network = one([3, 7, 7], Conv2d::new(1, [3, 3]).stride([stride, stride]));
                let solved = network.solve("conv1", Solve::Stride).unwrap();
                assert_eq!((solved.axes.len(), solved.axes[0].axis, solved.axes[0].fits), (1, "height and width", stride != 3));
                solved.axes[0].present.formula.clone()
            })
            .collect();
        assert_eq!(formulas, ["(7 − 3 + 2·0)/1 + 1 = 5", "(7 − 3 + 2·0)/2 + 1 = 3", "(7 − 3 + 2·0)/3 + 1 = 2.33"]);
        let text = one([3, 7, 7], Conv2d::new(1, [3, 3]).stride([3, 3])).solve("conv1", Solve::Stride).unwrap().to_string();
        assert_eq!(
            text,
            "conv1 (conv 1 3x3 stride 3) reads 3x7x7\n\
             \n\
             height and width\n  \
             now   stride 3      (7 − 3 + 2·0)/3 + 1 = 2.33   does not fit: the last element is never seen\n  \
             fits  stride 2      (7 − 3 + 2·0)/2 + 1 = 3\n  \
             fits  stride 4      (7 − 3 + 2·0)/4 + 1 = 2      leaves gaps between the windows\n  \
             fits  stride 1      (7 − 3 + 2·0)/1 + 1 = 5\n"
        );
    }

    #[test]
    fn half_of_the_kernel_less_one_keeps_the_size_at_stride_1() {
        for kernel in [1, 3, 5, 7] {
            let solved = one([3, 32, 32], Conv2d::new(10, [kernel, kernel])).solve("conv1", Solve::Pad).unwrap();
            let keeping: Vec<usize> =
                solved.axes[0].solutions.iter().filter(|solution| solution.keeps_size).map(|solution| solution.value).collect();
            assert_eq!(keeping, [(kernel - 1) / 2]);
        }
        let even = one([3, 32, 32], Conv2d::new(10, [4, 4])).solve("conv1", Solve::Pad).unwrap();
        assert!(even.axes[0].solutions.iter().all(|solution| !solution.keeps_size));
    }

    #[test]
    fn solutions_are_all_the_values_that_fit_nearest_first() {
        for (input, size, stride, pad) in [(10, 3, 2, 0), (224, 11, 4, 0), (31, 5, 3, 2), (9, 9, 1, 0), (28, 3, 7, 1)] {
            let network = one([1, input, input], Conv2d::new(1, [size, size]).stride([stride, stride]).pad([pad, pad]));
            for solve in [Solve::Pad, Solve::Stride, Solve::Kernel, Solve::Input] {
                let solved = network.solve("conv1", solve).unwrap();
                let present = solved.axes[0].present.value;
                let all = (0..400usize).filter(|&value| {
                    let (input, size, stride, pad) = match solve {
                        Solve::Pad => (input, size, stride, value),
                        Solve::Stride => (input, size, value, pad),
                        Solve::Kernel => (input, value, stride, pad),
                        Solve::Input => (value, size, stride, pad),
                    };
                    let room = (input + 2 * pad).checked_sub(size);
                    let known = size > 0 && stride > 0 && input > 0 && room.is_some_and(|room| room % stride == 0);
                    known && (solve == Solve::Input || (pad < size && (solve != Solve::Stride || stride <= room.unwrap().max(1))))
                });
                let mut all: Vec<usize> = all.collect();
                all.sort_by_key(|&value| (value.abs_diff(present), value));
                all.truncate(MOST);
                assert_eq!(values(&solved.axes[0]), all, "{solve} of {size} stride {stride} pad {pad} on {input}");
            }
        }
    }

    #[test]
    fn axes_that_differ_are_solved_apart() {
        let network = one([3, 10, 12], Conv2d::new(4, [3, 4]).stride([2, 2]));
        let solved = network.solve("conv1", Solve::Kernel).unwrap();
        assert_eq!(solved.axes.iter().map(|axis| (axis.axis, axis.fits)).collect::<Vec<_>>(), [("height", false), ("width", true)]);
        assert_eq!((values(&solved.axes[0])[0], values(&solved.axes[1])[0]), (2, 4));
    }

    #[test]
    fn where_only_unequal_padding_fits_it_is_told() {
        let solved = one([64, 56, 56], Conv2d::new(128, [3, 3]).stride([2, 2]).pad([1, 1])).solve("conv1", Solve::Pad).unwrap();
        let axis = &solved.axes[0];
        assert!(axis.solutions.is_empty());
        assert_eq!(axis.remark.as_deref(), Some("does not fit, but only padding is left over"));
        assert_eq!(axis.note.as_deref(), Some("no padding that is equal on both sides fits; 0 in front and 1 behind does"));
    }

    #[test]
    fn image_sizes_fit_every_layer_on_the_way() {
        let mut builder = Network::builder([3, 224, 200]);
        let first = builder.add(Conv2d::new(8, [11, 11]).stride([4, 4]), &[NodeId::IMAGE]).unwrap();
        let second = builder.add(Conv2d::new(8, [3, 3]).stride([2, 2]), &[first]).unwrap();
        let network = builder.finish(second).unwrap();
        let first = network.solve("conv1", Solve::Input).unwrap();
        assert_eq!(values(&first.axes[0])[..3], [223, 227, 219]);
        assert!(first.axes[0].remark.as_deref().unwrap().starts_with("conv1: (224 − 11 + 2·0)/4 + 1 = 54.25, does not fit"));
        let both = network.solve("conv2", Solve::Input).unwrap();
        assert_eq!(both.axes.iter().map(|axis| values(axis)[..2].to_vec()).collect::<Vec<_>>(), [[227, 219], [203, 195]]);
        assert_eq!(both.axes[0].solutions[0].output, 27);
        let text = both.to_string();
        assert!(text.contains("fits  input 227    height 227 -> 27"), "{text}");
    }

    #[test]
    fn what_has_no_window_or_no_name_is_refused_with_those_there_are() {
        let mut builder = Network::builder([1, 8, 8]);
        let conv = builder.add(Conv2d::new(1, [3, 3]), &[NodeId::IMAGE]).unwrap();
        let relu = builder.add(Relu, &[conv]).unwrap();
        let network = builder.finish(relu).unwrap();
        let error = network.solve("relu1", Solve::Stride).unwrap_err().to_string();
        assert!(error.contains("layer 'relu1' (relu)") && error.contains("conv1"), "{error}");
        assert!(network.solve("pool1", Solve::Input).unwrap_err().to_string().contains("conv1, relu1"));
        assert!("padding".parse::<Solve>().unwrap_err().to_string().contains("pad, stride, kernel or input"));
    }
}
