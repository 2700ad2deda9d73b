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

use super::strips::{CHANNELS, Strips, parts, parts_mut};
use crate::isa::vector::Vector;
use crate::once::compiled_once;
use crate::stream::{self, Lanewise};
use crate::{Machine, Real, per_isa};

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

/// What [`BatchNorm::backward`] takes.
#[derive(Debug)]
pub struct Backward<'a, T> {
    /// rows × channels.
    pub x: &'a [T],
    /// rows × channels; `None` when dx holds it.
    pub dy: Option<&'a [T]>,
    /// The output when a relu was part of it: dy counts only where it is positive.
    pub relu_output: Option<&'a [T]>,
    /// [`STATISTICS`] × channels, as in forward.
    pub statistics: &'a [T],
    /// Whether the statistics are those of x, so that they move with it.
    pub of_batch: bool,
    /// One number per channel, 1 when there is none.
    pub weight: Option<&'a [T]>,
    /// rows × channels, written.
    pub dx: Option<&'a mut [T]>,
    /// Gradients of weight and bias, one number per channel, added to.
    pub daffine: Option<[&'a mut [T]; 2]>,
    /// At least [`BatchNorm::backward_scratch`].
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

per_isa! {
    /// y ← max((x − mean) · scale + offset, floor) for the lanes of each strip; y holds x where there is none.
    fn normalise<T: Real>(lanes: [&[T]; 3], floor: T, x: Option<&[T]>, y: &mut [T]) {
        let [mean, scale, offset] = lanes;
        let strip = mean.len();
        let value = |x: T, mean: T, scale: T, offset: T| {
            let value = (x - mean) * scale + offset;
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
            let value = (x - mean) * scale + offset + residual;
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
    unsafe fn value<V: Vector>(self, [x]: [V; 1], [mean, scale, offset]: [V; 3]) -> V {
        // SAFETY: by the trait's contract.
        unsafe { self.cut_off(x.sub(mean).mul(scale).add(offset)) }
    }
}

impl Lanewise<2, 3> for Normalise {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, [x, residual]: [V; 2], [mean, scale, offset]: [V; 3]) -> V {
        // SAFETY: by the trait's contract.
        unsafe { self.cut_off(x.sub(mean).mul(scale).add(offset).add(residual)) }
    }
}

/// dy, or 0 where a relu cut off (N = 1 says that there was one).
#[inline(always)]
fn through_relu<T: Real, const N: usize>(dy: T, output: T) -> T {
    if N == 0 || output > T::ZERO { dy } else { T::ZERO }
}

per_isa! {
    /// For each lane of a strip: the sums of d and of d · (x − mean). `output` is read when N = 1, for the relu.
    fn gradient_sums<T: Real, const N: usize>(x: &[T], dy: &[T], output: &[T], mean: &[T], sum: &mut [T], product: &mut [T]) {
        let strip = mean.len();
        sum.fill(T::ZERO);
        product.fill(T::ZERO);
        let pair = 2 * strip;
        for ((x, dy), output) in x.chunks(pair).zip(dy.chunks(pair)).zip(output.chunks(pair)) {
            if x.len() < pair {
                for ((x, dy), output) in x.chunks(strip).zip(dy.chunks(strip)).zip(output.chunks(strip)) {
                    let lanes = x.iter().zip(dy).zip(output).zip(mean).zip(&mut *sum).zip(&mut *product);
                    for (((((&x, &dy), &output), &mean), sum), product) in lanes {
                        let d = through_relu::<T, N>(dy, output);
                        *sum += d;
                        *product += d * (x - mean);
                    }
                }
                break;
            }
            let ([x, next_x], [dy, next_dy], [output, next_output]) = (parts(x, strip), parts(dy, strip), parts(output, strip));
            let lanes = x.iter().zip(next_x).zip(dy.iter().zip(next_dy)).zip(output.iter().zip(next_output));
            for (((((x, dy), output), &mean), sum), product) in lanes.zip(mean).zip(&mut *sum).zip(&mut *product) {
                let [d, next_d] = [through_relu::<T, N>(*dy.0, *output.0), through_relu::<T, N>(*dy.1, *output.1)];
                *sum += d + next_d;
                *product += d * (*x.0 - mean) + next_d * (*x.1 - mean);
            }
        }
    }
}

per_isa! {
    /// d ← scale · (dy − constant − (x − mean) · slope) for the lanes of each strip; d holds dy where there is none. `output`
    /// is read when N = 1.
    fn input_gradient<T: Real, const N: usize>(x: &[T], dy: Option<&[T]>, output: &[T], lanes: [&[T]; 4], d: &mut [T]) {
        let [mean, scale, constant, slope] = lanes;
        let strip = mean.len();
        let value = |x: T, d: T, output: T, lanes: [T; 4]| {
            let [mean, scale, constant, slope] = lanes;
            scale * (through_relu::<T, N>(d, output) - constant - (x - mean) * slope)
        };
        for (index, ((x, output), d)) in x.chunks(strip).zip(output.chunks(strip)).zip(d.chunks_mut(strip)).enumerate() {
            let lanes = mean.iter().zip(scale).zip(constant.iter().zip(slope));
            let lanes = lanes.map(|((&mean, &scale), (&constant, &slope))| [mean, scale, constant, slope]);
            match dy.map(|dy| &dy[index * strip..][..d.len()]) {
                Some(dy) => {
                    for ((((d, &dy), &x), &output), lanes) in d.iter_mut().zip(dy).zip(x).zip(output).zip(lanes) {
                        *d = value(x, dy, output, lanes);
                    }
                }
                None => {
                    for (((d, &x), &output), lanes) in d.iter_mut().zip(x).zip(output).zip(lanes) {
                        *d = value(x, *d, output, lanes);
                    }
                }
            }
        }
    }
}

per_isa! {
    /// Adds dweight = Σ d·x̂ and dbias = Σ d of some channels, from the sums of d and of d · (x − mean), where these are wanted.
    fn add_affine_gradients<T: Real>(sums: [&[f64]; 2], statistics: [&[T]; 2], dweight: &mut [T], dbias: &mut [T]) {
        let ([sum, product], [rest, inverse]) = (sums, statistics);
        for ((((&sum, &product), rest), inverse), dweight) in sum.iter().zip(product).zip(rest).zip(inverse).zip(dweight) {
            *dweight += T::from_f64((product - rest.to_f64() * sum) * inverse.to_f64());
        }
        for (&sum, dbias) in sum.iter().zip(dbias) {
            *dbias += T::from_f64(sum);
        }
    }
}

per_isa! {
    /// What [`input_gradient`] takes of some channels beside the mean and the scale, from the same sums.
    fn set_gradient_lanes<T: Real>(rows: usize, sums: [&[f64]; 2], statistics: [&[T]; 2], slope: &mut [T], constant: &mut [T]) {
        let ([sum, product], [rest, inverse]) = (sums, statistics);
        let share = 1.0 / rows as f64;
        let lanes = sum.iter().zip(product).zip(rest).zip(inverse).zip(slope).zip(constant);
        for (((((&sum, &product), rest), inverse), slope), constant) in lanes {
            let (rest, inverse) = (rest.to_f64(), inverse.to_f64());
            let exact = (product - rest * sum) * inverse * inverse * share;
            *slope = T::from_f64(exact);
            *constant = T::from_f64(sum * share - rest * exact);
        }
    }
}

/// [`input_gradient`] for what goes past the caches; with three operands, the output of a relu is the last.
#[derive(Clone, Copy)]
struct InputGradient;

impl Lanewise<2, 4> for InputGradient {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, [x, d]: [V; 2], [mean, scale, constant, slope]: [V; 4]) -> V {
        // SAFETY: by the trait's contract.
        unsafe { scale.mul(d.sub(constant).sub(x.sub(mean).mul(slope))) }
    }
}

impl Lanewise<3, 4> for InputGradient {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, [x, d, output]: [V; 3], lanes: [V; 4]) -> V {
        // SAFETY: by the trait's contract.
        unsafe { self.value([x, d.where_positive(output)], lanes) }
    }
}

/// [`gradient_sums`] of every piece.
fn gradient_sums_of_pieces<T: Real>(
    machine: &Machine,
    strips: Strips,
    [x, dy]: [&[T]; 2],
    output: Option<&[T]>,
    mean: &[T],
    partial: &mut [T],
) {
    machine.threads.chunks_mut(partial, 2 * strips.strip, |index, partial| {
        let range = strips.range(index);
        let (x, dy) = (&x[range.clone()], &dy[range.clone()]);
        let (sum, product) = partial.split_at_mut(strips.strip);
        match output {
            None => gradient_sums::<T, 0>(machine.isa, x, dy, dy, mean, sum, product),
            Some(output) => gradient_sums::<T, 1>(machine.isa, x, dy, &output[range], mean, sum, product),
        }
    });
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

    /// Working memory of [`backward`](Self::backward).
    pub fn backward_scratch(&self) -> usize {
        let strips = self.strips();
        (4 + 2 * strips.pieces()) * strips.strip
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

    /// Writes dx and adds to the gradients of weight and bias.
    ///
    /// # Panics
    /// If a slice is shorter than it must be.
    pub fn backward<T: Real>(&self, machine: &Machine, pass: Backward<'_, T>) {
        backward(self, machine, pass);
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
        let [means, rests, inverses, _] = parts(pass.statistics, norm.channels);
        let [weight, bias] = pass.affine.map_or([None; 2], |affine| affine.map(Some));
        let [mean, scale, offset] = parts_mut(pass.scratch, strips.strip);
        strips.repeat(mean, |channel| means[channel]);
        strips.repeat(scale, |channel| weight.map_or(T::ONE, |weight| weight[channel]) * inverses[channel]);
        // The rest of the mean is subtracted here, where it costs nothing.
        let offset_of = |channel: usize, scale: T| bias.map_or(T::ZERO, |bias| bias[channel]) - rests[channel] * scale;
        strips.repeat(offset, |channel| offset_of(channel, scale[channel]));
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

compiled_once! {
    fn backward<T>(norm: &'a BatchNorm, machine: &'a Machine, pass: Backward<'a, T>) {
        let Backward { x, dy, relu_output, statistics, of_batch, weight, dx, daffine, scratch } = pass;
        let strips = norm.strips();
        let [means, rests, inverses, _] = parts(statistics, norm.channels);
        let (lanes, partial) = scratch.split_at_mut(4 * strips.strip);
        let [mean, scale, constant, slope] = parts_mut(lanes, strips.strip);
        strips.repeat(mean, |channel| means[channel]);
        strips.repeat(scale, |channel| weight.map_or(T::ONE, |weight| weight[channel]) * inverses[channel]);
        constant.fill(T::ZERO);
        slope.fill(T::ZERO);

        if of_batch || daffine.is_some() {
            let partial = &mut partial[..2 * strips.strip * strips.pieces()];
            let d = dy.unwrap_or_else(|| dx.as_deref().unwrap_or_default());
            gradient_sums_of_pieces(machine, strips, [x, d], relu_output, mean, partial);
            let [dweight, dbias]: [&mut [T]; 2] = daffine.unwrap_or_default();
            let lists = [dweight, dbias, &mut slope[..norm.channels], &mut constant[..norm.channels]];
            strips.for_sums(machine, partial, lists, |channels, sums, [dweight, dbias, slope, constant]| {
                let statistics = [&rests[channels.clone()], &inverses[channels]];
                add_affine_gradients(machine.isa, sums, statistics, dweight, dbias);
                if of_batch {
                    set_gradient_lanes(machine.isa, norm.rows, sums, statistics, slope, constant);
                }
            });
            strips.spread(constant);
            strips.spread(slope);
        }
        if let Some(dx) = dx {
            let lanes = [&*mean, &*scale, &*constant, &*slope];
            let large_from = stream::large_from(dx);
            strips.run_on(machine, dy, dx, |range, dy, dx| {
                let (x, output) = (&x[range.clone()], relu_output.map(|output| &output[range]));
                let is_written = match (dy, output) {
                    (Some(dy), None) => stream::write(large_from, machine.isa, InputGradient, [x, dy], lanes, dx),
                    (Some(dy), Some(output)) => stream::write(large_from, machine.isa, InputGradient, [x, dy, output], lanes, dx),
                    (None, _) => false,
                };
                match output {
                    _ if is_written => {}
                    None => input_gradient::<T, 0>(machine.isa, x, dy, x, lanes, dx),
                    Some(output) => input_gradient::<T, 1>(machine.isa, x, dy, output, lanes, dx),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
