//! Softmax and its logarithm over the channels of each position. Channels last, rows × channels.
//!
//! | | softmax | its logarithm |
//! |---|---|---|
//! | forward | yᵢ = e^(xᵢ − m) / Σ e^(xⱼ − m), m the largest x | yᵢ = xᵢ − m − ln Σ e^(xⱼ − m) |
//! | gradient | dxᵢ = yᵢ · (dyᵢ − Σ dyⱼ·yⱼ) | dxᵢ = dyᵢ − e^(yᵢ) · Σ dyⱼ |
//!
//! With the largest x subtracted no exponential overflows, and the largest is 1.

use crate::blocks::{block, blocks, by_channels};
use crate::functions::exp;
use crate::once::compiled_once;
use crate::reduce::join_lanes;
use crate::{Machine, Real, per_isa};

/// Numbers that are worth a piece of work.
const PIECE: usize = 8192;
/// Sums that run side by side, so that no addition waits for the one before it.
const LANES: usize = 16;
/// Numbers of whole rows whose exponentials are taken together, while a core's first cache holds them.
const GROUP: usize = 1024;

/// Calls `work(offset, rows of x, rows of y)` for pieces of whole rows, to write those of y from x, or in place where there is
/// no x.
fn rows<T: Real>(machine: &Machine, channels: usize, x: Option<&[T]>, y: &mut [T], work: impl Fn(usize, Option<&[T]>, &mut [T]) + Sync) {
    assert!(x.is_none_or(|x| x.len() == y.len()), "source and destination are of one length");
    let piece = channels * PIECE.div_ceil(channels);
    machine.threads.chunks_mut(y, piece, |index, y| {
        let start = index * piece;
        work(start, x.map(|x| &x[start..start + y.len()]), y);
    });
}

/// y ← value(x) for each number of a row, or in place where there is no x.
#[inline(always)]
fn set_row<T: Real>(x: Option<&[T]>, y: &mut [T], value: impl Fn(T) -> T) {
    match x {
        Some(x) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = value(x)),
        None => y.iter_mut().for_each(|y| *y = value(*y)),
    }
}

/// All `term(x)` put together with `join`, beginning with `start`: in lanes, which are put together at the end.
#[inline(always)]
fn in_lanes<T: Real>(x: &[T], start: T, term: impl Fn(T) -> T, join: impl Fn(T, T) -> T + Copy) -> T {
    let mut lanes = [start; LANES];
    let blocks = x.chunks_exact(LANES);
    let rest = blocks.remainder().iter().fold(start, |all, &x| join(all, term(x)));
    for x in blocks {
        for (lane, &x) in lanes.iter_mut().zip(x) {
            *lane = join(*lane, term(x));
        }
    }
    join(rest, join_lanes(lanes, join))
}

/// Which numbers of a row's last block no earlier block has: one for these, zero for the others.
#[inline(always)]
fn own_numbers<T: Real, const N: usize>(channels: usize) -> [T; N] {
    let shared = channels.next_multiple_of(N) - channels;
    std::array::from_fn(|number| if number < shared { T::ZERO } else { T::ONE })
}

/// The gradient of one row, in blocks: d ← value(y, dy, Σ term(y, dy)), with dy in d where there is none. `own` are the
/// [`own_numbers`] of the last block, which begins inside of the one before it and is read before that is written.
#[inline(always)]
fn gradient_of_row<T: Real, const N: usize>(
    own: &[T; N],
    y: &[T],
    dy: Option<&[T]>,
    d: &mut [T],
    term: impl Fn(T, T) -> T,
    value: impl Fn(T, T, T) -> T,
) {
    let last = y.len() - N;
    let (last_y, last_dy) = (block::<T, N>(y, last), *block::<T, N>(dy.unwrap_or(d), last));
    let mut sums = [T::ZERO; N];
    for (((sum, &own), &y), &dy) in sums.iter_mut().zip(own).zip(last_y).zip(&last_dy) {
        let term = term(y, dy);
        *sum = if own == T::ONE { term } else { T::ZERO };
    }
    for first in (0..last).step_by(N) {
        let (y, dy) = (block::<T, N>(y, first), block::<T, N>(dy.unwrap_or(d), first));
        for ((sum, &y), &dy) in sums.iter_mut().zip(y).zip(dy) {
            *sum += term(y, dy);
        }
    }
    let sum = join_lanes(sums, |a, b| a + b);
    for first in (0..last).step_by(N) {
        let (y, dy) = (block::<T, N>(y, first), *block::<T, N>(dy.unwrap_or(d), first));
        for ((d, &y), dy) in d[first..first + N].iter_mut().zip(y).zip(dy) {
            *d = value(y, dy, sum);
        }
    }
    for ((d, &y), dy) in d[last..].iter_mut().zip(last_y).zip(last_dy) {
        *d = value(y, dy, sum);
    }
}

#[inline(always)]
fn sum<T: Real>(x: &[T]) -> T {
    in_lanes(x, T::ZERO, |x| x, |sum, x| sum + x)
}

/// The largest number of a row: blocks may share numbers.
#[inline(always)]
fn largest<T: Real, const N: usize>(x: &[T]) -> T {
    let larger = |most: T, x: T| if x > most { x } else { most };
    let mut lanes = [T::NEG_INFINITY; N];
    for first in blocks::<N>(x.len()) {
        for (lane, &x) in lanes.iter_mut().zip(block::<T, N>(x, first)) {
            *lane = larger(*lane, x);
        }
    }
    join_lanes(lanes, larger)
}

/// As [`set_row`], in blocks: the last one begins inside of the one before it, and is read before that is written.
#[inline(always)]
fn set_in_blocks<T: Real, const N: usize>(x: Option<&[T]>, y: &mut [T], value: impl Fn(T) -> T) {
    let last = y.len() - N;
    let mut last_block = *block::<T, N>(x.unwrap_or(y), last);
    for first in (0..last).step_by(N) {
        let x = *block::<T, N>(x.unwrap_or(y), first);
        for (y, x) in y[first..first + N].iter_mut().zip(x) {
            *y = value(x);
        }
    }
    for x in &mut last_block {
        *x = value(*x);
    }
    y[last..].copy_from_slice(&last_block);
}

per_isa! {
    fn softmax_rows<T: Real, const N: usize>(channels: usize, x: Option<&[T]>, y: &mut [T]) {
        let group = channels * GROUP.div_ceil(channels);
        for (index, y) in y.chunks_mut(group).enumerate() {
            for (row, y) in y.chunks_exact_mut(channels).enumerate() {
                let x = x.map(|x| &x[index * group + row * channels..][..channels]);
                let most = largest::<T, N>(x.unwrap_or(y));
                set_in_blocks::<T, N>(x, y, |x| x - most);
            }
            // Rows end anywhere in a vector, but here that is of no matter.
            y.iter_mut().for_each(|y| *y = exp(*y));
            for y in y.chunks_exact_mut(channels) {
                let share = T::ONE / sum(y);
                set_in_blocks::<T, N>(None, y, |y| y * share);
            }
        }
    }
}

compiled_once! {
    /// y ← softmax of each row of x, or of y where there is none.
    ///
    /// # Panics
    /// If `channels` is zero or `x` has another length than `y`.
    pub fn softmax<T>(machine: &'a Machine, channels: usize, x: Option<&'a [T]>, y: &'a mut [T]) {
        rows(machine, channels, x, y, |_, x, y| by_channels!(16, channels, softmax_rows::<T>(machine.isa, channels, x, y)));
    }
}

per_isa! {
    fn softmax_gradient_rows<T: Real, const N: usize>(channels: usize, y: &[T], dy: Option<&[T]>, d: &mut [T]) {
        let own = own_numbers::<T, N>(channels);
        for (row, (y, d)) in y.chunks_exact(channels).zip(d.chunks_exact_mut(channels)).enumerate() {
            let dy = dy.map(|dy| &dy[row * channels..][..channels]);
            gradient_of_row(&own, y, dy, d, |y, dy| y * dy, |y, dy, products| y * (dy - products));
        }
    }
}

compiled_once! {
    /// dx ← y · (dy − Σ dy·y) for each row: the gradient of [`softmax`] from its output y. dx holds dy where there is none.
    ///
    /// # Panics
    /// As [`softmax`].
    pub fn softmax_gradient<T>(machine: &'a Machine, channels: usize, y: &'a [T], dy: Option<&'a [T]>, dx: &'a mut [T]) {
        rows(machine, channels, dy, dx, |start, dy, d| {
            by_channels!(16, channels, softmax_gradient_rows::<T>(machine.isa, channels, &y[start..start + d.len()], dy, d))
        });
    }
}

per_isa! {
    fn log_softmax_rows<T: Real, const N: usize>(channels: usize, x: Option<&[T]>, y: &mut [T]) {
        for (row, y) in y.chunks_exact_mut(channels).enumerate() {
            let x = x.map(|x| &x[row * channels..][..channels]);
            let most = largest::<T, N>(x.unwrap_or(y));
            let logarithm = in_lanes(x.unwrap_or(y), T::ZERO, |x| exp(x - most), |sum, power| sum + power).ln();
            set_row(x, y, |x| x - most - logarithm);
        }
    }
}

compiled_once! {
    /// y ← ln softmax of each row of x, or of y where there is none.
    ///
    /// # Panics
    /// As [`softmax`].
    pub fn log_softmax<T>(machine: &'a Machine, channels: usize, x: Option<&'a [T]>, y: &'a mut [T]) {
        rows(machine, channels, x, y, |_, x, y| by_channels!(16, channels, log_softmax_rows::<T>(machine.isa, channels, x, y)));
    }
}

per_isa! {
    fn log_softmax_gradient_rows<T: Real, const N: usize>(channels: usize, y: &[T], dy: Option<&[T]>, d: &mut [T]) {
        let own = own_numbers::<T, N>(channels);
        for (row, (y, d)) in y.chunks_exact(channels).zip(d.chunks_exact_mut(channels)).enumerate() {
            let dy = dy.map(|dy| &dy[row * channels..][..channels]);
            gradient_of_row(&own, y, dy, d, |_, dy| dy, |y, dy, total| dy - exp(y) * total);
        }
    }
}

compiled_once! {
    /// dx ← dy − eʸ · Σ dy for each row: the gradient of [`log_softmax`] from its output y. dx holds dy where there is none.
    ///
    /// # Panics
    /// As [`softmax`].
    pub fn log_softmax_gradient<T>(machine: &'a Machine, channels: usize, y: &'a [T], dy: Option<&'a [T]>, dx: &'a mut [T]) {
        rows(machine, channels, dy, dx, |start, dy, d| {
            by_channels!(16, channels, log_softmax_gradient_rows::<T>(machine.isa, channels, &y[start..start + d.len()], dy, d))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    fn numbers(count: usize, limit: f32) -> Vec<f32> {
        (0..count).map(|place| limit * ((place * 7919 % 4001) as f32 / 2000.0 - 1.0)).collect()
    }

    #[test]
    fn rows_sum_to_one_and_the_logarithm_is_exact_however_far_apart_the_scores_are() {
        for (rows, channels, limit) in [(3, 10, 5.0), (2, 1, 1e4), (400, 100, 1e4), (20, 1000, 30.0), (7, 33, 1e4)] {
            let x = numbers(rows * channels, limit);
            for isa in Isa::available() {
                let machine = Machine::new(isa, 2);
                let (mut y, mut logarithm) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                softmax(&machine, channels, Some(&x), &mut y);
                log_softmax(&machine, channels, Some(&x), &mut logarithm);
                for row in 0..rows {
                    let range = row * channels..(row + 1) * channels;
                    let x: Vec<f64> = x[range.clone()].iter().map(|&x| f64::from(x)).collect();
                    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let total: f64 = x.iter().map(|x| (x - most).exp()).sum();
                    let sum: f64 = y[range.clone()].iter().map(|&y| f64::from(y)).sum();
                    assert!((sum - 1.0).abs() <= 4e-7, "{isa}: {sum}");
                    for (x, place) in x.iter().zip(range) {
                        let exact = (x - most).exp() / total;
                        // x − m is rounded once, which the exponential multiplies by e^(x − m).
                        assert!((f64::from(y[place]) - exact).abs() <= 4.0 * f64::from(f32::EPSILON) * exact.max(1e-3), "{isa}");
                        let exact = x - most - total.ln();
                        let error = (f64::from(logarithm[place]) - exact).abs();
                        assert!(error <= 4.0 * f64::from(f32::EPSILON) * exact.abs().max(1.0), "{isa}: {} {exact}", logarithm[place]);
                    }
                }
            }
        }
    }

    #[test]
    fn threads_and_working_in_place_change_no_bit() {
        type Forward = fn(&Machine, usize, Option<&[f32]>, &mut [f32]);
        type Backward = fn(&Machine, usize, &[f32], Option<&[f32]>, &mut [f32]);
        let (channels, x) = (37, numbers(37 * 1500, 4.0));
        let dy = numbers(x.len(), 1.7);
        let both: [(Forward, Backward); 2] = [(softmax, softmax_gradient), (log_softmax, log_softmax_gradient)];
        for (forward, backward) in both {
            for isa in Isa::available() {
                let (mut y, mut dx) = (x.clone(), dy.clone());
                forward(&Machine::new(isa, 1), channels, None, &mut y);
                backward(&Machine::new(isa, 1), channels, &y, None, &mut dx);
                for threads in [2, 3, 8] {
                    let machine = Machine::new(isa, threads);
                    let (mut again, mut dx_again) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                    forward(&machine, channels, Some(&x), &mut again);
                    backward(&machine, channels, &y, Some(&dy), &mut dx_again);
                    assert_eq!([&y, &dx], [&again, &dx_again], "{isa}, {threads} threads");
                }
            }
        }
    }

    #[test]
    fn a_nan_or_an_infinite_score_makes_the_row_a_nan_as_in_pytorch() {
        let machine = Machine::new(Isa::detect(), 1);
        for odd in [f32::NAN, f32::INFINITY] {
            let mut y = [0.0, odd, 1.0, 0.0, 0.0, 0.0];
            softmax(&machine, 3, None, &mut y);
            assert!(y[1].is_nan() && y[3..].iter().all(|&y| (y - 1.0 / 3.0).abs() < 1e-7), "{y:?}");
        }
        let mut y = [f32::NEG_INFINITY, 0.0, 0.0];
        softmax(&machine, 3, None, &mut y);
        assert_eq!(y, [0.0, 0.5, 0.5]);
    }
}
