//! Pooling: each output number is the maximum, the mean or the L_p norm of a window of one channel.
//!
//! Images lie channels last, so every routine is a loop over windows around a loop over channels, which is the one that
//! runs in vectors. The gradients are gathered: an input pixel asks each window that it lies in for its share, so that
//! every number is written once, by one thread.

mod average;
mod lp;
mod max;

pub use average::{average_backward, average_forward};
pub use lp::{lp_backward, lp_forward};
pub use max::{NO_ELEMENT, max_backward, max_forward};

use crate::window::{Axis, Rounding, Window};

/// Numbers that are worth a piece of work.
const PIECE: usize = 1 << 14;

/// Channels whose numbers are a long way for memory to be read in order.
const MANY_CHANNELS: usize = 128;

/// How one axis is divided into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Windows {
    /// By a sliding window.
    Sliding(Axis),
    /// Into as many windows as there are outputs: window i is ⌊i·in/out⌋ … ⌈(i + 1)·in/out⌉.
    Adaptive,
}

/// One axis of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PoolAxis {
    windows: Windows,
    input: usize,
    output: usize,
}

/// The elements of one window that lie inside the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: usize,
    count: usize,
    /// Distance between neighbours.
    step: usize,
    /// Elements that lie inside the padded input.
    padded: usize,
}

impl Span {
    #[inline(always)]
    fn at(&self, tap: usize) -> usize {
        self.first + tap * self.step
    }
}

impl PoolAxis {
    /// The elements that window `output` covers.
    #[inline(always)]
    fn span(&self, output: usize) -> Span {
        match self.windows {
            Windows::Sliding(axis) => {
                let start = axis.start(output);
                let end = (self.input as isize - start).max(0) as usize;
                // The common case needs no division.
                let taps_before = |length: usize| {
                    let taps = if axis.dilation == 1 { length } else { length.div_ceil(axis.dilation) };
                    taps.min(axis.size)
                };
                let outside = taps_before((-start).max(0) as usize);
                let first = (start + (outside * axis.dilation) as isize).max(0) as usize;
                let count = taps_before(end).saturating_sub(outside);
                let padded = taps_before((self.input as isize + axis.pad_after as isize - start).max(0) as usize);
                Span { first, count, step: axis.dilation, padded }
            }
            Windows::Adaptive => {
                let first = output * self.input / self.output;
                let count = ((output + 1) * self.input).div_ceil(self.output) - first;
                Span { first, count, step: 1, padded: count }
            }
        }
    }

    /// The windows whose first and last element enclose the element at `input`: all that cover it, and with a dilation
    /// also some that step over it.
    #[inline(always)]
    fn around(&self, input: usize) -> std::ops::Range<usize> {
        match self.windows {
            Windows::Sliding(axis) => {
                let place = input + axis.pad_before;
                let reach = (axis.size - 1) * axis.dilation;
                let (first, last) = match axis.stride {
                    1 => (place.saturating_sub(reach), place),
                    stride => (place.saturating_sub(reach).div_ceil(stride), place / stride),
                };
                first..(last + 1).min(self.output)
            }
            Windows::Adaptive => {
                let first = input * self.output / self.input;
                first..((input + 1) * self.output).div_ceil(self.input)
            }
        }
    }
}

/// A pooling whose sizes are known to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    n: usize,
    c: usize,
    h: PoolAxis,
    w: PoolAxis,
}

impl PoolShape {
    /// `n` images of `c`×`h`×`w` under a sliding window.
    ///
    /// # Errors
    /// A size is zero, the window does not fit, or a buffer would be too large to address.
    pub fn sliding(n: usize, c: usize, [h, w]: [usize; 2], window: Window, rounding: Rounding) -> Result<Self, String> {
        let (oh, ow) = window.output(h, w, rounding)?;
        let h = PoolAxis { windows: Windows::Sliding(window.h), input: h, output: oh };
        let w = PoolAxis { windows: Windows::Sliding(window.w), input: w, output: ow };
        Self { n, c, h, w }.checked()
    }

    /// `n` images of `c`×`h`×`w`, pooled to `oh`×`ow` by windows that cover the whole image; 1×1 is global pooling.
    ///
    /// # Errors
    /// A size is zero, or a buffer would be too large to address.
    pub fn adaptive(n: usize, c: usize, [h, w]: [usize; 2], [oh, ow]: [usize; 2]) -> Result<Self, String> {
        let axis = |input, output| PoolAxis { windows: Windows::Adaptive, input, output };
        Self { n, c, h: axis(h, oh), w: axis(w, ow) }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let Self { n, c, h, w } = self;
        if [n, c, h.input, w.input, h.output, w.output].contains(&0) {
            let sizes = format!("batch {n}, input {c}x{}x{}, output {c}x{}x{}", h.input, w.input, h.output, w.output);
            return Err(format!("every size must be at least 1: {sizes}"));
        }
        for (name, sizes) in [("input", [n, c, h.input, w.input]), ("output", [n, c, h.output, w.output])] {
            let bytes = sizes.iter().try_fold(std::mem::size_of::<f64>(), |product, &size| product.checked_mul(size));
            if bytes.is_none_or(|bytes| bytes > isize::MAX as usize / 4) {
                let sizes = sizes.map(|size| size.to_string()).join("·");
                return Err(format!("the {name} of {sizes} numbers would be too large to address"));
            }
        }
        for axis in [h, w] {
            if axis.input.checked_mul(axis.output + 1).is_none() {
                return Err(format!("{} windows on an axis of {} are too many to count", axis.output, axis.input));
            }
        }
        if h.input.checked_mul(w.input).is_none_or(|pixels| pixels >= NO_ELEMENT as usize) {
            return Err(format!("an image of {}x{} has more pixels than can be numbered", h.input, w.input));
        }
        Ok(self)
    }

    /// Output height.
    pub fn oh(&self) -> usize {
        self.h.output
    }
    /// Output width.
    pub fn ow(&self) -> usize {
        self.w.output
    }
    /// Numbers in the input, N·H·W·C.
    pub fn input_len(&self) -> usize {
        self.n * self.input_image()
    }
    /// Numbers in the output, N·OH·OW·C.
    pub fn output_len(&self) -> usize {
        self.n * self.output_image()
    }

    /// Whether some window lies beside the input altogether.
    pub fn has_empty_window(&self) -> bool {
        // Only a window that begins before or ends behind the input can, and those are the first and the last.
        [self.h, self.w].into_iter().any(|axis| [0, axis.output - 1].into_iter().any(|output| axis.span(output).count == 0))
    }

    fn input_image(&self) -> usize {
        self.h.input * self.w.input * self.c
    }

    fn output_image(&self) -> usize {
        self.h.output * self.w.output * self.c
    }

    /// Whether the pixels of a window should be read one after the other, all channels of each at once: memory is then read
    /// in the order in which it lies. Where windows share pixels these come from a cache anyway.
    fn pays_in_order(&self) -> bool {
        let apart = |axis: PoolAxis| match axis.windows {
            Windows::Sliding(window) => window.stride >= window.size && window.dilation == 1,
            Windows::Adaptive => axis.input.is_multiple_of(axis.output),
        };
        self.c >= MANY_CHANNELS && apart(self.h) && apart(self.w)
    }

    /// Rows of the output, or of the input, that one piece of work writes.
    fn rows_of_piece(&self, rows_of_image: usize) -> usize {
        let per_row = (self.input_image() + self.output_image()) / rows_of_image;
        PIECE.div_ceil(per_row.max(1))
    }
}

/// Makes a routine for both number types whose two forms are compiled here, once, and not again wherever it is called.
macro_rules! compiled_here {
    ($(#[$meta:meta])* pub fn $name:ident<$T:ident>($($argument:ident: $type:ty),*) = $routine:ident) => {
        $(#[$meta])*
        pub fn $name<'a, $T: Real>(machine: &Machine, shape: &PoolShape, $($argument: $type),*) {
            struct Arguments<'a>(std::marker::PhantomData<&'a ()>);
            impl<'a> Generic for Arguments<'a> {
                type Of<$T: Real> = ($($type,)*);
            }
            #[inline(never)]
            fn on_f32<'a>(machine: &Machine, shape: &PoolShape, ($($argument,)*): <Arguments<'a> as Generic>::Of<f32>) {
                $routine::<f32>(machine, shape, $($argument),*);
            }
            #[inline(never)]
            fn on_f64<'a>(machine: &Machine, shape: &PoolShape, ($($argument,)*): <Arguments<'a> as Generic>::Of<f64>) {
                $routine::<f64>(machine, shape, $($argument),*);
            }
            $T::pick::<Arguments<'a>, _>(
                ($($argument,)*),
                |arguments| on_f32(machine, shape, arguments),
                |arguments| on_f64(machine, shape, arguments),
            );
        }
    };
}
use compiled_here;

#[cfg(test)]
mod tests;
