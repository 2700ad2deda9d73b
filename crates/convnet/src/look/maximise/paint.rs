//! From the numbers that are changed to an image, and the gradient back.
//!
//! | | an image is | its numbers |
//! |---|---|---|
//! | [`Parametrisation::Fourier`] | 1/(1 + e^−x), x = logit(mean) + M·waves(a) | amplitudes a of waves in each principal colour |
//! | [`Parametrisation::Pixels`] | mean + 0.3·v, cut to 0 … 1 | the pixels v, about as far from the mean of the data as images are |
//!
//! M is the mixture of [`Colours`], the waves are those of `spectrum`, the mean is that of the model's normalisation.
//! So every image is one that a camera could have taken: each number lies in 0 … 1.

use convnet_kernels::{Isa, Real};
use serde::Serialize;

use super::colour::Colours;
use super::spectrum::Spectrum;
use crate::data::Normalisation;
use crate::random::Random;

/// What an image is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Parametrisation {
    /// Waves, each weighed by its frequency to the power of −`decay`: an image begins coarse and gets finer. With 0 all
    /// frequencies are equal, as for pixels.
    Fourier {
        /// The power, best that of the data ([`decay_of`](super::decay_of)). `None` for what is usual: 1.4 for images of up
        /// to 64 pixels a side, as small pictures of single things have it, falling to 1, that of photographs, at 128.
        decay: Option<f32>,
    },
    /// The pixels themselves, with rules that work against grain.
    Pixels(PixelRules),
}

/// What is done to pixels after each step (Yosinski, Clune, Nguyen, Fuchs and Lipson, "Understanding neural networks through
/// deep visualization", 2015). Of the numbers 0 is the mean of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PixelRules {
    /// Share by which every number shrinks towards the mean: L2 decay.
    pub decay: f32,
    /// Steps between two blurs; 0 for none.
    pub blur_every: usize,
    /// Standard deviation of the blur in pixels.
    pub blur: f32,
    /// Share of the pixels, those with the smallest norm over the channels, that are set to the mean.
    pub clip_norm: f32,
    /// Share of the pixels, those that contribute least to the objective by Σ over channels of v·gradient, that are set to
    /// the mean.
    pub clip_contribution: f32,
}

impl PixelRules {
    /// No rule: plain gradient ascent.
    pub const NONE: Self = Self { decay: 0.0, blur_every: 0, blur: 0.0, clip_norm: 0.0, clip_contribution: 0.0 };

    /// A mild set of all of them.
    pub const USUAL: Self = Self { decay: 0.01, blur_every: 4, blur: 0.6, clip_norm: 0.1, clip_contribution: 0.1 };
}

impl Parametrisation {
    /// The same with nothing left open, for images of this size and for parts of them.
    pub(super) fn decided(self, size: [usize; 3]) -> Self {
        match self {
            Self::Fourier { decay } => Self::Fourier { decay: Some(decay.unwrap_or_else(|| usual_decay(size) as f32)) },
            pixels @ Self::Pixels(_) => pixels,
        }
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let share = |value: f32| (0.0..=1.0).contains(&value);
        match self {
            Self::Fourier { decay } => {
                let wrong = decay.filter(|decay| !(0.0..=8.0).contains(decay));
                wrong.map(|decay| format!("the decay of the waves is {decay}; it is from 0 to 8"))
            }
            Self::Pixels(rules) => {
                let sound =
                    share(rules.decay) && share(rules.clip_norm) && share(rules.clip_contribution) && (0.0..=100.0).contains(&rules.blur);
                (!sound).then(|| {
                    format!(
                        "the rules for pixels are {rules:?}; decay and clipping are shares from 0 to 1, the blur is from 0 to 100 pixels"
                    )
                })
            }
        }
    }
}

/// Draws images of one size.
#[derive(Clone, Debug)]
pub(crate) struct Painter<T> {
    size: [usize; 3],
    way: Way<T>,
    mean: Vec<T>,
    std: Vec<T>,
}

#[derive(Clone, Debug)]
enum Way<T> {
    Waves { spectrum: Spectrum<T>, mixture: Vec<T>, base: Vec<T> },
    Pixels(PixelRules),
}

/// Of all waves together, so that a step of 0.05 in every amplitude changes an image visibly but not to the end.
const GAIN: f64 = 0.25;

/// What a number of 1 changes of a pixel, from black to white being 1: about as far as pixels lie from their mean. The
/// model's normalisation would not do, since it may be of any scale.
const UNIT: f64 = 0.3;

/// Standard deviation of the numbers at the start.
const START: f64 = 0.01;

/// How near to black or white a logit may begin.
const EDGE: f64 = 0.02;

impl<T: Real> Painter<T> {
    pub fn new(parametrisation: Parametrisation, size: [usize; 3], normalisation: &Normalisation, colours: &Colours, isa: Isa) -> Self {
        let numbers = |values: &[f32]| values.iter().map(|value| T::from_f32(*value)).collect::<Vec<T>>();
        let (mean, std) = (numbers(&normalisation.mean), numbers(&normalisation.std));
        let way = match parametrisation {
            Parametrisation::Fourier { decay } => Way::Waves {
                spectrum: Spectrum::new(size[1], size[2], decay.map_or_else(|| usual_decay(size), f64::from), GAIN).on(isa),
                mixture: colours.mixture().iter().map(|value| T::from_f64(*value)).collect(),
                base: normalisation.mean.iter().map(|mean| T::from_f64(logit(f64::from(*mean)))).collect(),
            },
            Parametrisation::Pixels(rules) => Way::Pixels(rules),
        };
        Self { size, way, mean, std }
    }

    /// Numbers of an image, and of what it is drawn from.
    pub fn count(&self) -> usize {
        self.size.iter().product()
    }

    fn plane(&self) -> usize {
        self.size[1] * self.size[2]
    }

    /// Numbers to begin with: nearly the mean of the data everywhere.
    pub fn start(&self, random: &mut Random) -> Vec<T> {
        (0..self.count()).map(|_| T::from_f64(START * random.normal())).collect()
    }

    /// The numbers whose image is this one, C×H×W bytes; black and white are taken a little off their ends.
    pub fn start_from(&self, image: &[u8]) -> Vec<T> {
        let plane = self.plane();
        let value = |index: usize| f64::from(image[index]) / 255.0;
        match &self.way {
            Way::Pixels(_) => (0..self.count()).map(|i| (T::from_f64(value(i)) - self.mean[i / plane]) / T::from_f64(UNIT)).collect(),
            Way::Waves { spectrum, mixture, base } => {
                let mut colours: Vec<T> = (0..self.count()).map(|i| T::from_f64(logit(value(i))) - base[i / plane]).collect();
                unmix(mixture, &mut colours, plane);
                let mut amplitudes = vec![T::ZERO; self.count()];
                for (colour, amplitudes) in colours.chunks_exact_mut(plane).zip(amplitudes.chunks_exact_mut(plane)) {
                    spectrum.amplitudes(colour, amplitudes);
                }
                amplitudes
            }
        }
    }

    /// Writes the image, C×H×W in 0 … 1. `scratch` is as long, its contents are lost.
    pub fn paint(&self, numbers: &[T], image: &mut [T], scratch: &mut [T]) {
        let plane = self.plane();
        match &self.way {
            Way::Pixels(_) => {
                for (index, (pixel, number)) in image.iter_mut().zip(numbers).enumerate() {
                    *pixel = clamp(self.mean[index / plane] + T::from_f64(UNIT) * *number);
                }
            }
            Way::Waves { spectrum, mixture, base } => {
                for (numbers, (drawn, rest)) in
                    numbers.chunks_exact(plane).zip(scratch.chunks_exact_mut(plane).zip(image.chunks_exact_mut(plane)))
                {
                    spectrum.image(numbers, drawn, rest);
                }
                let channels = base.len();
                for (channel, pixels) in image.chunks_exact_mut(plane).enumerate() {
                    pixels.fill(base[channel]);
                    for (drawn, share) in scratch.chunks_exact(plane).zip(&mixture[channel * channels..][..channels]) {
                        pixels.iter_mut().zip(drawn).for_each(|(pixel, drawn)| *pixel += *share * *drawn);
                    }
                    pixels.iter_mut().for_each(|pixel| *pixel = T::ONE / (T::ONE + (-*pixel).exp()));
                }
            }
        }
    }

    /// Writes the gradient of the numbers for this gradient of the image that they gave. The gradient of the image and the
    /// contents of `scratch` are lost.
    pub fn gradient(&self, image: &[T], grad_image: &mut [T], grad_numbers: &mut [T], scratch: &mut [T]) {
        let plane = self.plane();
        match &self.way {
            Way::Pixels(_) => {
                for (gradient, value) in grad_numbers.iter_mut().zip(grad_image) {
                    *gradient = *value * T::from_f64(UNIT);
                }
            }
            Way::Waves { spectrum, mixture, base } => {
                for (gradient, pixel) in grad_image.iter_mut().zip(image) {
                    *gradient *= *pixel * (T::ONE - *pixel);
                }
                let channels = base.len();
                for (colour, drawn) in scratch.chunks_exact_mut(plane).enumerate() {
                    drawn.fill(T::ZERO);
                    for (channel, gradient) in grad_image.chunks_exact(plane).enumerate() {
                        let share = mixture[channel * channels + colour];
                        drawn.iter_mut().zip(gradient).for_each(|(drawn, gradient)| *drawn += share * *gradient);
                    }
                }
                for (drawn, gradient) in scratch.chunks_exact_mut(plane).zip(grad_numbers.chunks_exact_mut(plane)) {
                    spectrum.gradient(drawn, gradient);
                }
            }
        }
    }

    /// What the rules for pixels do after step number `step`, from 1. `gradient` is that of the objective for the numbers.
    pub fn after_step(&self, step: usize, numbers: &mut [T], gradient: &[T], scratch: &mut [T]) {
        let Way::Pixels(rules) = &self.way else { return };
        let plane = self.plane();
        let keep = T::from_f32(1.0 - rules.decay);
        numbers.iter_mut().for_each(|number| *number *= keep);
        if rules.blur > 0.0 && rules.blur_every > 0 && step.is_multiple_of(rules.blur_every) {
            for numbers in numbers.chunks_exact_mut(plane) {
                blur(numbers, [self.size[1], self.size[2]], rules.blur, scratch);
            }
        }
        let channels = self.size[0];
        let over_channels =
            |of: &dyn Fn(usize) -> T| (0..plane).map(|p| (0..channels).map(|c| of(c * plane + p)).sum::<T>().abs()).collect();
        if rules.clip_norm > 0.0 {
            let norms: Vec<T> = over_channels(&|index| numbers[index] * numbers[index]);
            clip(numbers, &norms, rules.clip_norm);
        }
        if rules.clip_contribution > 0.0 {
            let contributions: Vec<T> = over_channels(&|index| numbers[index] * gradient[index]);
            clip(numbers, &contributions, rules.clip_contribution);
        }
        for (index, number) in numbers.iter_mut().enumerate() {
            let (mean, unit) = (self.mean[index / plane], T::from_f64(UNIT));
            *number = (clamp(mean + unit * *number) - mean) / unit;
        }
    }

    /// Turns an image, C×H×W in 0 … 1, into what the network sees.
    pub fn normalise(&self, image: &mut [T]) {
        normalise(image, &self.mean, &self.std);
    }

    /// Turns the gradient of what the network sees into that of the image.
    pub fn normalise_gradient(&self, gradient: &mut [T]) {
        let plane = self.plane();
        for (channel, pixels) in gradient.chunks_exact_mut(plane).enumerate() {
            pixels.iter_mut().for_each(|pixel| *pixel /= self.std[channel]);
        }
    }
}

/// Turns an image, C×H×W in 0 … 1, into what a network with this normalisation sees.
pub(super) fn normalise<T: Real>(image: &mut [T], mean: &[T], std: &[T]) {
    let plane = image.len() / mean.len();
    for ((pixels, mean), std) in image.chunks_exact_mut(plane).zip(mean).zip(std) {
        pixels.iter_mut().for_each(|pixel| *pixel = (*pixel - *mean) / *std);
    }
}

/// The decay that images of this size usually have.
fn usual_decay(size: [usize; 3]) -> f64 {
    let side = size[1].min(size[2]) as f64;
    1.4 - 0.4 * ((side - 64.0) / 64.0).clamp(0.0, 1.0)
}

fn logit(value: f64) -> f64 {
    let value = value.clamp(EDGE, 1.0 - EDGE);
    libm::log(value / (1.0 - value))
}

fn clamp<T: Real>(value: T) -> T {
    if value < T::ZERO {
        T::ZERO
    } else if value > T::ONE {
        T::ONE
    } else {
        value
    }
}

/// Solves M·y = x at each pixel, where the columns of M are perpendicular: y = (column·x)/‖column‖². A colour that the data
/// does not have gets nothing.
fn unmix<T: Real>(mixture: &[T], colours: &mut [T], plane: usize) {
    let channels = colours.len() / plane;
    let mut pixel = vec![T::ZERO; channels];
    for p in 0..plane {
        (0..channels).for_each(|c| pixel[c] = colours[c * plane + p]);
        for k in 0..channels {
            let along: T = (0..channels).map(|c| mixture[c * channels + k] * pixel[c]).sum();
            let square: T = (0..channels).map(|c| mixture[c * channels + k] * mixture[c * channels + k]).sum();
            colours[k * plane + p] = if square > T::ZERO { along / square } else { T::ZERO };
        }
    }
}

/// Sets the share of the pixels with the smallest sizes to 0 in all channels.
fn clip<T: Real>(numbers: &mut [T], sizes: &[T], share: f32) {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|a, b| sizes[*a].to_f64().total_cmp(&sizes[*b].to_f64()));
    let count = (sizes.len() as f64 * f64::from(share)) as usize;
    for plane in numbers.chunks_exact_mut(sizes.len()) {
        order[..count].iter().for_each(|pixel| plane[*pixel] = T::ZERO);
    }
}

/// Blurs an H×W plane by a normal distribution cut at three standard deviations; places outside do not count.
fn blur<T: Real>(plane: &mut [T], [h, w]: [usize; 2], deviation: f32, scratch: &mut [T]) {
    let reach = (3.0 * deviation).ceil() as usize;
    let weights: Vec<f64> = (0..=reach).map(|d| libm::exp(-0.5 * (d as f64 / f64::from(deviation)).powi(2))).collect();
    let mean = |place: usize, length: usize, of: &dyn Fn(usize) -> T| {
        let (mut sum, mut whole) = (0.0, 0.0);
        for other in place.saturating_sub(reach)..(place + reach + 1).min(length) {
            let weight = weights[place.abs_diff(other)];
            (sum, whole) = (sum + weight * of(other).to_f64(), whole + weight);
        }
        T::from_f64(sum / whole)
    };
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        scratch[y * w + x] = mean(x, w, &|other| plane[y * w + other]);
    }
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        plane[y * w + x] = mean(y, h, &|other| scratch[other * w + x]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose};

    const SIZE: [usize; 3] = [3, 5, 4];

    fn painter(parametrisation: Parametrisation) -> Painter<f64> {
        let pixels = (0..60).map(|i| (i * 97 % 251) as u8).collect();
        let split = crate::data::Split::new(SIZE, pixels, vec![0]).unwrap();
        Painter::new(parametrisation, SIZE, &Normalisation::of(&split), &Colours::of(&split), Isa::detect())
    }

    const WAYS: [Parametrisation; 2] = [Parametrisation::Fourier { decay: Some(1.0) }, Parametrisation::Pixels(PixelRules::NONE)];

    fn random() -> Random {
        Address::new(2, Purpose::Check).random()
    }

    #[test]
    fn the_gradient_is_that_of_the_image() {
        for way in WAYS {
            let (painter, mut random) = (painter(way), random());
            let mut numbers: Vec<f64> = (0..60).map(|_| 0.5 * random.normal()).collect();
            let weights: Vec<f64> = (0..60).map(|_| random.normal()).collect();
            let (mut image, mut scratch, mut gradient) = (vec![0.0; 60], vec![0.0; 60], vec![0.0; 60]);
            painter.paint(&numbers, &mut image, &mut scratch);
            painter.gradient(&image.clone(), &mut weights.clone(), &mut gradient, &mut scratch);
            // A pixel that is cut to 0 … 1 has no derivative there; the ascent keeps its pixels inside.
            let inside =
                |index: usize| matches!(way, Parametrisation::Fourier { .. }) || (image[index] > 1e-3 && image[index] < 1.0 - 1e-3);
            for index in (0..60).filter(|index| inside(*index)) {
                let mut at = |change: f64| {
                    numbers[index] += change;
                    let mut image = vec![0.0; 60];
                    painter.paint(&numbers, &mut image, &mut scratch);
                    numbers[index] -= change;
                    image.iter().zip(&weights).map(|(value, weight)| value * weight).sum::<f64>()
                };
                let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!(
                    (difference - gradient[index]).abs() < 1e-8 * (1.0 + difference.abs()),
                    "{way:?} {index}: {difference} {}",
                    gradient[index]
                );
            }
        }
    }

    #[test]
    fn every_number_of_an_image_is_one_that_a_camera_gives() {
        for way in WAYS {
            let (painter, mut random) = (painter(way), random());
            let numbers: Vec<f64> = (0..60).map(|_| 100.0 * random.normal()).collect();
            let (mut image, mut scratch) = (vec![0.0; 60], vec![0.0; 60]);
            painter.paint(&numbers, &mut image, &mut scratch);
            assert!(image.iter().all(|value| (0.0..=1.0).contains(value)), "{way:?}");
        }
    }

    #[test]
    fn an_image_can_be_the_start() {
        let image: Vec<u8> = (0..60).map(|i| 10 + (i * 61 % 236) as u8).collect();
        for way in WAYS {
            let painter = painter(way);
            let (mut painted, mut scratch) = (vec![0.0; 60], vec![0.0; 60]);
            painter.paint(&painter.start_from(&image), &mut painted, &mut scratch);
            for (byte, value) in image.iter().zip(&painted) {
                assert!((f64::from(*byte) / 255.0 - value).abs() < 1e-6, "{way:?}: {byte} {value}");
            }
        }
    }

    #[test]
    fn blurring_keeps_an_even_image_and_flattens_a_dot() {
        let (mut even, mut dot, mut scratch) = (vec![2.0_f64; 30], vec![0.0; 30], vec![0.0; 30]);
        blur(&mut even, [5, 6], 1.0, &mut scratch);
        assert!(even.iter().all(|value| (value - 2.0).abs() < 1e-12));
        dot[14] = 1.0;
        blur(&mut dot, [5, 6], 1.0, &mut scratch);
        assert!(dot[14] < 0.25 && dot[13] > 0.05 && (dot[13] - dot[15]).abs() < 0.05);
    }

    #[test]
    fn clipping_takes_the_smallest_pixels_in_all_channels() {
        let mut numbers = vec![1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0];
        clip(&mut numbers, &[4.0, 3.0, 2.0, 1.0], 0.5);
        assert_eq!(numbers, [1.0, 2.0, 0.0, 0.0, -1.0, -2.0, 0.0, 0.0]);
    }
}
