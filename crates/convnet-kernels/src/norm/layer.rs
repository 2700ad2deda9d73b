//! Layer normalisation: each position over its channels. Channels last, rows × channels.
//!
//! | | |
//! |---|---|
//! | statistics of a row | μ = Σ x / C, σ² = Σ (x − μ)² / C |
//! | forward | x̂ = (x − μ) / √(σ² + ε), y = weight · x̂ + bias |
//! | parameters | dweight = Σ dy·x̂, dbias = Σ dy over the rows |
//! | input | dx = (g − Σg/C − x̂ · Σ(g·x̂)/C) / √(σ² + ε), where g = dy · weight |
//!
//! (Ba, Kiros and Hinton 2016.) A row stays in the first-level cache, so every number is read once from memory.

use super::strips::{Strips, add_sums};
use crate::once::compiled_once;
use crate::reduce::join_lanes;
use crate::threads::{Pieces, Threads};
use crate::{Machine, Real, per_isa};

/// Numbers kept for each row: a value near the mean, what is missing from it, 1/√(σ² + ε).
pub const STATISTICS: usize = 3;

/// Sums that run side by side, so that no addition waits for the one before it.
const LANES: usize = 32;

/// How many rows and channels there are, and ε.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// N·H·W
    pub rows: usize,
    /// C
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

/// What [`LayerNorm::backward`] takes.
#[derive(Debug)]
pub struct Backward<'a, T> {
    /// rows × channels.
    pub x: &'a [T],
    /// rows × channels; `None` when dx holds it.
    pub dy: Option<&'a [T]>,
    /// What forward has written: [`STATISTICS`] for each row.
    pub statistics: &'a [T],
    /// One number per channel.
    pub weight: &'a [T],
    /// rows × channels, written.
    pub dx: Option<&'a mut [T]>,
    /// One number per channel, added to.
    pub dweight: &'a mut [T],
    /// One number per channel, added to.
    pub dbias: &'a mut [T],
    /// At least [`LayerNorm::backward_scratch`].
    pub scratch: &'a mut [T],
}

/// The sums of K functions of the numbers at each place of two slices.
#[inline(always)]
fn sums<T: Real, const K: usize>(a: &[T], b: &[T], terms: impl Fn(T, T) -> [T; K]) -> [T; K] {
    let mut lanes = [[T::ZERO; LANES]; K];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut total = [T::ZERO; K];
    for (&a, &b) in a_blocks.remainder().iter().zip(b_blocks.remainder()) {
        for (total, term) in total.iter_mut().zip(terms(a, b)) {
            *total += term;
        }
    }
    for (a, b) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            let terms = terms(a[lane], b[lane]);
            for (lanes, term) in lanes.iter_mut().zip(terms) {
                lanes[lane] += term;
            }
        }
    }
    for (total, lanes) in total.iter_mut().zip(lanes) {
        *total += join_lanes(lanes, |a, b| a + b);
    }
    total
}

per_isa! {
    /// The rows of y ← normalised rows of x, which y may hold already; what is kept goes to `statistics` if it has room.
    fn forward_rows<T: Real>(x: Option<&[T]>, epsilon: T, affine: [&[T]; 2], y: &mut [T], statistics: &mut [T]) {
        let [weight, bias] = affine;
        let channels = weight.len();
        let share = T::ONE / T::from_usize(channels);
        let mut kept = statistics.chunks_exact_mut(STATISTICS);
        for (row, y) in y.chunks_exact_mut(channels).enumerate() {
            let x = x.map(|x| &x[row * channels..][..channels]);
            let [near, rest, inverse] = row_statistics(x.unwrap_or(y), share, epsilon);
            let value = |x: T, weight: T, bias: T| (x - near - rest) * inverse * weight + bias;
            match x {
                Some(x) => {
                    for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                        *y = value(x, weight, bias);
                    }
                }
                None => {
                    for ((y, &weight), &bias) in y.iter_mut().zip(weight).zip(bias) {
                        *y = value(*y, weight, bias);
                    }
                }
            }
            if let Some(kept) = kept.next() {
                kept.copy_from_slice(&[near, rest, inverse]);
            }
        }
    }
}

/// The [`STATISTICS`] of a row of 1/`share` numbers.
#[inline(always)]
fn row_statistics<T: Real>(x: &[T], share: T, epsilon: T) -> [T; STATISTICS] {
    let [sum] = sums(x, x, |x, _| [x]);
    let near = sum * share;
    // Differences from a value near the mean are exact enough for both the rest of the mean and the variance.
    let [rest, square] = sums(x, x, |x, _| [x - near, (x - near) * (x - near)]);
    let rest = rest * share;
    let variance = square * share - rest * rest;
    let variance = if variance < T::ZERO { T::ZERO } else { variance };
    [near, rest, T::ONE / (variance + epsilon).sqrt()]
}

per_isa! {
    /// For each row: adds to the sums of dy·x̂ and dy, and writes d ← dx, from dy, which d may hold already.
    fn backward_rows<T: Real>(
        x: &[T],
        dy: Option<&[T]>,
        statistics: &[T],
        weight: &[T],
        dweight: &mut [T],
        dbias: &mut [T],
        d: &mut [T],
    ) {
        let channels = weight.len();
        let share = T::ONE / T::from_usize(channels);
        let rows = x.chunks_exact(channels).zip(statistics.chunks_exact(STATISTICS)).zip(d.chunks_exact_mut(channels));
        for (row, ((x, kept), d)) in rows.enumerate() {
            let dy = dy.map(|dy| &dy[row * channels..][..channels]);
            let [sum, product] = add_row(x, dy.unwrap_or(d), kept, weight, dweight, dbias);
            let [near, rest, inverse] = [kept[0], kept[1], kept[2]];
            let (sum, slope) = (sum * share, inverse * (product * share));
            let value = |x: T, dy: T, weight: T| inverse * (dy * weight - sum - (x - near - rest) * slope);
            match dy {
                Some(dy) => {
                    for (((d, &dy), &x), &weight) in d.iter_mut().zip(dy).zip(x).zip(weight) {
                        *d = value(x, dy, weight);
                    }
                }
                None => {
                    for ((d, &x), &weight) in d.iter_mut().zip(x).zip(weight) {
                        *d = value(x, *d, weight);
                    }
                }
            }
        }
    }
}

/// Adds dy·x̂ and dy of one row to the sums of the parameters, and returns Σ g and Σ g·x̂ of the row, g = dy · weight.
#[inline(always)]
fn add_row<T: Real>(x: &[T], dy: &[T], kept: &[T], weight: &[T], dweight: &mut [T], dbias: &mut [T]) -> [T; 2] {
    let [near, rest, inverse] = [kept[0], kept[1], kept[2]];
    let mut lanes = [[T::ZERO; LANES]; 2];
    let length = x.len();
    for start in (0..length).step_by(LANES) {
        let range = start..(start + LANES).min(length);
        let parameters = dweight[range.clone()].iter_mut().zip(&mut dbias[range.clone()]).zip(&weight[range.clone()]);
        let numbers = x[range.clone()].iter().zip(&dy[range]);
        let [sums, products] = &mut lanes;
        for ((((&x, &dy), ((dweight, dbias), &weight)), sum), product) in numbers.zip(parameters).zip(sums).zip(products) {
            let normal = (x - near - rest) * inverse;
            *dweight += dy * normal;
            *dbias += dy;
            let g = dy * weight;
            *sum += g;
            *product += g * normal;
        }
    }
    lanes.map(|lanes| join_lanes(lanes, |a, b| a + b))
}

per_isa! {
    /// As [`backward_rows`], but only for the parameters.
    fn parameter_rows<T: Real>(x: &[T], statistics: &[T], dy: &[T], dweight: &mut [T], dbias: &mut [T]) {
        let channels = dweight.len();
        for ((x, kept), dy) in x.chunks_exact(channels).zip(statistics.chunks_exact(STATISTICS)).zip(dy.chunks_exact(channels)) {
            add_parameter_sums(x, kept, dy, dweight, dbias);
        }
    }
}

/// Adds dy·x̂ and dy of one row to the sums.
#[inline(always)]
fn add_parameter_sums<T: Real>(x: &[T], kept: &[T], dy: &[T], dweight: &mut [T], dbias: &mut [T]) {
    let [near, rest, inverse] = [kept[0], kept[1], kept[2]];
    for (((&x, &dy), dweight), dbias) in x.iter().zip(dy).zip(dweight).zip(dbias) {
        *dweight += dy * ((x - near - rest) * inverse);
        *dbias += dy;
    }
}

/// Calls `work(index, chunk of a, chunk of b)`, where the chunks are `lengths` long; the last may be shorter, or empty.
fn chunk_pairs<T: Send>(
    threads: &Threads,
    count: usize,
    a: &mut [T],
    b: &mut [T],
    lengths: [usize; 2],
    work: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) {
    let (a, b) = (Pieces::new(a, lengths[0]), Pieces::new(b, lengths[1]));
    // SAFETY: `run` hands out each index once, so each chunk has one holder.
    threads.run(count, |index| work(index, unsafe { a.get(index) }, unsafe { b.get(index) }));
}

impl LayerNorm {
    fn strips(&self) -> Strips {
        Strips::of_single_rows(self.rows, self.channels)
    }

    /// Numbers that are kept for backward.
    pub fn statistics(&self) -> usize {
        STATISTICS * self.rows
    }

    /// Working memory of [`backward`](Self::backward).
    pub fn backward_scratch(&self) -> usize {
        2 * self.channels * self.strips().pieces()
    }

    /// Writes y, and what backward needs to `statistics` unless that is empty. y holds x where there is none.
    ///
    /// # Panics
    /// If a slice has another length than it must have.
    pub fn forward<T: Real>(&self, machine: &Machine, x: Option<&[T]>, affine: [&[T]; 2], y: &mut [T], statistics: &mut [T]) {
        forward(self, machine, x, affine, y, statistics);
    }

    /// Writes dx and adds to the gradients of weight and bias.
    ///
    /// # Panics
    /// If a slice has another length than it must have.
    pub fn backward<T: Real>(&self, machine: &Machine, pass: Backward<'_, T>) {
        backward(self, machine, pass);
    }
}

compiled_once! {
    fn forward<T>(
        norm: &'a LayerNorm,
        machine: &'a Machine,
        x: Option<&'a [T]>,
        affine: [&'a [T]; 2],
        y: &'a mut [T],
        statistics: &'a mut [T],
    ) {
        let strips = norm.strips();
        let lengths = [strips.piece, STATISTICS * strips.piece / norm.channels];
        chunk_pairs(&machine.threads, strips.pieces(), y, statistics, lengths, |index, y, statistics| {
            let x = x.map(|x| &x[strips.range(index)]);
            forward_rows(machine.isa, x, T::from_f64(norm.epsilon), affine, y, statistics);
        });
    }
}

compiled_once! {
    fn backward<T>(norm: &'a LayerNorm, machine: &'a Machine, pass: Backward<'a, T>) {
        let Backward { x, dy, statistics, weight, dx, dweight, dbias, scratch } = pass;
        let strips = norm.strips();
        let partial = &mut scratch[..norm.backward_scratch()];
        partial.fill(T::ZERO);
        let statistics_of = |index: usize| {
            let rows = strips.range(index);
            &statistics[STATISTICS * rows.start / norm.channels..STATISTICS * rows.end / norm.channels]
        };
        let lengths = [2 * norm.channels, strips.piece];
        chunk_pairs(&machine.threads, strips.pieces(), partial, dx.unwrap_or_default(), lengths, |index, partial, dx| {
            let (x, statistics) = (&x[strips.range(index)], statistics_of(index));
            let (dweight, dbias) = partial.split_at_mut(norm.channels);
            let dy = dy.map(|dy| &dy[strips.range(index)]);
            if dx.is_empty() {
                parameter_rows(machine.isa, x, statistics, dy.unwrap_or_default(), dweight, dbias);
            } else {
                backward_rows(machine.isa, x, dy, statistics, weight, dweight, dbias, dx);
            }
        });
        strips.for_sums(machine, partial, [dweight, dbias], |_, [product, sum], [dweight, dbias]| {
            add_sums(dweight, product);
            add_sums(dbias, sum);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Numbers from −2 to 2 that depend on their place alone.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|place| ((place + seed) * 7919 % 4001) as f32 / 1000.0 - 2.0).collect()
    }

    /// Output, statistics, and gradients of input, weight and bias.
    fn run(machine: &Machine, norm: LayerNorm, x: &[f32]) -> [Vec<f32>; 5] {
        let (weight, bias, dy) = (numbers(norm.channels, 1), numbers(norm.channels, 2), numbers(x.len(), 3));
        let (mut y, mut statistics) = (vec![f32::NAN; x.len()], vec![f32::NAN; norm.statistics()]);
        norm.forward(machine, Some(x), [&weight, &bias], &mut y, &mut statistics);
        let (mut dx, mut dweight, mut dbias) = (vec![f32::NAN; x.len()], vec![0.0; norm.channels], vec![0.0; norm.channels]);
        norm.backward(
            machine,
            Backward {
                x,
                dy: Some(&dy),
                statistics: &statistics,
                weight: &weight,
                dx: Some(&mut dx),
                dweight: &mut dweight,
                dbias: &mut dbias,
                scratch: &mut vec![f32::NAN; norm.backward_scratch()],
            },
        );
        [y, statistics, dx, dweight, dbias]
    }

    #[test]
    fn both_passes_equal_the_definition_also_when_the_mean_is_large() {
        for (rows, channels, mean) in [(3, 5, 0.0), (2, 1, 0.0), (40, 32, 0.0), (700, 96, 0.0), (9, 1000, 0.0), (50, 96, 1000.0)] {
            let norm = LayerNorm { rows, channels, epsilon: 1e-6 };
            let x: Vec<f32> = numbers(rows * channels, 0).iter().map(|x| x + mean).collect();
            let (weight, bias, dy) = (numbers(channels, 1), numbers(channels, 2), numbers(x.len(), 3));
            for isa in Isa::available() {
                let [y, _, dx, dweight, dbias] = run(&Machine::new(isa, 2), norm, &x);
                let (mut exact_dweight, mut exact_dbias) = (vec![0.0; channels], vec![0.0; channels]);
                let double = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
                let (weight, bias) = (double(&weight), double(&bias));
                let c = channels as f64;
                for row in 0..rows {
                    let range = row * channels..(row + 1) * channels;
                    let (x, dy) = (double(&x[range.clone()]), double(&dy[range.clone()]));
                    let mean = x.iter().sum::<f64>() / c;
                    let inverse = 1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / c + norm.epsilon).sqrt();
                    let normal: Vec<f64> = x.iter().map(|x| (x - mean) * inverse).collect();
                    let sum: f64 = (0..channels).map(|i| dy[i] * weight[i]).sum();
                    let product: f64 = (0..channels).map(|i| dy[i] * weight[i] * normal[i]).sum();
                    let tolerance = 16.0 * f64::from(f32::EPSILON) * inverse.max(1.0);
                    for i in 0..channels {
                        let place = range.start + i;
                        let value = normal[i] * weight[i] + bias[i];
                        assert!((f64::from(y[place]) - value).abs() <= tolerance, "{isa}, {rows}x{channels}, y: {} {value}", y[place]);
                        let slope = inverse * (dy[i] * weight[i] - sum / c - normal[i] * product / c);
                        assert!((f64::from(dx[place]) - slope).abs() <= tolerance, "{isa}, {rows}x{channels}, dx: {} {slope}", dx[place]);
                        exact_dweight[i] += dy[i] * normal[i];
                        exact_dbias[i] += dy[i];
                    }
                }
                for (found, exact) in dweight.iter().zip(exact_dweight).chain(dbias.iter().zip(exact_dbias)) {
                    let tolerance = 8.0 * f64::from(f32::EPSILON) * ((rows as f64).sqrt() + exact.abs());
                    assert!((f64::from(*found) - exact).abs() <= tolerance, "{isa}, {rows}x{channels}: {found} {exact}");
                }
            }
        }
    }

    #[test]
    fn threads_and_working_in_place_change_no_bit() {
        let norm = LayerNorm { rows: 2000, channels: 48, epsilon: 1e-6 };
        let x = numbers(norm.rows * norm.channels, 5);
        for isa in Isa::available() {
            let one = run(&Machine::new(isa, 1), norm, &x);
            for threads in [2, 3, 8] {
                assert_eq!(one, run(&Machine::new(isa, threads), norm, &x), "{isa}, {threads} threads");
            }
            let machine = Machine::new(isa, 2);
            let (weight, bias) = (numbers(norm.channels, 1), numbers(norm.channels, 2));
            let (mut y, mut dx) = (x.clone(), numbers(x.len(), 3));
            norm.forward(&machine, None, [&weight, &bias], &mut y, &mut []);
            let (mut dweight, mut dbias) = (vec![0.0; norm.channels], vec![0.0; norm.channels]);
            let mut scratch = vec![f32::NAN; norm.backward_scratch()];
            let mut backward = |dy: Option<&[f32]>, dx: Option<&mut [f32]>| {
                let (dweight, dbias) = (&mut dweight[..], &mut dbias[..]);
                let scratch = &mut scratch[..];
                norm.backward(&machine, Backward { x: &x, dy, statistics: &one[1], weight: &weight, dx, dweight, dbias, scratch });
            };
            backward(None, Some(&mut dx));
            backward(Some(&numbers(x.len(), 3)), None);
            assert_eq!([&y, &dx], [&one[0], &one[2]]);
            // Added twice, once with the gradient of the input and once without.
            assert!(dweight.iter().zip(&one[3]).chain(dbias.iter().zip(&one[4])).all(|(twice, once)| *twice == 2.0 * once));
        }
    }
}
