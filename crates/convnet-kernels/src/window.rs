//! Sliding windows: the one place of the output-size formula.
//!
//! Along one axis of length W, a window of size F with dilation D spans `D·(F − 1) + 1` elements, moves by the stride S and
//! may hang over the ends by the padding P (given per side). It fits
//!
//! ```text
//! (W + P_before + P_after − (D·(F − 1) + 1)) / S + 1
//! ```
//!
//! times. When the division leaves a remainder the last elements are never covered ([`Rounding::Floor`]) or one more,
//! partial window is added ([`Rounding::Ceil`], pooling only), as Torch7's `nn` does.

use std::fmt;

/// How a window moves along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Number of elements that the window looks at (F).
    pub size: usize,
    /// Distance between neighbouring windows (S), at least 1.
    pub stride: usize,
    /// Padding in front of the first element.
    pub pad_before: usize,
    /// Padding after the last element.
    pub pad_after: usize,
    /// Distance between neighbouring elements of the window; 1 is ordinary.
    pub dilation: usize,
}

/// What to do when the windows do not cover the axis exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// Leave the last elements out.
    #[default]
    Floor,
    /// Add a last window that hangs over the end.
    Ceil,
}

/// Why a window cannot be laid on an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// Size, stride or dilation is zero, or a product of the settings overflows.
    Invalid(String),
    /// The window is larger than the padded axis.
    TooLarge {
        /// Elements that the window spans, dilation included.
        extent: usize,
        /// Length of the axis without padding.
        input: usize,
        /// Length of the axis with padding on both sides.
        padded: usize,
    },
}

impl fmt::Display for WindowError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reason) => formatter.write_str(reason),
            Self::TooLarge { extent, input, padded } => write!(
                formatter,
                "a window of {extent} is larger than the input of {input} ({padded} with padding); \
                 a padding of {} more in all, or a window of at most {padded}, would fit",
                extent - padded
            ),
        }
    }
}

impl std::error::Error for WindowError {}

impl Axis {
    /// A window of this size: stride 1, no padding, dilation 1.
    pub const fn new(size: usize) -> Self {
        Self { size, stride: 1, pad_before: 0, pad_after: 0, dilation: 1 }
    }

    /// Whether each output sees one element of the input, and no padding.
    pub const fn is_pixel(&self) -> bool {
        self.size == 1 && self.pad_before == 0 && self.pad_after == 0
    }

    /// The same window with another stride.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same window with this padding on each side.
    pub const fn pad(self, pad: usize) -> Self {
        Self { pad_before: pad, pad_after: pad, ..self }
    }

    /// The same window with another dilation.
    pub const fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// Number of elements that the window spans: `dilation · (size − 1) + 1`.
    ///
    /// # Errors
    /// A setting is zero where it must not be, or the span overflows.
    pub fn extent(&self) -> Result<usize, WindowError> {
        if self.size == 0 || self.stride == 0 || self.dilation == 0 {
            return Err(WindowError::Invalid(format!(
                "kernel size ({}), stride ({}) and dilation ({}) must each be at least 1",
                self.size, self.stride, self.dilation
            )));
        }
        (self.size - 1)
            .checked_mul(self.dilation)
            .and_then(|span| span.checked_add(1))
            .ok_or_else(|| WindowError::Invalid(format!("a kernel of {} with dilation {} is too large to count", self.size, self.dilation)))
    }

    /// Length of the axis with its padding. It fits an `isize` with room for a span, so that positions can be signed.
    fn padded(&self, input: usize) -> Result<usize, WindowError> {
        let padded = input.checked_add(self.pad_before).and_then(|length| length.checked_add(self.pad_after));
        padded.filter(|&length| length <= isize::MAX as usize / 2).ok_or_else(|| {
            let (before, after) = (self.pad_before, self.pad_after);
            WindowError::Invalid(format!("an input of {input} with padding {before} + {after} is too large to count"))
        })
    }

    /// Number of windows on an axis of this length.
    ///
    /// # Errors
    /// The settings are invalid or the window is larger than the padded axis.
    pub fn output(&self, input: usize, rounding: Rounding) -> Result<usize, WindowError> {
        let extent = self.extent()?;
        let padded = self.padded(input)?;
        if extent > padded {
            return Err(WindowError::TooLarge { extent, input, padded });
        }
        let room = padded - extent;
        if rounding == Rounding::Floor {
            return Ok(room / self.stride + 1);
        }
        let mut output = room.div_ceil(self.stride) + 1;
        // Torch7 drops a last window that would start in the far padding, but looks only when there is padding at all.
        let has_padding = self.pad_before > 0 || self.pad_after > 0;
        if has_padding && (output - 1) * self.stride >= input + self.pad_before {
            output -= 1;
        }
        Ok(output)
    }

    /// Number of elements at the end of the padded axis that no window covers when rounding down.
    ///
    /// # Errors
    /// As [`Axis::output`].
    pub fn uncovered(&self, input: usize) -> Result<usize, WindowError> {
        self.output(input, Rounding::Floor)?;
        Ok((self.padded(input)? - self.extent()?) % self.stride)
    }

    /// How many elements at the end of the axis itself no window covers when rounding down, although a whole step further
    /// one would. Padding that is left out, and gaps no wider than a stride larger than the window leaves everywhere, are
    /// no loss.
    ///
    /// # Errors
    /// As [`Axis::output`].
    pub fn lost(&self, input: usize) -> Result<usize, WindowError> {
        let lost = self.uncovered(input)?.saturating_sub(self.pad_after);
        let gap = self.stride.saturating_sub(self.extent()?);
        Ok(if lost > gap { lost } else { 0 })
    }

    /// The output-size formula with its numbers and its value, `(7 − 3 + 2·0)/3 + 1 = 2.33`. A remainder, however small,
    /// never looks like none.
    ///
    /// # Errors
    /// As [`Axis::output`].
    pub fn formula(&self, input: usize) -> Result<String, WindowError> {
        let (extent, output, remainder) = (self.extent()?, self.output(input, Rounding::Floor)?, self.uncovered(input)?);
        let padding = match (self.pad_before, self.pad_after) {
            (before, after) if before == after => format!("2·{before}"),
            (before, after) => format!("{before} + {after}"),
        };
        let hundredths = (remainder as f64 / self.stride as f64 * 100.0).round().clamp(1.0, 99.0) as u64;
        let fraction = if remainder == 0 { String::new() } else { format!(".{hundredths:02}") };
        Ok(format!("({input} − {extent} + {padding})/{} + 1 = {output}{}", self.stride, fraction.trim_end_matches('0')))
    }

    /// First element of window number `output`, negative when it begins in the padding.
    #[inline]
    pub fn start(&self, output: usize) -> isize {
        (output * self.stride) as isize - self.pad_before as isize
    }

    /// The taps of window `output` that lie inside an axis of length `input`: `first..last` of `0..size`.
    #[inline]
    pub fn taps(&self, output: usize, input: usize) -> std::ops::Range<usize> {
        let start = self.start(output);
        let dilation = self.dilation as isize;
        let first = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
        let last = if start >= input as isize { 0 } else { ((input as isize - start) + dilation - 1) / dilation };
        let last = last.clamp(0, self.size as isize);
        (first.min(last) as usize)..(last as usize)
    }

    /// The outputs for which `tap` lies inside an axis of length `input`: a range of `0..outputs`.
    #[inline]
    pub fn outputs_of_tap(&self, tap: usize, input: usize, outputs: usize) -> std::ops::Range<usize> {
        let offset = (tap * self.dilation) as isize - self.pad_before as isize;
        let stride = self.stride as isize;
        let first = if offset < 0 { (-offset + stride - 1) / stride } else { 0 };
        let last = if offset >= input as isize { 0 } else { (input as isize - offset + stride - 1) / stride };
        let last = last.clamp(0, outputs as isize);
        (first.min(last) as usize)..(last as usize)
    }
}

/// A window over the two axes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Along the height.
    pub h: Axis,
    /// Along the width.
    pub w: Axis,
}

impl Window {
    /// The same window along both axes.
    pub const fn square(axis: Axis) -> Self {
        Self { h: axis, w: axis }
    }

    /// A window of `height` × `width`: stride 1, no padding, dilation 1.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { h: Axis::new(height), w: Axis::new(width) }
    }

    /// The window that looks at one pixel at a time.
    pub const fn pixel() -> Self {
        Self::new(1, 1)
    }

    /// Number of positions the window looks at, R·S.
    pub const fn taps(&self) -> usize {
        self.h.size * self.w.size
    }

    /// Output height and width for an input of `height` × `width`.
    ///
    /// # Errors
    /// As [`Axis::output`], with the name of the axis in front.
    pub fn output(&self, height: usize, width: usize, rounding: Rounding) -> Result<(usize, usize), String> {
        let h = self.h.output(height, rounding).map_err(|error| format!("height: {error}"))?;
        let w = self.w.output(width, rounding).map_err(|error| format!("width: {error}"))?;
        Ok((h, w))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(input: usize, size: usize, stride: usize, pad: usize) -> usize {
        Axis::new(size).stride(stride).pad(pad).output(input, Rounding::Floor).unwrap()
    }

    fn ceil(input: usize, size: usize, stride: usize, pad: usize) -> usize {
        Axis::new(size).stride(stride).pad(pad).output(input, Rounding::Ceil).unwrap()
    }

    #[test]
    fn convolution_sizes_are_those_of_the_course() {
        assert_eq!(floor(32, 5, 1, 2), 32);
        assert_eq!(floor(7, 3, 1, 0), 5);
        assert_eq!(floor(7, 3, 2, 0), 3);
        assert_eq!(floor(7, 3, 3, 0), 2);
        assert_eq!(floor(7, 3, 1, 1), 7);
        assert_eq!(floor(10, 3, 2, 0), 4);
        assert_eq!(floor(227, 11, 4, 0), 55);
        assert_eq!(floor(224, 11, 4, 0), 54);
        assert_eq!(floor(224, 11, 4, 2), 55);
        assert_eq!(floor(5, 3, 2, 1), 3);
        assert_eq!(floor(11, 5, 2, 0), 4);
        assert_eq!((floor(32, 5, 1, 0), floor(28, 5, 1, 0), floor(24, 5, 1, 0)), (28, 24, 20));
    }

    #[test]
    fn pooling_sizes_follow_torchs_exact_rule() {
        assert_eq!(ceil(5, 2, 2, 1), 3);
        assert_eq!(ceil(50, 5, 2, 2), 26);
        assert_eq!(ceil(30, 4, 3, 1), 11);
        assert_eq!((floor(32, 3, 2, 0), ceil(32, 3, 2, 0)), (15, 16));
        assert_eq!(ceil(224, 3, 2, 0), 112);
        assert_eq!((floor(7, 2, 2, 0), ceil(7, 2, 2, 0)), (3, 4));
        // Without padding Torch7 does not drop the window that starts past the end.
        assert_eq!(ceil(6, 1, 2, 0), 4);
    }

    #[test]
    fn torchs_fixture_of_rectangular_windows_holds() {
        let window = Window { h: Axis::new(7).stride(4).pad(2), w: Axis::new(11).stride(3).pad(3) };
        assert_eq!(window.output(50, 60, Rounding::Floor), Ok((12, 19)));
        let pool = Window { h: Axis::new(5).stride(2).pad(2), w: Axis::new(4).stride(3).pad(1) };
        assert_eq!(pool.output(50, 30, Rounding::Ceil), Ok((26, 11)));
    }

    #[test]
    fn what_rounding_down_loses_is_counted() {
        assert_eq!(Axis::new(3).stride(3).uncovered(7), Ok(1));
        assert_eq!(Axis::new(3).stride(2).uncovered(10), Ok(1));
        assert_eq!(Axis::new(11).stride(4).uncovered(224), Ok(1));
        assert_eq!(Axis::new(11).stride(4).uncovered(227), Ok(0));
    }

    #[test]
    fn padding_left_out_and_gaps_of_a_large_stride_are_no_loss() {
        assert_eq!(Axis::new(3).stride(3).lost(7), Ok(1));
        assert_eq!(Axis::new(7).stride(2).pad(3).lost(224), Ok(0));
        assert_eq!(Axis::new(1).stride(2).lost(56), Ok(0));
        assert!(Axis::new(5).lost(3).is_err());
    }

    #[test]
    fn the_formula_shows_a_remainder_however_small() {
        assert_eq!(Axis::new(3).stride(3).formula(7).unwrap(), "(7 − 3 + 2·0)/3 + 1 = 2.33");
        assert_eq!(Axis::new(5).pad(2).formula(32).unwrap(), "(32 − 5 + 2·2)/1 + 1 = 32");
        assert_eq!(Axis::new(1).stride(1000).formula(2000).unwrap(), "(2000 − 1 + 2·0)/1000 + 1 = 2.99");
        let uneven = Axis { pad_after: 1, ..Axis::new(2).stride(500) };
        assert_eq!(uneven.formula(502).unwrap(), "(502 − 2 + 0 + 1)/500 + 1 = 2.01");
    }

    #[test]
    fn a_window_larger_than_its_input_is_an_error_with_the_numbers() {
        let error = Axis::new(5).output(3, Rounding::Floor).unwrap_err();
        assert_eq!(error, WindowError::TooLarge { extent: 5, input: 3, padded: 3 });
        assert!(error.to_string().contains("a padding of 2 more"));
        // Integer division truncating toward zero would call (1 − 2)/2 + 1 a valid size of 1.
        assert!(Axis::new(2).stride(2).output(1, Rounding::Floor).is_err());
    }

    #[test]
    fn absurd_settings_are_errors_not_overflows() {
        assert!(Axis::new(0).output(3, Rounding::Floor).is_err());
        assert!(Axis::new(3).stride(0).output(3, Rounding::Floor).is_err());
        assert!(Axis::new(usize::MAX).dilation(3).output(3, Rounding::Floor).is_err());
        assert!(Axis::new(3).pad(usize::MAX).output(3, Rounding::Floor).is_err());
        assert!(Axis::new(3).pad(1 << 62).output(3, Rounding::Floor).is_err());
    }

    #[test]
    fn taps_and_outputs_are_two_views_of_the_same_pairs() {
        for (size, stride, before, after, dilation, input) in [
            (3, 1, 1, 1, 1, 5),
            (3, 2, 1, 0, 1, 6),
            (5, 3, 4, 2, 2, 9),
            (2, 4, 0, 0, 1, 7),
            (3, 2, 0, 3, 3, 8),
            (1, 2, 0, 0, 1, 6),
            (4, 1, 6, 6, 1, 2),
        ] {
            let axis = Axis { size, stride, pad_before: before, pad_after: after, dilation };
            for rounding in [Rounding::Floor, Rounding::Ceil] {
                let outputs = axis.output(input, rounding).unwrap();
                for output in 0..outputs {
                    for tap in 0..size {
                        let position = (output * stride + tap * dilation) as isize - before as isize;
                        let inside = position >= 0 && position < input as isize;
                        assert_eq!(axis.taps(output, input).contains(&tap), inside, "{axis:?} output {output} tap {tap}");
                        assert_eq!(
                            axis.outputs_of_tap(tap, input, outputs).contains(&output),
                            inside,
                            "{axis:?} output {output} tap {tap}"
                        );
                    }
                }
            }
        }
    }
}
