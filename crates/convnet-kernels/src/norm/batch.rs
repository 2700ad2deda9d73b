//! Batch normalisation: each channel over all images and positions. Channels last, rows × channels.
//!
//! | | |
//! |---|---|
//! | statistics | μ = Σ x / m, σ² = Σ (x − μ)² / m over the m rows |
//! | forward | x̂ = (x − μ) / √(σ² + ε), y = relu(weight · x̂ + bias + residual) |
//! | parameters | dweight = Σ d·x̂, dbias = Σ d, where d = dy, or 0 where the relu cut off |
//! | input | dx = weight / √(σ² + ε) · (d − Σd/m − x̂ · Σ(d·x̂)/m); without the sums when μ and σ² are constants |
//!
//! (Ioffe and Szegedy 2015.) Forward reads x twice, backward reads x and dy twice: once for the sums, once for the result.
//!
//! The sums of squares are of differences from a nearby value, the mean of the first few numbers of each lane, and are put
//! together in `f64` (Chan, Golub and LeVeque 1979), so a mean that is large against the deviation costs no accuracy. The
//! mean is kept as a number and what is missing from it.

mod backward;

use super::strips::{CHANNELS, Strips, parts, parts_mut};
use crate::isa::vector::Vector;
use crate::once::compiled_once;
use crate::stream::{self, Lanewise};
use crate::{Machine, Real, per_isa};

pub use backward::Backward;

/// Numbers for each channel in the statistics: mean, the part of the mean that its type could not hold, 1/√(σ² + ε), σ².
pub const STATISTICS: usize = 4;

/// Strips whose mean is the value that differences are taken from.
const NEARBY: usize = 8;

/// The means in these statistics.
pub fn means<T: Real>(statistics: &[T], channels: usize) -> impl Iterator<Item = f64> {
    let [means, rests] = parts(statistics, channels);
    means.iter().zip(rests).map(|(mean, rest)| mean.to_f64() + rest.to_f64())
}

/// The variances in these statistics.
pub fn variances<T: Real>(statistics: &[T], channels: usize) -> impl Iterator<Item = f64> {
    let [_, _, _, variances] = parts(statistics, channels);
    variances.iter().map(|variance| variance.to_f64())
}

/// How many rows and channels there are, and ε.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// N·H·W
    pub rows: usize,
    /// C
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

/// What [`BatchNorm::forward`] takes.
#[derive(Debug)]
pub struct Forward<'a, T> {
    /// rows × channels; `None` when the output holds it.
    pub x: Option<&'a [T]>,
    /// [`STATISTICS`] × channels.
    pub statistics: &'a [T],
    /// Weight and bias, one number per channel.
    pub affine: Option<[&'a [T]; 2]>,
    /// Added to the output.
    pub residual: Option<&'a [T]>,
    /// Whether negative outputs become zero, after the residual was added.
    pub relu: bool,
    /// rows × channels, written.
    pub y: &'a mut [T],
    /// At least [`BatchNorm::forward_scratch`].
    pub scratch: &'a mut [T],
}

per_isa! {
    /// For each lane of a strip: `shift`, a value near the lane's numbers, and the sums of x − shift and of its square.
    fn moments<T: Real>(x: &[T], shift: &mut [T], sum: &mut [T], square: &mut [T]) {
        let strip = shift.len();
        let nearby = (x.len() / strip).min(NEARBY);
        shift.fill(T::ZERO);
        for x in x.chunks(strip).take(nearby.max(1)) {
            for (shift, &x) in shift.iter_mut().zip(x) {
                *shift += x;
            }
        }
        let share = T::ONE / T::from_usize(nearby.max(1));
        for shift in shift.iter_mut() {
            *shift *= share;
        }
        sum.fill(T::ZERO);
        square.fill(T::ZERO);
        let fours = x.chunks_exact(4 * strip);
        let last = fours.remainder();
        for four in fours {
            let [a, b, c, d] = parts(four, strip);
            let rows = a.iter().zip(b).zip(c).zip(d);
            for ((((((&a, &b), &c), &d), &shift), sum), square) in rows.zip(&*shift).zip(&mut *sum).zip(&mut *square) {
                let [a, b, c, d] = [a - shift, b - shift, c - shift, d - shift];
                *sum += (a + b) + (c + d);
                *square += (a * a + b * b) + (c * c + d * d);
            }
        }
        for x in last.chunks(strip) {
            for (((&x, &shift), sum), square) in x.iter().zip(&*shift).zip(&mut *sum).zip(&mut *square) {
                let difference = x - shift;
                *sum += difference;
                *square += difference * difference;
            }
        }
    }
}

per_isa! {
    /// Mean and Σ (x − mean)² of the channels from `first` on, from what [`moments`] left for each piece.
    fn combine<T: Real>(strips: Strips, partial: &[T], first: usize, mean: &mut [f64], spread: &mut [f64]) {
        let channels = first..first + mean.len();
        let rows = (strips.len / strips.channels) as f64;
        mean.fill(0.0);
        strips.for_lanes(partial, channels.clone(), |count, [shift, sum, _]| {
            for ((mean, shift), sum) in mean.iter_mut().zip(shift).zip(sum) {
                *mean += count * shift.to_f64() + sum.to_f64();
            }
        });
        for mean in mean.iter_mut() {
            *mean /= rows;
        }
        spread.fill(0.0);
        strips.for_lanes(partial, channels, |count, [shift, sum, square]| {
            let share = 1.0 / count;
            for ((((spread, &mean), shift), sum), square) in spread.iter_mut().zip(&*mean).zip(shift).zip(sum).zip(square) {
                let sum = sum.to_f64();
                let inside = square.to_f64() - sum * sum * share;
                let between = shift.to_f64() + sum * share - mean;
                *spread += (if inside < 0.0 { 0.0 } else { inside }) + count * between * between;
            }
        });
    }
}

per_isa! {
    /// The [`STATISTICS`] of some channels, from their means and Σ (x − mean)².
    fn set_statistics<T: Real>(rows: usize, epsilon: f64, mean: &[f64], spread: &[f64], written: [&mut [T]; STATISTICS]) {
        let share = 1.0 / rows as f64;
        let [means, rests, inverses, variances] = written;
        for ((&exact, mean), rest) in mean.iter().zip(means).zip(rests) {
            *mean = T::from_f64(exact);
            *rest = T::from_f64(exact - mean.to_f64());
        }
        for ((&spread, inverse), variance) in spread.iter().zip(inverses).zip(variances) {
            *inverse = T::from_f64(1.0 / (spread * share + epsilon).sqrt());
            *variance = T::from_f64(spread * share);
        }
    }
}

/// (x − mean) · scale + offset, rounded alike wherever it is computed: backward finds out with it where a relu cut off.
#[inline(always)]
fn affine<T: Real>(x: T, [mean, scale, offset]: [T; 3]) -> T {
    (x - mean) * scale + offset
}

/// As [`affine`], to the bit.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn affine_of_vectors<V: Vector>(x: V, [mean, scale, offset]: [V; 3]) -> V {
    // SAFETY: by the contract.
    unsafe { x.sub(mean).mul(scale).add(offset) }
}

/// Writes what [`affine`] takes, for each lane of a strip.
fn write_lanes<T: Real>(strips: Strips, statistics: &[T], affine: Option<[&[T]; 2]>, [mean, scale, offset]: [&mut [T]; 3]) {
    let [means, rests, inverses, _] = parts(statistics, strips.channels);
    let [weight, bias] = affine.map_or([None; 2], |affine| affine.map(Some));
    strips.repeat(mean, |channel| means[channel]);
    strips.repeat(scale, |channel| weight.map_or(T::ONE, |weight| weight[channel]) * inverses[channel]);
    // The rest of the mean is subtracted here, where it costs nothing.
    let offset_of = |channel: usize, scale: T| bias.map_or(T::ZERO, |bias| bias[channel]) - rests[channel] * scale;
    strips.repeat(offset, |channel| offset_of(channel, scale[channel]));
}

per_isa! {
    /// y ← max((x − mean) · scale + offset, floor) for the lanes of each strip; y holds x where there is none.
    fn normalise<T: Real>(lanes: [&[T]; 3], floor: T, x: Option<&[T]>, y: &mut [T]) {
        let [mean, scale, offset] = lanes;
        let strip = mean.len();
        let value = |x: T, mean: T, scale: T, offset: T| {
            let value = affine(x, [mean, scale, offset]);
            if value < floor { floor } else { value }
        };
        match x {
            Some(x) => {
                for (x, y) in x.chunks(strip).zip(y.chunks_mut(strip)) {
                    for ((((y, &x), &mean), &scale), &offset) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(offset) {
                        *y = value(x, mean, scale, offset);
                    }
                }
            }
            None => {
                for y in y.chunks_mut(strip) {
                    for (((y, &mean), &scale), &offset) in y.iter_mut().zip(mean).zip(scale).zip(offset) {
                        *y = value(*y, mean, scale, offset);
                    }
                }
            }
        }
    }
}

per_isa! {
    /// As [`normalise`], with the residual added before the floor.
    fn normalise_and_add<T: Real>(lanes: [&[T]; 3], floor: T, x: Option<&[T]>, residual: &[T], y: &mut [T]) {
        let [mean, scale, offset] = lanes;
        let strip = mean.len();
        let value = |x: T, residual: T, mean: T, scale: T, offset: T| {
            let value = affine(x, [mean, scale, offset]) + residual;
            if value < floor { floor } else { value }
        };
        match x {
            Some(x) => {
                for ((x, residual), y) in x.chunks(strip).zip(residual.chunks(strip)).zip(y.chunks_mut(strip)) {
                    let lanes = mean.iter().zip(scale).zip(offset);
                    for (((y, &x), &residual), ((&mean, &scale), &offset)) in y.iter_mut().zip(x).zip(residual).zip(lanes) {
                        *y = value(x, residual, mean, scale, offset);
                    }
                }
            }
            None => {
                for (residual, y) in residual.chunks(strip).zip(y.chunks_mut(strip)) {
                    let lanes = mean.iter().zip(scale).zip(offset);
                    for ((y, &residual), ((&mean, &scale), &offset)) in y.iter_mut().zip(residual).zip(lanes) {
                        *y = value(*y, residual, mean, scale, offset);
                    }
                }
            }
        }
    }
}

/// [`normalise`] and, with two operands, [`normalise_and_add`], for what goes past the caches.
#[derive(Clone, Copy)]
struct Normalise {
    relu: bool,
}

impl Normalise {
    /// # Safety
    /// The CPU has the instructions of `V`.
    #[inline(always)]
    unsafe fn cut_off<V: Vector>(self, value: V) -> V {
        // SAFETY: by the contract.
        if self.relu { unsafe { value.relu() } } else { value }
    }
}

impl Lanewise<1, 3> for Normalise {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, [x]: [V; 1], lanes: [V; 3]) -> V {
        // SAFETY: by the trait's contract.
        unsafe { self.cut_off(affine_of_vectors(x, lanes)) }
    }
}

impl Lanewise<2, 3> for Normalise {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, [x, residual]: [V; 2], lanes: [V; 3]) -> V {
        // SAFETY: by the trait's contract.
        unsafe { self.cut_off(affine_of_vectors(x, lanes).add(residual)) }
    }
}

impl BatchNorm {
    fn strips(&self) -> Strips {
        Strips::new(self.rows, self.channels)
    }

    /// Working memory of [`batch_statistics`](Self::batch_statistics).
    pub fn statistics_scratch(&self) -> usize {
        let strips = self.strips();
        3 * strips.strip * strips.pieces()
    }

    /// Working memory of [`forward`](Self::forward).
    pub fn forward_scratch(&self) -> usize {
        3 * self.strips().strip
    }

    /// Writes the statistics of x, rows × channels.
    ///
    /// # Panics
    /// If a slice is shorter than it must be.
    pub fn batch_statistics<T: Real>(&self, machine: &Machine, x: &[T], statistics: &mut [T], scratch: &mut [T]) {
        write_batch_statistics(self, machine, x, statistics, scratch);
    }

    /// Writes the statistics that have this mean and this variance, one number per channel.
    ///
    /// # Panics
    /// If a slice is shorter than it must be.
    pub fn running_statistics<T: Real>(&self, mean: &[T], variance: &[T], statistics: &mut [T]) {
        let [means, rests, inverses, variances] = parts_mut(statistics, self.channels);
        means.copy_from_slice(mean);
        rests.fill(T::ZERO);
        for (inverse, variance) in inverses.iter_mut().zip(variance) {
            *inverse = T::from_f64(1.0 / (variance.to_f64() + self.epsilon).sqrt());
        }
        variances.copy_from_slice(variance);
    }

    /// Writes y.
    ///
    /// # Panics
    /// If a slice is shorter than it must be.
    pub fn forward<T: Real>(&self, machine: &Machine, pass: Forward<'_, T>) {
        forward(self, machine, pass);
    }
}

compiled_once! {
    fn write_batch_statistics<T>(norm: &'a BatchNorm, machine: &'a Machine, x: &'a [T], statistics: &'a mut [T], scratch: &'a mut [T]) {
        let strips = norm.strips();
        let partial = &mut scratch[..norm.statistics_scratch()];
        machine.threads.chunks_mut(partial, 3 * strips.strip, |index, partial| {
            let (shift, sums) = partial.split_at_mut(strips.strip);
            let (sum, square) = sums.split_at_mut(strips.strip);
            moments(machine.isa, &x[strips.range(index)], shift, sum, square);
        });
        let statistics: [&mut [T]; STATISTICS] = parts_mut(statistics, norm.channels);
        strips.for_channels(machine, statistics, |channels, written| {
            let (mut mean, mut spread) = ([0.0; CHANNELS], [0.0; CHANNELS]);
            let (mean, spread) = (&mut mean[..channels.len()], &mut spread[..channels.len()]);
            combine(machine.isa, strips, &*partial, channels.start, mean, spread);
            set_statistics(machine.isa, norm.rows, norm.epsilon, mean, spread, written);
        });
    }
}

compiled_once! {
    fn forward<T>(norm: &'a BatchNorm, machine: &'a Machine, pass: Forward<'a, T>) {
        let strips = norm.strips();
        let [mean, scale, offset] = parts_mut(pass.scratch, strips.strip);
        write_lanes(strips, pass.statistics, pass.affine, [&mut *mean, &mut *scale, &mut *offset]);
        let lanes = [&*mean, &*scale, &*offset];
        let floor = if pass.relu { T::ZERO } else { T::NEG_INFINITY };
        let (residual, function) = (pass.residual, Normalise { relu: pass.relu });
        let large_from = stream::large_from(pass.y);
        strips.run_on(machine, pass.x, pass.y, |range, x, y| {
            let residual = residual.map(|residual| &residual[range]);
            let is_written = match (x, residual) {
                (Some(x), None) => stream::write(large_from, machine.isa, function, [x], lanes, y),
                (Some(x), Some(residual)) => stream::write(large_from, machine.isa, function, [x, residual], lanes, y),
                (None, _) => false,
            };
            match residual {
                _ if is_written => {}
                None => normalise(machine.isa, lanes, floor, x, y),
                Some(residual) => normalise_and_add(machine.isa, lanes, floor, x, residual, y),
            }
        });
    }
}

#[cfg(test)]
mod tests;
