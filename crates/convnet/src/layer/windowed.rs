//! What layers with a sliding window share: the options of their text form, and the warning for sizes that do not fit.

use std::fmt;

use convnet_kernels::pool::PoolShape;
use convnet_kernels::window::{Axis, Rounding, Window};

use super::words::{padding_text, pair_text};
use super::{WordError, Words};
use crate::shape::Shape;

/// Reads the options behind a layer's first words, in any order, each at most once.
pub(super) struct Options<'w, 'a> {
    words: &'w mut Words<'a>,
    seen: Vec<&'static str>,
}

impl<'w, 'a> Options<'w, 'a> {
    pub fn new(words: &'w mut Words<'a>) -> Self {
        Self { words, seen: Vec::new() }
    }

    /// The words behind the option that was taken last.
    pub fn words(&mut self) -> &mut Words<'a> {
        self.words
    }

    /// Whether every word is read.
    pub fn is_done(&self) -> bool {
        self.words.is_done()
    }

    /// Takes this option if it comes next.
    pub fn take(&mut self, name: &'static str) -> Result<bool, WordError> {
        if !self.words.take_all(name) {
            return Ok(false);
        }
        if self.seen.contains(&name) {
            return Err(self.words.error_at_last(format!("'{name}' is said twice")));
        }
        self.seen.push(name);
        Ok(true)
    }

    /// Takes `stride` with its value if it comes next.
    pub fn take_stride(&mut self, window: &mut Window) -> Result<bool, WordError> {
        if !self.take("stride")? {
            return Ok(false);
        }
        [window.h.stride, window.w.stride] = positive_pair(self.words, "the stride")?;
        Ok(true)
    }

    /// Takes `dilation` with its value if it comes next.
    pub fn take_dilation(&mut self, window: &mut Window) -> Result<bool, WordError> {
        if !self.take("dilation")? {
            return Ok(false);
        }
        [window.h.dilation, window.w.dilation] = positive_pair(self.words, "the dilation")?;
        Ok(true)
    }

    /// The error for the next word, which is none of the options that this layer has.
    pub fn unknown(&self, kind: &str, options: &str) -> WordError {
        self.words.unknown_option(kind, options)
    }
}

/// A pair, neither number of which is zero.
pub(super) fn positive_pair(words: &mut Words<'_>, what: &str) -> Result<[usize; 2], WordError> {
    let pair = words.pair(what)?;
    if pair.contains(&0) { Err(words.error_at_last(format!("{what} must be at least 1"))) } else { Ok(pair) }
}

/// Sets the padding of each side: top, bottom, left, right.
pub(super) const fn set_padding(window: &mut Window, [top, bottom, left, right]: [usize; 4]) {
    (window.h.pad_before, window.h.pad_after) = (top, bottom);
    (window.w.pad_before, window.w.pad_after) = (left, right);
}

/// Writes stride, padding and dilation, each with a space in front, unless the text form leaves them out.
pub(super) fn write_options(formatter: &mut fmt::Formatter<'_>, window: &Window, usual_stride: [usize; 2]) -> fmt::Result {
    let Window { h, w } = window;
    if [h.stride, w.stride] != usual_stride {
        write!(formatter, " stride {}", pair_text(h.stride, w.stride))?;
    }
    let padding = [h.pad_before, h.pad_after, w.pad_before, w.pad_after];
    if padding != [0; 4] {
        write!(formatter, " pad {}", padding_text(padding))?;
    }
    if [h.dilation, w.dilation] != [1, 1] {
        write!(formatter, " dilation {}", pair_text(h.dilation, w.dilation))?;
    }
    Ok(())
}

/// A window whose stride is its own size, as pooling has unless said.
pub(super) const fn tiling([height, width]: [usize; 2]) -> Window {
    Window { h: Axis::new(height).stride(height), w: Axis::new(width).stride(width) }
}

/// The pooling of this input, if the window fits and no padding is more than half of the kernel, as Torch demands.
pub(super) fn pooling(window: &Window, rounding: Rounding, input: Shape) -> Result<PoolShape, String> {
    for (name, axis) in [("height", window.h), ("width", window.w)] {
        let (pad, most) = (axis.pad_before.max(axis.pad_after), axis.size / 2);
        if pad > most {
            return Err(format!("{name}: a padding of {pad} is more than half of the kernel of {}; at most {most} is possible", axis.size));
        }
    }
    PoolShape::sliding(input.n, input.c, [input.h, input.w], *window, rounding)
}

/// What is noteworthy about the sizes of a pooling: with [`Rounding::Floor`] what is never seen.
pub(super) fn pooling_misfits(window: &Window, rounding: Rounding, input: Shape) -> Vec<String> {
    match rounding {
        Rounding::Floor => misfits(window, [input.h, input.w], Remedies { half_padding: true, ceil: true }),
        Rounding::Ceil => Vec::new(),
    }
}

/// Writes kernel and options of a pooling layer as they are read.
pub(super) fn write_pooling(formatter: &mut fmt::Formatter<'_>, window: &Window, rounding: Rounding) -> fmt::Result {
    let Window { h, w } = window;
    write!(formatter, " {}", pair_text(h.size, w.size))?;
    write_options(formatter, window, [h.size, w.size])?;
    formatter.write_str(if rounding == Rounding::Ceil { " ceil" } else { "" })
}

/// Which settings may be proposed in place of those that do not fit.
#[derive(Clone, Copy)]
pub(super) struct Remedies {
    /// Whether a padding may be at most half of the kernel (pooling).
    pub half_padding: bool,
    /// Whether the layer has the option `ceil`.
    pub ceil: bool,
}

/// A sentence for each axis at whose end no window comes although a whole step further one would: what is never seen, the
/// division that leaves a remainder, and what would fit. One sentence for both axes when they are alike.
///
/// Padding that is left out, and gaps no wider than a stride larger than the kernel leaves everywhere, are no loss.
pub(super) fn misfits(window: &Window, [height, width]: [usize; 2], remedies: Remedies) -> Vec<String> {
    let sentence = |axis: &Axis, input: usize, names: [&str; 2], side: &str| {
        let lost = axis.lost(input).ok().filter(|&lost| lost > 0)?;
        let what = match lost {
            1 => format!("the last {} {} never seen", names[0], if names[0].contains(' ') { "are" } else { "is" }),
            _ => format!("the last {lost} {} are never seen", names[1]),
        };
        Some(format!("{what}: {}; {} would fit", axis.formula(input).ok()?, fitting(axis, input, side, remedies)))
    };
    if window.h == window.w && height == width {
        let both = sentence(&window.h, height, ["row and column", "rows and columns"], "bottom and right");
        return both.into_iter().collect();
    }
    let rows = sentence(&window.h, height, ["row", "rows"], "bottom");
    let columns = sentence(&window.w, width, ["column", "columns"], "right");
    rows.into_iter().chain(columns).collect()
}

/// Furthest that a fitting setting is looked for.
const NEAR: usize = 64;

/// The settings of one axis, each changed alone, that leave no remainder: `stride 1 or 7, kernel 2 or 4, padding 2`.
fn fitting(axis: &Axis, input: usize, side: &str, remedies: Remedies) -> String {
    let fits = |candidate: &Axis| {
        let most = if remedies.half_padding { candidate.size / 2 } else { usize::MAX };
        candidate.pad_before.max(candidate.pad_after) <= most && candidate.uncovered(input) == Ok(0)
    };
    let near = |name: &str, value: usize, change: &dyn Fn(usize) -> Axis| {
        let below = (1..=NEAR.min(value)).map(|step| value - step).find(|&value| fits(&change(value)));
        let above = (1..=NEAR).map(|step| value.saturating_add(step)).find(|&value| fits(&change(value)));
        let values: Vec<String> = below.into_iter().chain(above).map(|value| value.to_string()).collect();
        (!values.is_empty()).then(|| format!("{name} {}", values.join(" or ")))
    };
    let stride = near("stride", axis.stride, &|stride| Axis { stride, ..*axis });
    let kernel = near("kernel", axis.size, &|size| Axis { size, ..*axis });
    let even = (axis.pad_before == axis.pad_after).then(|| near("padding", axis.pad_before, &|pad| axis.pad(pad))).flatten();
    let padding = even.or_else(|| {
        let more = axis.stride - axis.uncovered(input).ok()?;
        let uneven = Axis { pad_after: axis.pad_after.saturating_add(more), ..*axis };
        fits(&uneven).then(|| format!("a padding of {more} more at the {side}"))
    });
    let ceil = remedies.ceil.then(|| "`ceil`".to_owned());
    [stride, kernel, padding, ceil].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVOLUTION: Remedies = Remedies { half_padding: false, ceil: false };
    const POOLING: Remedies = Remedies { half_padding: true, ceil: true };

    fn square(axis: Axis, size: usize) -> Vec<String> {
        misfits(&Window::square(axis), [size, size], CONVOLUTION)
    }

    #[test]
    fn what_the_course_calls_invalid_is_said_with_what_would_fit() {
        assert_eq!(
            square(Axis::new(3).stride(2), 10),
            ["the last row and column are never seen: (10 − 3 + 2·0)/2 + 1 = 4.5; \
                 stride 1 or 7, kernel 2 or 4, a padding of 1 more at the bottom and right would fit"]
        );
        assert_eq!(
            square(Axis::new(3).stride(3), 7),
            ["the last row and column are never seen: (7 − 3 + 2·0)/3 + 1 = 2.33; stride 2 or 4, kernel 1 or 4, padding 1 would fit"]
        );
        assert_eq!(square(Axis::new(11).stride(4), 227), [""; 0]);
    }

    #[test]
    fn axes_that_differ_are_told_apart() {
        let window = Window { h: Axis::new(2).stride(2), w: Axis::new(4).stride(4) };
        let sentences = misfits(&window, [7, 11], POOLING);
        assert_eq!(sentences.len(), 2);
        assert!(sentences[0].starts_with("the last row is never seen: (7 − 2 + 2·0)/2 + 1 = 3.5; "), "{}", sentences[0]);
        assert!(sentences[1].starts_with("the last 3 columns are never seen: (11 − 4 + 2·0)/4 + 1 = 2.75; "), "{}", sentences[1]);
        assert!(sentences.iter().all(|sentence| sentence.ends_with("`ceil` would fit")));
    }

    #[test]
    fn every_proposed_setting_fits() {
        for (size, stride, pad, input) in [(3, 2, 0, 10), (5, 3, 1, 23), (2, 2, 0, 13), (7, 4, 0, 30)] {
            let axis = Axis::new(size).stride(stride).pad(pad);
            assert!(axis.lost(input).unwrap() > 0, "{axis:?} on {input} fits");
            let text = fitting(&axis, input, "end", CONVOLUTION);
            let mut checked = 0;
            for setting in text.split(", ").filter(|setting| !setting.contains("more")) {
                let (name, values) = setting.split_once(' ').unwrap();
                for value in values.split(" or ").map(|value| value.parse().unwrap()) {
                    let changed = match name {
                        "stride" => axis.stride(value),
                        "kernel" => Axis { size: value, ..axis },
                        _ => axis.pad(value),
                    };
                    assert_eq!(changed.uncovered(input), Ok(0), "{setting} on {input}");
                    checked += 1;
                }
            }
            assert!(checked >= 2, "{text}");
        }
    }

    #[test]
    fn padding_left_out_and_gaps_of_a_large_stride_are_no_loss() {
        // The first layer of a ResNet, and its projections.
        assert_eq!(square(Axis::new(7).stride(2).pad(3), 224), [""; 0]);
        assert_eq!(square(Axis::new(1).stride(2), 56), [""; 0]);
    }
}
