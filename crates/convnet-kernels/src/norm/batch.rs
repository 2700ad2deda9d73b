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
use crate::once::compiled_once;
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
        let pairs = x.chunks_exact(2 * strip);
        let last = pairs.remainder();
        for pair in pairs {
            let (x, next) = pair.split_at(strip);
            for ((((&x, &next), &shift), sum), square) in x.iter().zip(next).zip(&*shift).zip(&mut *sum).zip(&mut *square) {
                let [x, next] = [x - shift, next - shift];
                *sum += x + next;
                *square += x * x + next * next;
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
    /// y ← max((y − mean) · scale + offset, floor) for the lanes of each strip.
    fn normalise<T: Real>(lanes: [&[T]; 3], floor: T, y: &mut [T]) {
        let [mean, scale, offset] = lanes;
        for y in y.chunks_mut(mean.len()) {
            for (((y, &mean), &scale), &offset) in y.iter_mut().zip(mean).zip(scale).zip(offset) {
                let value = (*y - mean) * scale + offset;
                *y = if value < floor { floor } else { value };
            }
        }
    }
}

per_isa! {
    /// As [`normalise`], but from x, and with the residual added before the floor.
    fn normalise_and_add<T: Real>(lanes: [&[T]; 3], floor: T, residual: &[T], y: &mut [T]) {
        let [mean, scale, offset] = lanes;
        let strip = mean.len();
        for (residual, y) in residual.chunks(strip).zip(y.chunks_mut(strip)) {
            for ((((y, &residual), &mean), &scale), &offset) in y.iter_mut().zip(residual).zip(mean).zip(scale).zip(offset) {
                let value = (*y - mean) * scale + offset + residual;
                *y = if value < floor { floor } else { value };
            }
        }
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
        for ((x, dy), output) in x.chunks(strip).zip(dy.chunks(strip)).zip(output.chunks(strip)) {
            let lanes = x.iter().zip(dy).zip(output).zip(mean).zip(&mut *sum).zip(&mut *product);
            for (((((&x, &dy), &output), &mean), sum), product) in lanes {
                let d = through_relu::<T, N>(dy, output);
                *sum += d;
                *product += d * (x - mean);
            }
        }
    }
}

per_isa! {
    /// d ← scale · (d − constant − (x − mean) · slope) for the lanes of each strip. `output` is read when N = 1.
    fn input_gradient<T: Real, const N: usize>(x: &[T], output: &[T], lanes: [&[T]; 4], d: &mut [T]) {
        let [mean, scale, constant, slope] = lanes;
        let strip = mean.len();
        for ((x, output), d) in x.chunks(strip).zip(output.chunks(strip)).zip(d.chunks_mut(strip)) {
            let lanes = x.iter().zip(output).zip(mean).zip(scale).zip(constant).zip(slope).zip(d);
            for ((((((&x, &output), &mean), &scale), &constant), &slope), d) in lanes {
                let through = through_relu::<T, N>(*d, output);
                *d = scale * (through - constant - (x - mean) * slope);
            }
        }
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
        let [means, rests, inverses, variances] = parts_mut(statistics, norm.channels);
        strips.for_channels(|first, count| {
            let (mut mean, mut spread) = ([0.0; CHANNELS], [0.0; CHANNELS]);
            let (mean, spread) = (&mut mean[..count], &mut spread[..count]);
            combine(machine.isa, strips, &*partial, first, mean, spread);
            for (channel, (&mut mean, &mut spread)) in (first..).zip(mean.iter_mut().zip(spread)) {
                let variance = spread / norm.rows as f64;
                means[channel] = T::from_f64(mean);
                rests[channel] = T::from_f64(mean - means[channel].to_f64());
                inverses[channel] = T::from_f64(1.0 / (variance + norm.epsilon).sqrt());
                variances[channel] = T::from_f64(variance);
            }
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
        let residual = pass.residual;
        strips.run_on(machine, pass.x, pass.y, |range, y| match residual {
            None => normalise(machine.isa, lanes, floor, y),
            Some(residual) => normalise_and_add(machine.isa, lanes, floor, &residual[range], y),
        });
    }
}

compiled_once! {
    fn backward<T>(norm: &'a BatchNorm, machine: &'a Machine, pass: Backward<'a, T>) {
        let Backward { x, dy, relu_output, statistics, of_batch, weight, dx, mut daffine, scratch } = pass;
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
            strips.for_sums(machine.isa, partial, |channel, [sum, product]| {
                let (rest, inverse) = (rests[channel].to_f64(), inverses[channel].to_f64());
                let product = product - rest * sum;
                if let Some([dweight, dbias]) = &mut daffine {
                    dweight[channel] += T::from_f64(product * inverse);
                    dbias[channel] += T::from_f64(sum);
                }
                if of_batch {
                    let slope_here = product * inverse * inverse / norm.rows as f64;
                    slope[channel] = T::from_f64(slope_here);
                    constant[channel] = T::from_f64(sum / norm.rows as f64 - rest * slope_here);
                }
            });
            strips.spread(constant);
            strips.spread(slope);
        }
        if let Some(dx) = dx {
            let lanes = [&*mean, &*scale, &*constant, &*slope];
            strips.run_on(machine, dy, dx, |range, dx| {
                let x = &x[range.clone()];
                match relu_output {
                    None => input_gradient::<T, 0>(machine.isa, x, x, lanes, dx),
                    Some(output) => input_gradient::<T, 1>(machine.isa, x, &output[range], lanes, dx),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    const EPSILON: f64 = 1e-5;

    /// Numbers that depend on their place alone, with a mean and a deviation of about 0 and 1 for every channel.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let uniform = |place: usize| {
            let mixed = (place as u32).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(0x85eb_ca6b);
            let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d);
            (mixed ^ (mixed >> 12)).wrapping_mul(0x297a_2d39) >> 8
        };
        (0..count).map(|place| uniform(place) as f32 / (1 << 24) as f32 * 3.46 - 1.73).collect()
    }

    struct Outcome {
        statistics: Vec<f32>,
        y: Vec<f32>,
        dx: Vec<f32>,
        dweight: Vec<f32>,
        dbias: Vec<f32>,
    }

    fn run(machine: &Machine, norm: BatchNorm, x: &[f32], relu: bool) -> Outcome {
        let (count, channels) = (x.len(), norm.channels);
        let (weight, bias, residual, dy) = (numbers(channels, 1), numbers(channels, 2), numbers(count, 3), numbers(count, 4));
        let mut out = Outcome {
            statistics: vec![0.0; STATISTICS * channels],
            y: vec![0.0; count],
            dx: vec![f32::NAN; count],
            dweight: vec![0.0; channels],
            dbias: vec![0.0; channels],
        };
        norm.batch_statistics(machine, x, &mut out.statistics, &mut vec![f32::NAN; norm.statistics_scratch()]);
        norm.forward(
            machine,
            Forward {
                x: Some(x),
                statistics: &out.statistics,
                affine: Some([&weight, &bias]),
                residual: relu.then_some(&residual),
                relu,
                y: &mut out.y,
                scratch: &mut vec![f32::NAN; norm.forward_scratch()],
            },
        );
        norm.backward(
            machine,
            Backward {
                x,
                dy: Some(&dy),
                relu_output: relu.then_some(&out.y),
                statistics: &out.statistics,
                of_batch: true,
                weight: Some(&weight),
                dx: Some(&mut out.dx),
                daffine: Some([&mut out.dweight, &mut out.dbias]),
                scratch: &mut vec![f32::NAN; norm.backward_scratch()],
            },
        );
        out
    }

    /// The same by the definition, in `f64`: output, gradient of the input, of the weight and of the bias.
    fn defined(norm: BatchNorm, x: &[f32], relu: bool) -> [Vec<f64>; 4] {
        let (count, channels) = (x.len(), norm.channels);
        let [weight, bias, residual, dy] = [numbers(channels, 1), numbers(channels, 2), numbers(count, 3), numbers(count, 4)];
        let m = norm.rows as f64;
        let mut out = [vec![0.0; count], vec![0.0; count], vec![0.0; channels], vec![0.0; channels]];
        for channel in 0..channels {
            let places = || (channel..count).step_by(channels);
            let at = |values: &[f32], place: usize| f64::from(values[place]);
            let mean = places().map(|place| at(x, place)).sum::<f64>() / m;
            let variance = places().map(|place| (at(x, place) - mean).powi(2)).sum::<f64>() / m;
            let inverse = 1.0 / (variance + norm.epsilon).sqrt();
            let normal = |place: usize| (at(x, place) - mean) * inverse;
            let (weight, bias) = (at(&weight, channel), at(&bias, channel));
            let mut d = vec![0.0; count];
            for place in places() {
                let value = normal(place) * weight + bias + if relu { at(&residual, place) } else { 0.0 };
                out[0][place] = if relu { value.max(0.0) } else { value };
                d[place] = if relu && value <= 0.0 { 0.0 } else { at(&dy, place) };
            }
            out[2][channel] = places().map(|place| d[place] * normal(place)).sum();
            out[3][channel] = places().map(|place| d[place]).sum();
            for place in places() {
                out[1][place] = weight * inverse * (d[place] - out[3][channel] / m - normal(place) * out[2][channel] / m);
            }
        }
        out
    }

    fn largest_difference(values: &[f32], exact: &[f64]) -> f64 {
        assert_eq!(values.len(), exact.len());
        values.iter().zip(exact).map(|(&value, exact)| (f64::from(value) - exact).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn both_passes_equal_the_definition_on_every_instruction_set() {
        for (rows, channels) in [(2, 5), (7, 1), (90, 8), (1300, 3), (500, 64), (3000, 100), (40, 700)] {
            let norm = BatchNorm { rows, channels, epsilon: EPSILON };
            let x = numbers(rows * channels, 9);
            for (isa, relu) in Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, true)]) {
                let out = run(&Machine::new(isa, 2), norm, &x, relu);
                let [y, dx, dweight, dbias] = defined(norm, &x, relu);
                // Two numbers per channel can be so near each other that 1/σ is large.
                let unit =
                    f64::from(f32::EPSILON) * f64::from(out.statistics[2 * channels..3 * channels].iter().fold(1.0, |a: f32, &b| a.max(b)));
                let problem = format!("{isa}, {rows} rows, {channels} channels, relu {relu}");
                assert!(largest_difference(&out.y, &y) <= 8.0 * unit, "{problem}: y");
                assert!(largest_difference(&out.dx, &dx) <= 16.0 * unit, "{problem}: dx");
                for (sums, exact) in [(&out.dweight, &dweight), (&out.dbias, &dbias)] {
                    let largest = exact.iter().fold(0.0_f64, |largest, sum| largest.max(sum.abs()));
                    assert!(largest_difference(sums, exact) <= 4.0 * unit * ((rows as f64).sqrt() + largest), "{problem}: sums");
                }
            }
        }
    }

    #[test]
    fn a_large_mean_and_an_odd_first_value_cost_no_accuracy() {
        let (rows, channels) = (20_000, 12);
        let norm = BatchNorm { rows, channels, epsilon: 0.0 };
        for (mean, deviation) in [(1e4_f32, 1.0_f32), (-3e5, 10.0), (1e-3, 1e-6)] {
            let mut x: Vec<f32> = numbers(rows * channels, 5).iter().map(|x| mean + deviation * x).collect();
            // The value from which differences are taken is then far from the mean.
            x[..channels].fill(mean + 100.0 * deviation);
            let mut statistics = vec![0.0_f32; STATISTICS * channels];
            let scratch = &mut vec![0.0; norm.statistics_scratch()];
            norm.batch_statistics(&Machine::new(Isa::detect(), 2), &x, &mut statistics, scratch);
            for channel in 0..channels {
                let values = || x.iter().skip(channel).step_by(channels).map(|&x| f64::from(x));
                let exact = values().sum::<f64>() / rows as f64;
                let variance = values().map(|x| (x - exact).powi(2)).sum::<f64>() / rows as f64;
                let found = f64::from(statistics[channel]) + f64::from(statistics[channels + channel]);
                assert!((found - exact).abs() <= 1e-6 * variance.sqrt(), "mean {mean}: {found} instead of {exact}");
                let found = f64::from(statistics[3 * channels + channel]);
                assert!((found / variance - 1.0).abs() <= 2e-6, "mean {mean}: variance {found} instead of {variance}");
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        for (rows, channels) in [(30_000, 8), (3000, 96)] {
            let norm = BatchNorm { rows, channels, epsilon: EPSILON };
            let x = numbers(rows * channels, 6);
            for isa in Isa::available() {
                let one = run(&Machine::new(isa, 1), norm, &x, true);
                for threads in [2, 3, 8] {
                    let many = run(&Machine::new(isa, threads), norm, &x, true);
                    assert_eq!(one.statistics, many.statistics);
                    assert_eq!([&one.y, &one.dx, &one.dweight, &one.dbias], [&many.y, &many.dx, &many.dweight, &many.dbias]);
                }
            }
        }
    }

    #[test]
    fn constant_statistics_give_the_gradient_of_a_straight_line() {
        let norm = BatchNorm { rows: 3, channels: 2, epsilon: 0.0 };
        let mut statistics = [0.0_f64; STATISTICS * 2];
        norm.running_statistics(&[1.0, -1.0], &[4.0, 0.25], &mut statistics);
        let (x, mut y) = ([3.0, 0.0, 1.0, 0.0, -1.0, -1.0], [0.0; 6]);
        let mut dx = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let affine = [&[3.0, 1.0][..], &[0.5, 0.0]];
        let (machine, scratch) = (Machine::new(Isa::detect(), 1), &mut vec![0.0; norm.backward_scratch()]);
        y.copy_from_slice(&x);
        norm.forward(
            &machine,
            Forward { x: None, statistics: &statistics, affine: Some(affine), residual: None, relu: false, y: &mut y, scratch },
        );
        assert_eq!(y, [3.5, 2.0, 0.5, 2.0, -2.5, 0.0]);
        let (mut dweight, mut dbias) = ([1.0, 1.0], [1.0, 1.0]);
        norm.backward(
            &machine,
            Backward {
                x: &x,
                dy: None,
                relu_output: None,
                statistics: &statistics,
                of_batch: false,
                weight: Some(affine[0]),
                dx: Some(&mut dx),
                daffine: Some([&mut dweight, &mut dbias]),
                scratch,
            },
        );
        assert_eq!(dx, [1.5, 4.0, 4.5, 8.0, 7.5, 12.0]);
        assert_eq!((dweight, dbias), ([1.0 + 1.0 - 5.0, 1.0 + 4.0 + 8.0], [10.0, 13.0]));
    }
}
