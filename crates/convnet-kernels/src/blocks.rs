//! The channels of a pixel in blocks of a fixed number, which the compiler keeps in registers.

/// The places at which blocks of `N` channels begin; the last block overlaps the one before it when `N` does not divide
/// `c`, and computes the same numbers again. `c` is at least `N`.
#[inline(always)]
pub(crate) fn blocks<const N: usize>(c: usize) -> impl Iterator<Item = usize> {
    (0..c.div_ceil(N)).map(move |block| (block * N).min(c - N))
}

/// `N` numbers from `start` on.
#[inline(always)]
pub(crate) fn block<T, const N: usize>(x: &[T], start: usize) -> &[T; N] {
    x[start..start + N].first_chunk().expect("a slice of N numbers")
}

/// Calls a routine compiled for blocks of channels: the largest that there are enough channels for, and at most 16 or 32,
/// as many as the routine can hold in registers. `f64` is for proofs and goes channel by channel: less to compile.
macro_rules! by_channels {
    (16, $c:expr, $routine:ident::<$T:ident $(, $exponent:ident)?>($($argument:expr),*)) => {
        match $c {
            _ if const { std::mem::size_of::<$T>() > 4 } => $routine::<$T, 1 $(, $exponent)?>($($argument),*),
            0..4 => $routine::<$T, 1 $(, $exponent)?>($($argument),*),
            4..16 => $routine::<$T, 4 $(, $exponent)?>($($argument),*),
            _ => $routine::<$T, 16 $(, $exponent)?>($($argument),*),
        }
    };
    (32, $c:expr, $routine:ident::<$T:ident>($($argument:expr),*)) => {
        match $c {
            _ if const { std::mem::size_of::<$T>() > 4 } => $routine::<$T, 1>($($argument),*),
            0..32 => by_channels!(16, $c, $routine::<$T>($($argument),*)),
            _ => $routine::<$T, 32>($($argument),*),
        }
    };
}
pub(crate) use by_channels;
