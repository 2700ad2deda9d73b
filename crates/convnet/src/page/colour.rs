//! Perceptually uniform colours: equal steps of lightness along a path through OKLab. The two scales here go from nearly
//! the page's own colour to its opposite, for a light page and for a dark one.
//!
//! Source: B. Ottosson, "A perceptual color space for image processing" (2020), whose matrices these are.

/// Steps of the scale.
pub(crate) const LEVELS: usize = 15;

/// The colour of a field and the colour of text on it, `#rrggbb`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Swatch {
    pub fill: String,
    pub ink: String,
}

/// A path through OKLCh: lightness from 0 to 1, chroma at its start, middle and end (a parabola through all three), hue in
/// degrees, each from the first step to the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub lightness: [f64; 2],
    pub chroma: [f64; 3],
    pub hue: [f64; 2],
}

// The ends of the scales are near white and black, where the screen has little room for chroma.
const ON_LIGHT: Path = Path { lightness: [0.955, 0.36], chroma: [0.03125, 0.125, 0.03125], hue: [105.0, 265.0] };
const ON_DARK: Path = Path { lightness: [0.30, 0.93], chroma: [0.03125, 0.125, 0.03125], hue: [275.0, 105.0] };

/// The scale for a light page.
pub(crate) fn on_light() -> Vec<Swatch> {
    scale(&ON_LIGHT)
}

/// The scale for a dark page.
pub(crate) fn on_dark() -> Vec<Swatch> {
    scale(&ON_DARK)
}

fn scale(path: &Path) -> Vec<Swatch> {
    (0..LEVELS).map(|level| swatch(path, level as f64 / (LEVELS - 1) as f64)).collect()
}

fn swatch(path: &Path, share: f64) -> Swatch {
    let bytes = path.colour(share);
    let ink = if contrast(bytes, [0; 3]) >= contrast(bytes, [255; 3]) { [0; 3] } else { [255; 3] };
    Swatch { fill: hex(bytes), ink: hex(ink) }
}

impl Path {
    /// The sRGB bytes at a share of the way, 0 to 1: the chroma is reduced to what the screen can show.
    pub fn colour(&self, share: f64) -> [u8; 3] {
        let between = |[from, to]: [f64; 2]| from + share * (to - from);
        let [start, middle, end] = self.chroma;
        let straight = start + share * (end - start);
        let mut chroma = straight + 4.0 * share * (1.0 - share) * (middle - (start + end) / 2.0);
        let linear = loop {
            let linear = linear_rgb(between(self.lightness), chroma, between(self.hue));
            if chroma < 1e-3 || linear.iter().all(|part| (0.0..=1.0).contains(part)) {
                break linear;
            }
            chroma -= 0.002;
        };
        linear.map(|part| (255.0 * encoded(part)).round().clamp(0.0, 255.0) as u8)
    }
}

pub(crate) fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Linear sRGB of a colour in OKLCh, the hue in degrees.
fn linear_rgb(lightness: f64, chroma: f64, hue: f64) -> [f64; 3] {
    let hue = hue.to_radians();
    let (a, b) = (chroma * libm::cos(hue), chroma * libm::sin(hue));
    let cones = [
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    ];
    let [l, m, s] = cones.map(|cone| cone * cone * cone);
    [
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    ]
}

/// The sRGB value that a screen shows as this much light.
fn encoded(linear: f64) -> f64 {
    if linear <= 0.0031308 { 12.92 * linear.max(0.0) } else { 1.055 * libm::pow(linear, 1.0 / 2.4) - 0.055 }
}

/// The light of an sRGB value.
pub(crate) fn decoded(byte: u8) -> f64 {
    let value = f64::from(byte) / 255.0;
    if value <= 0.04045 { value / 12.92 } else { libm::pow((value + 0.055) / 1.055, 2.4) }
}

/// The contrast of two colours by WCAG 2, from 1 to 21.
fn contrast(first: [u8; 3], second: [u8; 3]) -> f64 {
    let light = |[red, green, blue]: [u8; 3]| 0.2126 * decoded(red) + 0.7152 * decoded(green) + 0.0722 * decoded(blue) + 0.05;
    let (first, second) = (light(first), light(second));
    first.max(second) / first.min(second)
}

#[cfg(test)]
pub(crate) use tests::lab_of_light;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn bytes(hex: &str) -> [u8; 3] {
        [1, 3, 5].map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap())
    }

    /// OKLab of an sRGB colour.
    pub(in crate::page) fn lab(colour: [u8; 3]) -> [f64; 3] {
        lab_of_light(colour.map(decoded))
    }

    /// OKLab of an amount of light, red, green and blue.
    pub(crate) fn lab_of_light([r, g, b]: [f64; 3]) -> [f64; 3] {
        let [l, m, s] = [
            0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b,
            0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b,
            0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b,
        ]
        .map(libm::cbrt);
        [
            0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
            1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
            0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s,
        ]
    }

    #[test]
    fn the_lightness_goes_in_equal_steps() {
        for (scale, path) in [(on_light(), ON_LIGHT), (on_dark(), ON_DARK)] {
            let step = (path.lightness[1] - path.lightness[0]) / (LEVELS - 1) as f64;
            for pair in scale.windows(2) {
                let found = lab(bytes(&pair[1].fill))[0] - lab(bytes(&pair[0].fill))[0];
                assert!((found - step).abs() < 0.005, "{pair:?}: {found} instead of {step}");
            }
        }
    }

    #[test]
    fn every_colour_carries_text_that_can_be_read() {
        for swatch in on_light().iter().chain(&on_dark()) {
            let found = contrast(bytes(&swatch.fill), bytes(&swatch.ink));
            assert!(found >= 4.5, "{swatch:?}: {found}");
        }
        assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 1e-9);
    }
}
