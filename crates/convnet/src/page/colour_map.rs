//! Numbers to colours: three maps of 255 colours, an odd number, so that zero has a colour of its own in the middle.

use std::sync::LazyLock;

use serde::Serialize;

use super::colour::Path;

/// Colours of a map.
pub const STEPS: usize = 255;

/// The colour of what is not a finite number; no map contains it.
pub const NOT_FINITE: [u8; 3] = [255, 0, 255];

/// How numbers become colours. Equal steps of a number are equal steps of lightness (of sRGB's values for
/// [`Grey`](Self::Grey)), so no edge is seen where the numbers have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ColourMap {
    /// From dark violet over green to light yellow: for numbers from low to high.
    Sequential,
    /// From blue over white to red, darker at the ends: for numbers around 0.
    Diverging,
    /// From black to white: for images, and for numbers that are looked at as an image.
    Grey,
}

/// What is told of a violet that is dark but can still be told from a black page.
const SEQUENTIAL: Path = Path { lightness: [0.20, 0.95], chroma: [0.09, 0.135, 0.13], hue: [300.0, 105.0] };
const NEGATIVE: Path = Path { lightness: [0.97, 0.42], chroma: [0.0, 0.09, 0.15], hue: [250.0, 262.0] };
const POSITIVE: Path = Path { lightness: [0.97, 0.42], chroma: [0.0, 0.10, 0.17], hue: [45.0, 22.0] };

static PALETTES: LazyLock<[[[u8; 3]; STEPS]; 3]> = LazyLock::new(|| {
    let last = (STEPS - 1) as f64;
    let palette = |colour: fn(f64) -> [u8; 3]| std::array::from_fn(|step| colour(step as f64 / last));
    [
        palette(|share| SEQUENTIAL.colour(share)),
        palette(|share| if share < 0.5 { NEGATIVE.colour(1.0 - 2.0 * share) } else { POSITIVE.colour(2.0 * share - 1.0) }),
        palette(|share| [(255.0 * share).round() as u8; 3]),
    ]
});

impl ColourMap {
    /// All maps.
    pub const ALL: [Self; 3] = [Self::Sequential, Self::Diverging, Self::Grey];

    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Diverging => "diverging",
            Self::Grey => "grey",
        }
    }

    /// Red, green and blue of each step, from the lowest number to the highest.
    pub fn palette(self) -> &'static [[u8; 3]; STEPS] {
        &PALETTES[self as usize]
    }

    /// The colour of a number on this scale.
    pub fn colour(self, number: f32, range: Range) -> [u8; 3] {
        range.step(number).map_or(NOT_FINITE, |step| self.palette()[step])
    }
}

/// The numbers at the two ends of a colour map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// The number of the first colour.
    pub low: f32,
    /// The number of the last.
    pub high: f32,
}

impl Range {
    /// From the smallest to the largest finite number; from 0 to 0 if there is none.
    pub fn of(numbers: &[f32]) -> Self {
        let finite = numbers.iter().filter(|number| number.is_finite());
        finite
            .fold(None, |range: Option<Self>, &number| match range {
                None => Some(Self { low: number, high: number }),
                Some(range) => Some(Self { low: range.low.min(number), high: range.high.max(number) }),
            })
            .unwrap_or(Self { low: 0.0, high: 0.0 })
    }

    /// From −m to m, m being the largest finite number, whatever its sign.
    pub fn symmetric(numbers: &[f32]) -> Self {
        let Self { low, high } = Self::of(numbers);
        let largest = low.abs().max(high.abs());
        Self { low: -largest, high: largest }
    }

    /// From 0 to the largest number where none is negative, from −m to m otherwise, with the colour map that suits it.
    pub fn suited(numbers: &[f32]) -> (Self, ColourMap) {
        let range = Self::of(numbers);
        if range.low >= 0.0 {
            (Self { low: 0.0, ..range }, ColourMap::Sequential)
        } else {
            (Self::symmetric(numbers), ColourMap::Diverging)
        }
    }

    /// The smallest range that holds both.
    pub fn joined(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// The step of a number, from 0 to [`STEPS`] − 1; numbers outside get the nearest end, all get the middle where the
    /// two ends are one. `None` for what is not finite.
    fn step(self, number: f32) -> Option<usize> {
        if !number.is_finite() {
            return None;
        }
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let share = if high > low { (f64::from(number) - low) / (high - low) } else { 0.5 };
        Some((share.clamp(0.0, 1.0) * (STEPS - 1) as f64).round() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::colour::tests::lab;
    use super::*;

    #[test]
    fn every_colour_of_a_map_is_its_own() {
        for map in ColourMap::ALL {
            let mut colours = map.palette().to_vec();
            assert!(!colours.contains(&NOT_FINITE));
            colours.sort_unstable();
            colours.dedup();
            assert_eq!(colours.len(), STEPS, "{map:?}");
        }
    }

    #[test]
    fn the_lightness_goes_in_equal_steps() {
        let lightness = |map: ColourMap| map.palette().map(|colour| lab(colour)[0]);
        let step = |lightness: &[f64]| {
            let mean = (lightness[lightness.len() - 1] - lightness[0]) / (lightness.len() - 1) as f64;
            (mean, lightness.windows(2).map(|pair| (pair[1] - pair[0] - mean).abs()).fold(0.0, f64::max))
        };
        // A step of one in one of the bytes moves the lightness by up to 0.003.
        let (mean, off) = step(&lightness(ColourMap::Sequential));
        assert!(mean > 0.002 && off < 0.006, "{mean} {off}");
        let both = lightness(ColourMap::Diverging);
        let middle = STEPS / 2;
        for (half, sign) in [(&both[..=middle], 1.0), (&both[middle..], -1.0)] {
            let (mean, off) = step(half);
            assert!(sign * mean > 0.003 && off < 0.006, "{mean} {off}");
        }
        for step in 0..=middle {
            let difference = both[middle - step] - both[middle + step];
            assert!(difference.abs() < 0.01, "numbers of one size are equally dark: {step}: {difference}");
        }
    }

    #[test]
    fn zero_is_the_middle_of_a_symmetric_range() {
        let range = Range::symmetric(&[-2.0, 1.0, f32::NAN, f32::INFINITY]);
        assert_eq!(range, Range { low: -2.0, high: 2.0 });
        assert_eq!([-9.0, -2.0, 0.0, 2.0, 3.0].map(|number| range.step(number)), [0, 0, 127, 254, 254].map(Some));
        assert_eq!(ColourMap::Grey.colour(0.0, range), [128; 3]);
        assert_eq!(ColourMap::Diverging.colour(f32::NAN, range), NOT_FINITE);
        let [l, a, b] = lab(ColourMap::Diverging.colour(0.0, range));
        assert!(l > 0.95 && a.abs() < 0.01 && b.abs() < 0.01, "{l} {a} {b}");
    }

    #[test]
    fn the_map_suits_the_signs_of_the_numbers() {
        assert_eq!(Range::suited(&[1.0, 3.0]), (Range { low: 0.0, high: 3.0 }, ColourMap::Sequential));
        assert_eq!(Range::suited(&[-1.0, 3.0]), (Range { low: -3.0, high: 3.0 }, ColourMap::Diverging));
        assert_eq!(Range::suited(&[]), (Range { low: 0.0, high: 0.0 }, ColourMap::Sequential));
        assert_eq!(Range { low: 0.0, high: 0.0 }.step(0.0), Some(127));
        assert_eq!(Range { low: f32::MIN, high: f32::MAX }.step(f32::MAX), Some(254));
    }
}
