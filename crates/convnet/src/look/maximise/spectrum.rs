//! Images as sums of waves: the real Fourier transform in two dimensions, as products of matrices.
//!
//! Along an axis of n pixels the waves are, with x = 0 … n − 1 and j = 1, 2, …,
//!
//! ```text
//! 1/√n,   √(2/n)·cos(2π·j·x/n),   √(2/n)·sin(2π·j·x/n),   and for an even n  (−1)ˣ/√n
//! ```
//!
//! n of them, orthonormal: their matrix B is its own inverse when transposed. An image is Bₕᵀ·(S∘A)·B_w with the amplitudes
//! A, H×W, and the gradient of A is S∘(Bₕ·dX·B_wᵀ). S weighs each wave by 1/max(f, 1/max(H, W))^decay with its frequency
//! f = √(f_y² + f_x²) in cycles per pixel: with decay 1 every octave has the same power, about as in photographs, and a step of
//! equal length in all amplitudes changes coarse shapes more than fine grain. These are the real and imaginary parts of the
//! complex transform that is usual for this (Olah, Mordvintsev and Schubert, "Feature visualization", Distill 2017, where
//! the factor √(H·W) undoes the 1/(H·W) of the inverse transform), in another order and without its redundant half.
//!
//! The products take H·W·(H + W) multiplications for each channel: 44 thousand for 28×28, 23 million for 227×227, less
//! than the networks of these sizes take, so a fast transform would not pay for itself here.

use convnet_kernels::product::matrix_product;
use convnet_kernels::{Isa, Real};

use crate::data::Split;

/// The waves of an H×W image with their weights.
#[derive(Clone, Debug)]
pub(crate) struct Spectrum<T> {
    /// Columns of an image.
    w: usize,
    /// Bₕ, [wave, row], and its transpose.
    rows: Vec<T>,
    rows_transposed: Vec<T>,
    /// B_w, [wave, column], and its transpose.
    columns: Vec<T>,
    columns_transposed: Vec<T>,
    /// S, [wave of the rows, wave of the columns].
    weights: Vec<T>,
    isa: Isa,
}

impl<T: Real> Spectrum<T> {
    /// The waves of this height and width. `gain` multiplies all weights.
    pub fn new(h: usize, w: usize, decay: f64, gain: f64) -> Self {
        let (rows, columns) = (waves(h), waves(w));
        let lowest = 1.0 / h.max(w) as f64;
        let weight = |y: usize, x: usize| {
            let (fy, fx) = (frequency(y, h), frequency(x, w));
            gain * libm::pow((fy * fy + fx * fx).sqrt().max(lowest), -decay)
        };
        let weights = (0..h).flat_map(|y| (0..w).map(move |x| (y, x))).map(|(y, x)| T::from_f64(weight(y, x))).collect();
        Self {
            w,
            rows_transposed: transposed(&rows, h),
            columns_transposed: transposed(&columns, w),
            rows,
            columns,
            weights,
            isa: Isa::Portable,
        }
    }

    /// The same, with other instructions.
    pub fn on(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// Writes the H×W image of these amplitudes. `scratch` holds as many numbers, its contents are lost.
    pub fn image(&self, amplitudes: &[T], image: &mut [T], scratch: &mut [T]) {
        for ((value, amplitude), weight) in image.iter_mut().zip(amplitudes).zip(&self.weights) {
            *value = *amplitude * *weight;
        }
        matrix_product(self.isa, &self.rows_transposed, image, scratch, self.w);
        matrix_product(self.isa, scratch, &self.columns, image, self.w);
    }

    /// Writes the gradient of the amplitudes for this gradient of the image, which is lost.
    pub fn gradient(&self, grad_image: &mut [T], grad_amplitudes: &mut [T]) {
        matrix_product(self.isa, &self.rows, grad_image, grad_amplitudes, self.w);
        matrix_product(self.isa, grad_amplitudes, &self.columns_transposed, grad_image, self.w);
        for ((gradient, value), weight) in grad_amplitudes.iter_mut().zip(&*grad_image).zip(&self.weights) {
            *gradient = *value * *weight;
        }
    }

    /// Writes the amplitudes whose image this is; the image is lost.
    pub fn amplitudes(&self, image: &mut [T], amplitudes: &mut [T]) {
        self.gradient(image, amplitudes);
        for (amplitude, weight) in amplitudes.iter_mut().zip(&self.weights) {
            *amplitude /= *weight * *weight;
        }
    }
}

/// The share of an image's power, its mean left out, in waves of more than `frequency` cycles per pixel; 0 for an even
/// image. `image` is C×H×W.
pub(crate) fn power_above(frequency_limit: f64, image: &[f32], [h, w]: [usize; 2]) -> f64 {
    let spectrum = Spectrum::<f64>::new(h, w, 0.0, 1.0);
    let mut amplitudes = vec![0.0; h * w];
    let (mut whole, mut above, mut all) = (0.0, 0.0, 0.0);
    for plane in image.chunks_exact(h * w) {
        let mut plane: Vec<f64> = plane.iter().map(|value| f64::from(*value)).collect();
        spectrum.gradient(&mut plane, &mut amplitudes);
        whole += amplitudes.iter().map(|amplitude| amplitude * amplitude).sum::<f64>();
        for (index, amplitude) in amplitudes.iter().enumerate().skip(1) {
            let (fy, fx) = (frequency(index / w, h), frequency(index % w, w));
            all += amplitude * amplitude;
            if (fy * fy + fx * fx).sqrt() > frequency_limit {
                above += amplitude * amplitude;
            }
        }
    }
    if all > ROUNDING * whole { above / all } else { 0.0 }
}

/// Share of an image's power below which a wave is taken for rounding.
const ROUNDING: f64 = 1e-20;

/// Images that a decay is measured on at most, evenly spread.
const MEASURED: usize = 500;

/// The power of the frequency with which the amplitudes of these images fall: minus half the slope of the logarithm of the
/// mean power of a wave against that of its frequency, by least squares over all waves but the even one. Kept in 0 … 3; 1
/// for images of a single pixel, or all even.
pub fn decay_of(split: &Split) -> f64 {
    let [_, h, w] = split.size();
    let spectrum = Spectrum::<f64>::new(h, w, 0.0, 1.0);
    let (mut power, mut amplitudes) = (vec![0.0; h * w], vec![0.0; h * w]);
    for plane in split.spread(MEASURED).into_iter().flat_map(|image| split.image(image).chunks_exact(h * w)) {
        let mut plane: Vec<f64> = plane.iter().map(|value| f64::from(*value)).collect();
        spectrum.gradient(&mut plane, &mut amplitudes);
        power.iter_mut().zip(&amplitudes).for_each(|(power, amplitude)| *power += amplitude * amplitude);
    }
    let logarithms = |(index, power): (usize, &f64)| {
        let (fy, fx) = (frequency(index / w, h), frequency(index % w, w));
        [0.5 * libm::log(fy * fy + fx * fx), libm::log(*power)]
    };
    let least = ROUNDING * power.iter().sum::<f64>();
    let points: Vec<[f64; 2]> = power.iter().enumerate().skip(1).filter(|(_, power)| **power > least).map(logarithms).collect();
    let mean = |axis: usize| points.iter().map(|point| point[axis]).sum::<f64>() / points.len().max(1) as f64;
    let (x, y) = (mean(0), mean(1));
    let along: f64 = points.iter().map(|point| (point[0] - x) * (point[1] - y)).sum();
    let square: f64 = points.iter().map(|point| (point[0] - x) * (point[0] - x)).sum();
    if square > 0.0 { (-0.5 * along / square).clamp(0.0, 3.0) } else { 1.0 }
}

/// Cycles per pixel of a wave.
fn frequency(wave: usize, n: usize) -> f64 {
    wave.div_ceil(2) as f64 / n as f64
}

/// The matrix B of an axis, [wave, place].
fn waves<T: Real>(n: usize) -> Vec<T> {
    let value = |wave: usize, x: usize| {
        // The angle is reduced in whole numbers, so that it stays exact for long axes.
        let angle = std::f64::consts::TAU * (wave.div_ceil(2) * x % n) as f64 / n as f64;
        let alone = wave == 0 || (wave == n - 1 && n.is_multiple_of(2));
        let norm = (if alone { 1.0 } else { 2.0 } / n as f64).sqrt();
        norm * if wave == 0 || wave % 2 == 1 { libm::cos(angle) } else { libm::sin(angle) }
    };
    (0..n).flat_map(|wave| (0..n).map(move |x| T::from_f64(value(wave, x)))).collect()
}

fn transposed<T: Real>(matrix: &[T], n: usize) -> Vec<T> {
    (0..n * n).map(|index| matrix[index % n * n + index / n]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose};

    fn random(count: usize, at: u64) -> Vec<f64> {
        let mut random = Address::new(1, Purpose::Check).then(at).random();
        (0..count).map(|_| random.normal()).collect()
    }

    #[test]
    fn amplitudes_and_image_are_each_others_inverse_and_the_gradient_is_the_adjoint() {
        for (h, w) in [(1, 1), (2, 3), (5, 4), (28, 28), (9, 14)] {
            let spectrum = Spectrum::<f64>::new(h, w, 1.0, 0.25);
            let amplitudes = random(h * w, 1);
            let (mut image, mut scratch, mut back) = (vec![0.0; h * w], vec![0.0; h * w], vec![0.0; h * w]);
            spectrum.image(&amplitudes, &mut image, &mut scratch);
            spectrum.amplitudes(&mut image.clone(), &mut back);
            // Weights range over max(H, W), and each number is a sum of H + W products.
            let tolerance = 8.0 * f64::EPSILON * (h + w) as f64 * h.max(w) as f64;
            assert!(amplitudes.iter().zip(&back).all(|(a, b)| (a - b).abs() < tolerance), "{h}x{w}");

            let grad_image = random(h * w, 2);
            spectrum.gradient(&mut grad_image.clone(), &mut back);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (left, right) = (dot(&image, &grad_image), dot(&amplitudes, &back));
            let length = dot(&image, &image).sqrt() * dot(&grad_image, &grad_image).sqrt();
            assert!((left - right).abs() < tolerance * length, "{h}x{w}: {left} {right}");
        }
    }

    #[test]
    fn power_lies_where_its_wave_is() {
        let wave =
            |cycles: f64| (0..256).map(|i| (std::f64::consts::TAU * cycles * (i % 16) as f64 / 16.0).cos() as f32).collect::<Vec<_>>();
        assert!(power_above(0.25, &wave(2.0), [16, 16]) < 1e-12);
        assert!(power_above(0.25, &wave(7.0), [16, 16]) > 1.0 - 1e-12);
        let both: Vec<f32> = wave(2.0).iter().zip(wave(7.0)).map(|(a, b)| a + b).collect();
        assert!((power_above(0.25, &both, [16, 16]) - 0.5).abs() < 1e-6);
        assert_eq!(power_above(0.25, &[0.3; 256], [16, 16]), 0.0);
    }

    #[test]
    fn the_decay_of_images_is_measured() {
        // Images made of waves with a known decay.
        let spectrum = Spectrum::<f64>::new(16, 16, 0.7, 1.0);
        let (mut image, mut scratch, mut pixels) = (vec![0.0; 256], vec![0.0; 256], Vec::new());
        for sample in 0..200 {
            spectrum.image(&random(256, 10 + sample), &mut image, &mut scratch);
            pixels.extend(image.iter().map(|value| (128.0 + 12.0 * value).round() as u8));
        }
        let found = decay_of(&Split::new([1, 16, 16], pixels, vec![0; 200]).unwrap());
        assert!((found - 0.7).abs() < 0.05, "{found}");
        // Clothes on black are smoother than photographs, which have about 1.
        let clothes = decay_of(&crate::data::Dataset::embedded().test);
        assert!((1.3..1.5).contains(&clothes), "{clothes}");
        assert_eq!(decay_of(&Split::new([1, 4, 4], vec![9; 16], vec![0]).unwrap()), 1.0);
    }
}
