//! Every channel times a number of its own. Channels last, rows × channels.

use crate::norm::strips::{Strips, add_sums};
use crate::once::compiled_once;
use crate::{Machine, per_isa};

/// Working memory of [`scale`].
pub fn scale_scratch(rows: usize, channels: usize) -> usize {
    Strips::new(rows, channels).strip
}

/// Working memory of [`scale_gradient`].
pub fn gradient_scratch(rows: usize, channels: usize) -> usize {
    let strips = Strips::new(rows, channels);
    strips.strip * strips.pieces()
}

per_isa! {
    fn scale_piece<T: Real>(lanes: &[T], x: Option<&[T]>, y: &mut [T]) {
        let strip = lanes.len();
        match x {
            Some(x) => {
                for (x, y) in x.chunks(strip).zip(y.chunks_mut(strip)) {
                    for ((y, &x), &weight) in y.iter_mut().zip(x).zip(lanes) {
                        *y = x * weight;
                    }
                }
            }
            None => {
                for y in y.chunks_mut(strip) {
                    for (y, &weight) in y.iter_mut().zip(lanes) {
                        *y *= weight;
                    }
                }
            }
        }
    }
}

compiled_once! {
    /// y ← x · weight of the channel; y holds x where there is none.
    ///
    /// # Panics
    /// If `y` is not made of rows of as many numbers as `weight`, or `scratch` is shorter than [`scale_scratch`].
    pub fn scale<T>(machine: &'a Machine, x: Option<&'a [T]>, weight: &'a [T], y: &'a mut [T], scratch: &'a mut [T]) {
        let strips = Strips::new(y.len() / weight.len(), weight.len());
        let lanes = &mut scratch[..strips.strip];
        strips.repeat(lanes, |channel| weight[channel]);
        let lanes = &*lanes;
        strips.run_on(machine, x, y, |_, x, y| scale_piece(machine.isa, lanes, x, y));
    }
}

per_isa! {
    /// For each lane of a strip: Σ x · dy.
    fn products<T: Real>(x: &[T], dy: &[T], sums: &mut [T]) {
        sums.fill(T::ZERO);
        let strip = sums.len();
        for (x, dy) in x.chunks(strip).zip(dy.chunks(strip)) {
            for ((&x, &dy), sum) in x.iter().zip(dy).zip(&mut *sums) {
                *sum += x * dy;
            }
        }
    }
}

compiled_once! {
    /// dweight ← dweight + Σ x · dy over the rows.
    ///
    /// # Panics
    /// If `x` is not made of rows of as many numbers as `dweight`, or `scratch` is shorter than [`gradient_scratch`].
    pub fn scale_gradient<T>(machine: &'a Machine, x: &'a [T], dy: &'a [T], dweight: &'a mut [T], scratch: &'a mut [T]) {
        let channels = dweight.len();
        let strips = Strips::new(x.len() / channels, channels);
        let partial = &mut scratch[..strips.strip * strips.pieces()];
        machine.threads.chunks_mut(partial, strips.strip, |index, sums| {
            let range = strips.range(index);
            products(machine.isa, &x[range.clone()], &dy[range], sums);
        });
        strips.for_sums(machine, partial, [dweight], |_, [sum], [dweight]| add_sums(dweight, sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::Isa;

    #[test]
    fn every_channel_has_its_own_factor_and_its_gradient_the_sum_of_the_products() {
        for (rows, channels) in [(1, 1), (7, 3), (20_000, 8), (500, 300)] {
            // Whole numbers, so that any order of adding gives the same.
            let x: Vec<f32> = (0..rows * channels).map(|place| (place % 7) as f32 - 3.0).collect();
            let weight: Vec<f32> = (0..channels).map(|channel| channel as f32 - 2.0).collect();
            for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [1, 2, 3, 8].map(|threads| (isa, threads))) {
                let machine = Machine::new(isa, threads);
                let (mut y, mut dweight) = (vec![f32::NAN; x.len()], vec![1.0; channels]);
                scale(&machine, Some(&x), &weight, &mut y, &mut vec![f32::NAN; scale_scratch(rows, channels)]);
                assert!(y.iter().zip(&x).enumerate().all(|(place, (&y, &x))| y == x * weight[place % channels]));
                scale_gradient(&machine, &x, &y, &mut dweight, &mut vec![f32::NAN; gradient_scratch(rows, channels)]);
                for channel in 0..channels {
                    let sum: f32 = (channel..x.len()).step_by(channels).map(|place| x[place] * x[place]).sum();
                    assert_eq!(dweight[channel], 1.0 + sum * weight[channel], "{isa}, {threads} threads, {rows}x{channels}");
                }
            }
        }
    }
}
