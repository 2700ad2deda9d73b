//! Crisp SVG from numbers: linear scales, ticks at round numbers, points of lines.

/// A straight map from numbers to places on the page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    numbers: [f64; 2],
    places: [f64; 2],
}

impl Scale {
    /// The map that takes the first number to the first place and the second to the second. Numbers that are (nearly) one
    /// are moved apart, so that a single value lies in the middle.
    pub fn new(numbers: [f64; 2], places: [f64; 2]) -> Self {
        Self { numbers: apart(numbers), places }
    }

    pub fn place(&self, number: f64) -> f64 {
        let ([from, to], [left, right]) = (self.numbers, self.places);
        left + (number - from) / (to - from) * (right - left)
    }

    /// The range of numbers.
    pub fn numbers(&self) -> [f64; 2] {
        self.numbers
    }
}

/// The numbers, or numbers around them if they are too near to each other to tell apart on an axis.
fn apart([from, to]: [f64; 2]) -> [f64; 2] {
    let size = from.abs().max(to.abs());
    if to - from > 1e-9 * size {
        return [from, to];
    }
    let margin = if size == 0.0 { 1.0 } else { 0.1 * size };
    [from - margin, to + margin]
}

/// Round numbers at equal distances: 1, 2 or 5 times a power of ten.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ticks {
    /// Their distance is `mantissa · 10^exponent`.
    mantissa: i64,
    exponent: i32,
    /// The first and the last, as multiples of the distance.
    multiples: [i64; 2],
}

impl Ticks {
    /// The ticks that enclose these numbers, with at most `most` gaps between the numbers.
    pub fn enclosing(numbers: [f64; 2], most: u32) -> Self {
        Self::new(numbers, most, None, [f64::floor, f64::ceil])
    }

    /// The whole numbers, or round multiples of them, within these numbers.
    pub fn whole_within(numbers: [f64; 2], most: u32) -> Self {
        Self::new(numbers, most, Some(0), [f64::ceil, f64::floor])
    }

    fn new(numbers: [f64; 2], most: u32, least_exponent: Option<i32>, round: [fn(f64) -> f64; 2]) -> Self {
        let [from, to] = apart(numbers);
        let gap = (to - from) / f64::from(most);
        let (mut mantissa, mut exponent) = (1, exponent_of(gap));
        if least_exponent.is_some_and(|least| exponent < least) {
            (mantissa, exponent) = (1, 0);
        } else if let Some(larger) = [1, 2, 5].into_iter().find(|&mantissa| decimal(mantissa, exponent) >= gap) {
            mantissa = larger;
        } else {
            exponent += 1;
        }
        let distance = decimal(mantissa, exponent);
        // A quotient that is whole but for rounding must not be pushed to the next whole number.
        let multiple = |number: f64, round: fn(f64) -> f64| {
            let quotient = number / distance;
            if (quotient - quotient.round()).abs() < 1e-6 { quotient.round() as i64 } else { round(quotient) as i64 }
        };
        Self { mantissa, exponent, multiples: [multiple(from, round[0]), multiple(to, round[1])] }
    }

    /// Each tick with the decimals that it needs to be told from the next.
    pub fn numbers(&self) -> impl Iterator<Item = f64> {
        let [first, last] = self.multiples;
        (first..=last.min(first.saturating_add(100))).map(|multiple| decimal(multiple.saturating_mul(self.mantissa), self.exponent))
    }

    /// From the first to the last.
    pub fn range(&self) -> [f64; 2] {
        self.multiples.map(|multiple| decimal(multiple.saturating_mul(self.mantissa), self.exponent))
    }

    /// How many digits after the point tell them apart.
    pub fn decimals(&self) -> usize {
        usize::try_from(-self.exponent).unwrap_or(0)
    }
}

/// The power of ten of the first digit.
pub(crate) fn exponent_of(number: f64) -> i32 {
    // The decimal form is exact where a logarithm is not.
    format!("{number:e}").split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

/// `mantissa · 10^exponent`, as near as a number can be.
fn decimal(mantissa: i64, exponent: i32) -> f64 {
    format!("{mantissa}e{exponent}").parse().unwrap_or(0.0)
}

/// A place on the page, to a tenth of a unit.
pub(crate) fn coordinate(place: f64) -> String {
    let text = format!("{place:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// The `points` of a polyline.
pub(crate) fn points(places: impl Iterator<Item = (f64, f64)>) -> String {
    places.map(|(x, y)| format!("{},{}", coordinate(x), coordinate(y))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enclosing(from: f64, to: f64) -> Vec<f64> {
        Ticks::enclosing([from, to], 5).numbers().collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_numbers() {
        assert_eq!(enclosing(0.13, 0.87), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(enclosing(0.2, 0.7), [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]);
        assert_eq!(enclosing(-3.0, 12.0), [-5.0, 0.0, 5.0, 10.0, 15.0]);
        assert_eq!(enclosing(1e-5, 4.1e-5), [1e-5, 2e-5, 3e-5, 4e-5, 5e-5]);
        for exponent in -30..=30 {
            let range @ [from, to] = [0.37 * 10f64.powi(exponent), 2.9 * 10f64.powi(exponent)];
            let ticks: Vec<f64> = Ticks::enclosing(range, 5).numbers().collect();
            assert!(ticks.len() <= 7 && ticks.len() >= 3, "{exponent}: {ticks:?}");
            assert!(ticks[0] <= from && ticks[ticks.len() - 1] >= to, "{exponent}: {ticks:?}");
        }
    }

    #[test]
    fn ticks_of_counts_are_whole_and_inside() {
        let within = |from, to| Ticks::whole_within([from, to], 5).numbers().collect::<Vec<_>>();
        assert_eq!(within(1.0, 3.0), [1.0, 2.0, 3.0]);
        assert_eq!(within(1.0, 20.0), [5.0, 10.0, 15.0, 20.0]);
        assert_eq!(within(1.0, 1.0), [1.0]);
        assert_eq!(within(3.0, 12_345.0), [5_000.0, 10_000.0]);
    }

    #[test]
    fn one_number_lies_in_the_middle_of_its_scale() {
        for number in [0.0, 0.25, -7.0, 1e29] {
            let place = Scale::new([number, number], [0.0, 100.0]).place(number);
            assert!((place - 50.0).abs() < 1e-9, "{number}: {place}");
        }
        assert_eq!(Scale::new([2.0, 4.0], [10.0, 0.0]).place(3.5), 2.5);
    }

    #[test]
    fn places_are_written_short() {
        assert_eq!(points([(0.0, 1.25), (-0.01, 3.96)].into_iter()), "0,1.2 0,4");
    }
}
