//! The gradients of batch normalisation, and of a ReLU joined to it.
//!
//! Where the ReLU cut off is found out anew from x, with the arithmetic of the forward pass: that reads one list of numbers less
//! than looking at the output would, and the output need not be kept.

use super::super::strips::{Strips, parts, parts_mut};
use super::{BatchNorm, affine, affine_of_vectors, write_lanes};
use crate::isa::vector::Vector;
use crate::once::compiled_once;
use crate::stream::{self, Lanewise};
use crate::{Machine, Real, per_isa};

/// Numbers between the lists of lanes: without them, lists of 1024 numbers would share the sets of a first-level cache.
const APART: usize = 16;

/// What [`BatchNorm::backward`] takes.
#[derive(Debug)]
pub struct Backward<'a, T> {
    /// rows × channels.
    pub x: &'a [T],
    /// rows × channels; `None` when dx holds it.
    pub dy: Option<&'a [T]>,
    /// Whether a relu followed, with nothing added before it: dy counts only where its output was positive.
    pub relu: bool,
    /// [`STATISTICS`](super::STATISTICS) × channels, as in forward.
    pub statistics: &'a [T],
    /// Whether the statistics are those of x, so that they move with it.
    pub of_batch: bool,
    /// Weight and bias, one number per channel, as in forward.
    pub affine: Option<[&'a [T]; 2]>,
    /// rows × channels, written.
    pub dx: Option<&'a mut [T]>,
    /// Gradients of weight and bias, one number per channel, added to.
    pub daffine: Option<[&'a mut [T]; 2]>,
    /// At least [`BatchNorm::backward_scratch`].
    pub scratch: &'a mut [T],
}

/// dy, or 0 where a relu cut off (N = 1 says that there was one).
#[inline(always)]
fn through_relu<T: Real, const N: usize>(dy: T, x: T, lanes: [T; 3]) -> T {
    if N == 0 || affine(x, lanes) > T::ZERO { dy } else { T::ZERO }
}

/// The lanes of a strip side by side: mean, scale and offset of each.
#[inline(always)]
fn side_by_side<'a, T: Real>([mean, scale, offset]: [&'a [T]; 3]) -> impl Iterator<Item = [T; 3]> + use<'a, T> {
    mean.iter().zip(scale).zip(offset).map(|((&mean, &scale), &offset)| [mean, scale, offset])
}

per_isa! {
    /// For each lane of a strip: the sums of d and of d · (x − mean). N = 1 says that there was a relu.
    fn gradient_sums<T: Real, const N: usize>(x: &[T], dy: &[T], lanes: [&[T]; 3], sum: &mut [T], product: &mut [T]) {
        let strip = sum.len();
        sum.fill(T::ZERO);
        product.fill(T::ZERO);
        let pair = 2 * strip;
        for (x, dy) in x.chunks(pair).zip(dy.chunks(pair)) {
            if x.len() < pair {
                for (x, dy) in x.chunks(strip).zip(dy.chunks(strip)) {
                    let sums = sum.iter_mut().zip(&mut *product);
                    for (((&x, &dy), lanes), (sum, product)) in x.iter().zip(dy).zip(side_by_side(lanes)).zip(sums) {
                        let d = through_relu::<T, N>(dy, x, lanes);
                        *sum += d;
                        *product += d * (x - lanes[0]);
                    }
                }
                break;
            }
            let ([x, next_x], [dy, next_dy]) = (parts(x, strip), parts(dy, strip));
            let rows = x.iter().zip(next_x).zip(dy.iter().zip(next_dy));
            let sums = sum.iter_mut().zip(&mut *product);
            for ((((&x, &next_x), (&dy, &next_dy)), lanes), (sum, product)) in rows.zip(side_by_side(lanes)).zip(sums) {
                let [d, next_d] = [through_relu::<T, N>(dy, x, lanes), through_relu::<T, N>(next_dy, next_x, lanes)];
                *sum += d + next_d;
                *product += d * (x - lanes[0]) + next_d * (next_x - lanes[0]);
            }
        }
    }
}

per_isa! {
    /// d ← scale · (dy − constant − (x − mean) · slope) for the lanes of each strip; d holds dy where there is none. N = 1 says
    /// that there was a relu.
    fn input_gradient<T: Real, const N: usize>(x: &[T], dy: Option<&[T]>, lanes: [&[T]; 5], d: &mut [T]) {
        let [mean, scale, offset, constant, slope] = lanes;
        let strip = mean.len();
        let value = |x: T, d: T, (lanes, (&constant, &slope)): ([T; 3], (&T, &T))| {
            let [mean, scale, _] = lanes;
            scale * (through_relu::<T, N>(d, x, lanes) - constant - (x - mean) * slope)
        };
        let lanes = || side_by_side([mean, scale, offset]).zip(constant.iter().zip(slope));
        let Some(dy) = dy else {
            for (x, d) in x.chunks(strip).zip(d.chunks_mut(strip)) {
                for ((d, &x), lanes) in d.iter_mut().zip(x).zip(lanes()) {
                    *d = value(x, *d, lanes);
                }
            }
            return;
        };
        // Two strips at a time: each lane's numbers are read once for both.
        let pair = 2 * strip;
        for ((x, dy), d) in x.chunks(pair).zip(dy.chunks(pair)).zip(d.chunks_mut(pair)) {
            if d.len() < pair {
                for ((x, dy), d) in x.chunks(strip).zip(dy.chunks(strip)).zip(d.chunks_mut(strip)) {
                    for (((d, &dy), &x), lanes) in d.iter_mut().zip(dy).zip(x).zip(lanes()) {
                        *d = value(x, dy, lanes);
                    }
                }
                break;
            }
            let ([x, next_x], [dy, next_dy], (d, next_d)) = (parts(x, strip), parts(dy, strip), d.split_at_mut(strip));
            let rows = x.iter().zip(next_x).zip(dy.iter().zip(next_dy)).zip(d.iter_mut().zip(next_d));
            for ((((&x, &next_x), (&dy, &next_dy)), (d, next_d)), lanes) in rows.zip(lanes()) {
                (*d, *next_d) = (value(x, dy, lanes), value(next_x, next_dy, lanes));
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
    /// What [`input_gradient`] takes of some channels beside what the forward pass did, from the same sums.
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

/// [`input_gradient`] for what goes past the caches; N = 1 says that there was a relu.
#[derive(Clone, Copy)]
struct InputGradient<const N: usize>;

impl<const N: usize> Lanewise<2, 5> for InputGradient<N> {
    #[inline(always)]
    unsafe fn value<V: Vector>(self, [x, dy]: [V; 2], [mean, scale, offset, constant, slope]: [V; 5]) -> V {
        // SAFETY: by the trait's contract.
        unsafe {
            let d = if N == 0 { dy } else { dy.where_positive(affine_of_vectors(x, [mean, scale, offset])) };
            scale.mul(d.sub(constant).sub(x.sub(mean).mul(slope)))
        }
    }
}

/// [`gradient_sums`] of every piece.
fn gradient_sums_of_pieces<T: Real>(
    machine: &Machine,
    strips: Strips,
    [x, dy]: [&[T]; 2],
    relu: bool,
    lanes: [&[T]; 3],
    partial: &mut [T],
) {
    machine.threads.chunks_mut(partial, 2 * strips.strip, |index, partial| {
        let (x, dy) = (&x[strips.range(index)], &dy[strips.range(index)]);
        let (sum, product) = partial.split_at_mut(strips.strip);
        match relu {
            false => gradient_sums::<T, 0>(machine.isa, x, dy, lanes, sum, product),
            true => gradient_sums::<T, 1>(machine.isa, x, dy, lanes, sum, product),
        }
    });
}

impl BatchNorm {
    /// Working memory of [`backward`](Self::backward).
    pub fn backward_scratch(&self) -> usize {
        let strips = self.strips();
        5 * (strips.strip + APART) + 2 * strips.pieces() * strips.strip
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
    fn backward<T>(norm: &'a BatchNorm, machine: &'a Machine, pass: Backward<'a, T>) {
        let Backward { x, dy, relu, statistics, of_batch, affine, dx, daffine, scratch } = pass;
        let strips = norm.strips();
        let [_, rests, inverses, _] = parts(statistics, norm.channels);
        let (lanes, partial) = scratch.split_at_mut(5 * (strips.strip + APART));
        let lanes: [&mut [T]; 5] = parts_mut(lanes, strips.strip + APART);
        let [mean, scale, offset, constant, slope] = lanes.map(|list| &mut list[..strips.strip]);
        write_lanes(strips, statistics, affine, [&mut *mean, &mut *scale, &mut *offset]);
        constant.fill(T::ZERO);
        slope.fill(T::ZERO);

        if of_batch || daffine.is_some() {
            let partial = &mut partial[..2 * strips.strip * strips.pieces()];
            let d = dy.unwrap_or_else(|| dx.as_deref().unwrap_or_default());
            gradient_sums_of_pieces(machine, strips, [x, d], relu, [&*mean, &*scale, &*offset], partial);
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
            let lanes = [&*mean, &*scale, &*offset, &*constant, &*slope];
            let large_from = stream::large_from(dx);
            strips.run_on(machine, dy, dx, |range, dy, dx| {
                let x = &x[range];
                let is_written = match (dy, relu) {
                    (Some(dy), false) => stream::write(large_from, machine.isa, InputGradient::<0>, [x, dy], lanes, dx),
                    (Some(dy), true) => stream::write(large_from, machine.isa, InputGradient::<1>, [x, dy], lanes, dx),
                    (None, _) => false,
                };
                match relu {
                    _ if is_written => {}
                    false => input_gradient::<T, 0>(machine.isa, x, dy, lanes, dx),
                    true => input_gradient::<T, 1>(machine.isa, x, dy, lanes, dx),
                }
            });
        }
    }
}
