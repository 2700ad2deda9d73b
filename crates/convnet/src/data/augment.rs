//! Random changes of training images: each image is a little different in each epoch.
//!
//! In this order: mirrored, turned, shifted; brightness, contrast; normalised; then a rectangle and a square are erased.
//! What is erased becomes 0 after normalisation, the mean colour. Every number is a function of (seed, epoch, sample,
//! which change), so that switching one change on leaves the others as they are, and any image can be made again.

use serde::{Deserialize, Serialize};

use super::normalise::Normalisation;
use super::placing::Placing;
use crate::error::{Error, Result};
use crate::random::{Address, Purpose, Random};

/// What stands where a shifted or turned image leaves a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    /// Black.
    #[default]
    Zero,
    /// The image mirrored at its edge, the edge itself not repeated.
    Reflect,
}

/// Which changes are made, and how strongly; the default is none.
///
/// ```
/// use convnet::data::Augmentation;
///
/// let augmentation = Augmentation { shift: 4, flip: true, ..Augmentation::default() };
/// augmentation.check([3, 32, 32])?;
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Shifts by up to so many pixels in each direction (padding by as many and cropping at random); 0 is never.
    pub shift: usize,
    /// What fills the gaps of shifted and turned images.
    pub fill: Fill,
    /// Mirrors every second image, left to right.
    pub flip: bool,
    /// Turns by up to so many degrees in either direction (bilinear); 0 is never.
    pub rotate: f32,
    /// Multiplies all values by a factor from 1 − b to 1 + b; 0 is never.
    pub brightness: f32,
    /// Multiplies the distance of all values from their mean by a factor from 1 − c to 1 + c; 0 is never.
    pub contrast: f32,
    /// Erases a rectangle with this probability (Zhong et al. 2017); 0 is never.
    pub erase: f32,
    /// The smallest and the largest share of the image that the rectangle takes; its proportions are between 1:3.3 and
    /// 3.3:1.
    pub erase_area: [f32; 2],
    /// Erases a square of this side around a pixel of the image, cut at the margins (DeVries and Taylor 2017); 0 is never.
    pub cutout: usize,
}

impl Default for Augmentation {
    fn default() -> Self {
        Augmentation {
            shift: 0,
            fill: Fill::Zero,
            flip: false,
            rotate: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            erase: 0.0,
            erase_area: [0.02, 0.33],
            cutout: 0,
        }
    }
}

/// The last coordinate of the address of each change. Stored runs depend on these numbers.
#[derive(Clone, Copy)]
enum Change {
    Shift = 1,
    Flip = 2,
    Rotate = 3,
    Brightness = 4,
    Contrast = 5,
    Erase = 6,
    Cutout = 7,
}

/// The erased rectangle has a ratio of its sides from 1/3.3 to 3.3.
const MOST_RATIO: f32 = 3.3;
/// So often a rectangle is tried until it fits into the image.
const TRIES: usize = 10;

impl Augmentation {
    /// Whether these changes can be made to images of the size `[C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Argument`] names the setting, its value and what is possible.
    pub fn check(&self, size: [usize; 3]) -> Result<()> {
        let [_, height, width] = size;
        let side = height.min(width);
        let wrong = |name: &str, value: String, needed: String| Err(Error::Argument(format!("augmentation: {name} = {value}, {needed}")));
        if self.shift >= side {
            return wrong("shift", self.shift.to_string(), format!("less than the {side} pixels of a side are possible"));
        }
        if self.cutout > height.max(width) {
            return wrong("cutout", self.cutout.to_string(), format!("at most the {} pixels of a side are possible", height.max(width)));
        }
        for (name, value, most) in [
            ("rotate", self.rotate, 180.0),
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("erase", self.erase, 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return wrong(name, value.to_string(), format!("0 to {most} is possible"));
            }
        }
        let [least, most] = self.erase_area;
        if !(least > 0.0 && least <= most && most <= 1.0) {
            return wrong(
                "erase_area",
                format!("{:?}", self.erase_area),
                "two shares above 0, up to 1, the smaller first, are needed".to_owned(),
            );
        }
        Ok(())
    }

    /// Writes one changed and normalised image: `image` and `values` are C×H×W of the size `size`.
    ///
    /// # Panics
    /// When `image` or `values` is not of that size.
    pub fn apply(&self, image: &[u8], size: [usize; 3], normalisation: &Normalisation, at: SampleAddress, values: &mut [f32]) {
        let [channels, height, width] = size;
        let plane = height * width;
        assert_eq!(image.len(), channels * plane, "the image has its size");
        assert_eq!(values.len(), channels * plane, "the values have the size of the image");
        let placing = self.placing(size, at);
        let colour = self.colour(image, at);
        for (channel, (source, target)) in image.chunks_exact(plane).zip(values.chunks_exact_mut(plane)).enumerate() {
            let line = normalisation.line(channel);
            placing.sample(source, target);
            for value in target {
                *value = line.of(colour.of(*value));
            }
        }
        self.erase(size, at, values);
    }

    fn placing(&self, [_, height, width]: [usize; 3], at: SampleAddress) -> Placing {
        let mut random = at.change(Change::Shift);
        let mut shift = || random.below(2 * self.shift + 1) as isize - self.shift as isize;
        let (down, right) = (shift(), shift());
        let mirrored = self.flip && at.change(Change::Flip).chance(0.5);
        let degrees = f64::from(at.change(Change::Rotate).between(-self.rotate, self.rotate));
        let turn = (self.rotate > 0.0).then(|| {
            let radians = degrees.to_radians();
            [libm::cos(radians) as f32, libm::sin(radians) as f32]
        });
        Placing { height, width, down, right, mirrored, turn, fill: self.fill }
    }

    fn colour(&self, image: &[u8], at: SampleAddress) -> Colour {
        if self.brightness == 0.0 && self.contrast == 0.0 {
            return Colour { gain: 1.0, offset: 0.0 };
        }
        let brightness = at.change(Change::Brightness).between(1.0 - self.brightness, 1.0 + self.brightness);
        let contrast = at.change(Change::Contrast).between(1.0 - self.contrast, 1.0 + self.contrast);
        let sum: u64 = image.iter().map(|&value| u64::from(value)).sum();
        let mean = (sum as f64 / image.len() as f64) as f32 * brightness;
        Colour { gain: brightness * contrast, offset: mean * (1.0 - contrast) }
    }

    fn erase(&self, [_, height, width]: [usize; 3], at: SampleAddress, values: &mut [f32]) {
        let plane = height * width;
        let mut clear = |top: usize, left: usize, bottom: usize, right: usize| {
            for values in values.chunks_exact_mut(plane) {
                for row in values.chunks_exact_mut(width).take(bottom).skip(top) {
                    row[left..right].fill(0.0);
                }
            }
        };
        if self.erase > 0.0 {
            let mut random = at.change(Change::Erase);
            if random.chance(self.erase)
                && let Some([rows, columns]) = self.rectangle(height, width, &mut random)
            {
                let (top, left) = (random.below(height - rows + 1), random.below(width - columns + 1));
                clear(top, left, top + rows, left + columns);
            }
        }
        if self.cutout > 0 {
            let mut random = at.change(Change::Cutout);
            let (y, x) = (random.below(height), random.below(width));
            let (before, after) = (self.cutout / 2, self.cutout - self.cutout / 2);
            clear(y.saturating_sub(before), x.saturating_sub(before), (y + after).min(height), (x + after).min(width));
        }
    }

    /// Height and width of a rectangle that fits, or none when no try gave one.
    fn rectangle(&self, height: usize, width: usize, random: &mut Random) -> Option<[usize; 2]> {
        let [least, most] = self.erase_area.map(|share| f64::from(share) * (height * width) as f64);
        let longest = libm::log(f64::from(MOST_RATIO));
        (0..TRIES).find_map(|_| {
            let area = least + (most - least) * random.uniform_f64();
            let ratio = libm::exp(longest * (2.0 * random.uniform_f64() - 1.0));
            let rows = (area * ratio).sqrt().round() as usize;
            let columns = (area / ratio).sqrt().round() as usize;
            ((1..=height).contains(&rows) && (1..=width).contains(&columns)).then_some([rows, columns])
        })
    }
}

/// Which image is changed, when: its random numbers.
#[derive(Clone, Copy, Debug)]
pub struct SampleAddress(Address);

impl SampleAddress {
    /// The address of a sample (its index in the split) in an epoch under a seed.
    pub fn new(seed: u64, epoch: u64, sample: usize) -> Self {
        SampleAddress(Address::new(seed, Purpose::Augment).then(epoch).then(sample as u64))
    }

    fn change(self, change: Change) -> Random {
        self.0.then(change as u64).random()
    }
}

/// A change of all values of an image, 0 … 255: gain·x + offset, cut to that range.
struct Colour {
    gain: f32,
    offset: f32,
}

impl Colour {
    fn of(&self, value: f32) -> f32 {
        // At gain 1 and offset 0 this is exact, so an image that is not changed equals its plain normalisation.
        (self.gain * value + self.offset).clamp(0.0, 255.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::placing::reflected;
    use super::*;

    const SIZE: [usize; 3] = [2, 5, 6];

    fn plain() -> Normalisation {
        // Leaves values as they are: x/255 divided by 1/255.
        Normalisation { mean: vec![0.0; 3], std: vec![1.0 / 255.0; 3] }
    }

    fn image(size: [usize; 3]) -> Vec<u8> {
        (0..size.iter().product()).map(|index: usize| (index * 37 % 251) as u8 + 1).collect()
    }

    fn changed_of(augmentation: &Augmentation, image: &[u8], size: [usize; 3], sample: usize) -> Vec<f32> {
        augmentation.check(size).unwrap();
        let mut values = vec![f32::NAN; image.len()];
        augmentation.apply(image, size, &plain(), SampleAddress::new(1, 0, sample), &mut values);
        values
    }

    fn changed(augmentation: &Augmentation, sample: usize) -> Vec<f32> {
        changed_of(augmentation, &image(SIZE), SIZE, sample)
    }

    /// Whether two planes are equal where the shift leaves no gap.
    fn close(left: f32, right: f32) -> bool {
        (left - right).abs() < 1e-2
    }

    #[test]
    fn without_a_change_an_image_equals_its_plain_normalisation_to_the_bit() {
        let normalisation = Normalisation { mean: vec![0.3, 0.7], std: vec![0.2, 0.31] };
        let (mut expected, mut values) = (vec![0.0; 60], vec![0.0; 60]);
        normalisation.apply(&image(SIZE), &mut expected);
        Augmentation::default().apply(&image(SIZE), SIZE, &normalisation, SampleAddress::new(1, 2, 3), &mut values);
        assert_eq!(values, expected);
    }

    #[test]
    fn a_shift_moves_all_channels_alike_and_fills_the_gap() {
        let source = image(SIZE);
        for fill in [Fill::Zero, Fill::Reflect] {
            let augmentation = Augmentation { shift: 2, fill, ..Augmentation::default() };
            let mut seen = std::collections::BTreeSet::new();
            for sample in 0..200 {
                let values = changed(&augmentation, sample);
                let explained = (-2..=2).flat_map(|down| (-2..=2).map(move |right| (down, right))).find(|&(down, right)| {
                    (0..60).all(|index| {
                        let (c, y, x) = (index / 30, (index / 6 % 5) as isize - down, (index % 6) as isize - right);
                        let inside = (0..5).contains(&y) && (0..6).contains(&x);
                        let expected = match fill {
                            Fill::Zero if !inside => 0.0,
                            _ => f32::from(source[c * 30 + reflected(y, 5) * 6 + reflected(x, 6)]),
                        };
                        close(values[index], expected)
                    })
                });
                seen.insert(explained.expect("every changed image is a shift of the image"));
            }
            assert_eq!(seen.len(), 25, "{fill:?}: all shifts of up to 2 come up");
        }
    }

    #[test]
    fn about_every_second_image_is_mirrored_left_to_right() {
        let augmentation = Augmentation { flip: true, ..Augmentation::default() };
        let (source, mut mirrored) = (image(SIZE), 0);
        for sample in 0..1000 {
            let values = changed(&augmentation, sample);
            let as_is = (0..60).all(|index| close(values[index], f32::from(source[index])));
            let swapped = (0..60).all(|index| close(values[index], f32::from(source[index / 6 * 6 + 5 - index % 6])));
            assert!(as_is != swapped, "sample {sample} is either as it is or mirrored");
            mirrored += usize::from(swapped);
        }
        // Five standard deviations of 500.
        assert!((420..=580).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn turned_images_keep_their_centre_and_differ() {
        let size = [1, 9, 9];
        let augmentation = Augmentation { rotate: 15.0, fill: Fill::Reflect, ..Augmentation::default() };
        let source = image(size);
        let (first, second) = (changed_of(&augmentation, &source, size, 0), changed_of(&augmentation, &source, size, 1));
        assert_ne!(first, second);
        assert!(close(first[40], f32::from(source[40])) && close(second[40], f32::from(source[40])));
    }

    #[test]
    fn brightness_scales_and_contrast_keeps_the_mean() {
        let size = [1, 4, 4];
        let source: Vec<u8> = (0..16).map(|value| 60 + value * 4).collect();
        let mean = source.iter().map(|&value| f32::from(value)).sum::<f32>() / 16.0;
        let mut factors = Vec::new();
        for sample in 0..50 {
            let values = changed_of(&Augmentation { brightness: 0.3, ..Augmentation::default() }, &source, size, sample);
            let factor = values[0] / 60.0;
            assert!((0.7..=1.3001).contains(&factor));
            assert!((0..16).all(|index| close(values[index], f32::from(source[index]) * factor)));
            factors.push(factor);

            let values = changed_of(&Augmentation { contrast: 0.5, ..Augmentation::default() }, &source, size, sample);
            assert!(close(values.iter().sum::<f32>() / 16.0, mean));
        }
        assert!(factors.iter().copied().fold(2.0, f32::min) < 0.8 && factors.iter().copied().fold(0.0, f32::max) > 1.2);
        let white = changed_of(&Augmentation { brightness: 1.0, ..Augmentation::default() }, &[250; 16], size, 3);
        assert!(white.iter().all(|&value| (0.0..=255.1).contains(&value)), "values stay in the range of bytes");
    }

    /// The rows and columns of the erased pixels, after checking that they are a full rectangle in all channels.
    fn erased_rectangle(values: &[f32], [channels, height, width]: [usize; 3]) -> Option<[usize; 4]> {
        let erased: Vec<usize> = (0..height * width).filter(|&pixel| values[pixel] == 0.0).collect();
        let rows = erased.iter().map(|pixel| pixel / width);
        let columns = erased.iter().map(|pixel| pixel % width);
        let (top, bottom) = (rows.clone().min()?, rows.max()? + 1);
        let (left, right) = (columns.clone().min()?, columns.max()? + 1);
        assert_eq!(erased.len(), (bottom - top) * (right - left), "a full rectangle");
        for channel in 1..channels {
            for pixel in 0..height * width {
                assert_eq!(values[pixel] == 0.0, values[channel * height * width + pixel] == 0.0);
            }
        }
        Some([top, bottom, left, right])
    }

    #[test]
    fn an_erased_rectangle_has_the_wanted_area_and_comes_with_its_probability() {
        let size = [3, 32, 40];
        let augmentation = Augmentation { erase: 0.25, erase_area: [0.1, 0.2], ..Augmentation::default() };
        let mut count = 0;
        for sample in 0..1000 {
            let values = changed_of(&augmentation, &image(size), size, sample);
            if let Some([top, bottom, left, right]) = erased_rectangle(&values, size) {
                let area = (bottom - top) * (right - left);
                // The sides are rounded to whole pixels.
                assert!((110..=280).contains(&area), "{area} of 1280 pixels");
                count += 1;
            }
        }
        assert!((180..=320).contains(&count), "{count}");
    }

    #[test]
    fn a_cutout_is_a_square_around_a_pixel_of_the_image() {
        let size = [2, 12, 16];
        let augmentation = Augmentation { cutout: 5, ..Augmentation::default() };
        let mut whole = 0;
        for sample in 0..300 {
            let values = changed_of(&augmentation, &image(size), size, sample);
            let [top, bottom, left, right] = erased_rectangle(&values, size).expect("a cutout in every image");
            assert!((3..=5).contains(&(bottom - top)) && (3..=5).contains(&(right - left)));
            whole += usize::from(bottom - top == 5 && right - left == 5);
        }
        assert!((100..300).contains(&whole), "{whole}");
    }

    #[test]
    fn a_change_is_the_same_whatever_else_is_switched_on() {
        let flip = Augmentation { flip: true, ..Augmentation::default() };
        let both = Augmentation { flip: true, cutout: 2, ..Augmentation::default() };
        for sample in 0..50 {
            let (alone, together) = (changed(&flip, sample), changed(&both, sample));
            assert!(alone.iter().zip(&together).all(|(&alone, &together)| together == 0.0 || alone == together));
        }
    }

    #[test]
    fn the_same_address_gives_the_same_image_and_another_one_another() {
        let augmentation = Augmentation { shift: 2, flip: true, brightness: 0.2, rotate: 10.0, ..Augmentation::default() };
        let source = image(SIZE);
        let at = |seed, epoch, sample| {
            let mut values = vec![0.0; 60];
            augmentation.apply(&source, SIZE, &plain(), SampleAddress::new(seed, epoch, sample), &mut values);
            values
        };
        assert_eq!(at(1, 2, 3), at(1, 2, 3));
        assert_ne!(at(1, 2, 3), at(2, 2, 3));
        assert_ne!(at(1, 2, 3), at(1, 3, 3));
        assert_ne!(at(1, 2, 3), at(1, 2, 4));
    }

    #[test]
    fn an_impossible_setting_is_named() {
        let wrong = |augmentation: Augmentation, name: &str| {
            let error = augmentation.check([3, 28, 32]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("augmentation: {name} = ")), "{error}");
        };
        let none = Augmentation::default;
        wrong(Augmentation { shift: 28, ..none() }, "shift");
        wrong(Augmentation { cutout: 33, ..none() }, "cutout");
        wrong(Augmentation { rotate: 181.0, ..none() }, "rotate");
        wrong(Augmentation { brightness: -0.1, ..none() }, "brightness");
        wrong(Augmentation { contrast: f32::NAN, ..none() }, "contrast");
        wrong(Augmentation { erase: 1.5, ..none() }, "erase");
        wrong(Augmentation { erase_area: [0.5, 0.2], ..none() }, "erase_area");
        wrong(Augmentation { erase_area: [0.0, 0.2], ..none() }, "erase_area");
    }

    #[test]
    fn the_text_form_is_read_back_and_unknown_keys_are_refused() {
        let augmentation = Augmentation { shift: 4, fill: Fill::Reflect, flip: true, cutout: 8, ..Augmentation::default() };
        let text = serde_json::to_string(&augmentation).unwrap();
        assert!(text.contains(r#""fill":"reflect""#), "{text}");
        assert_eq!(serde_json::from_str::<Augmentation>(&text).unwrap(), augmentation);
        let short: Augmentation = serde_json::from_str(r#"{"flip":true}"#).unwrap();
        assert_eq!(short, Augmentation { flip: true, ..Augmentation::default() });
        assert!(serde_json::from_str::<Augmentation>(r#"{"flipp":true}"#).is_err());
    }
}
