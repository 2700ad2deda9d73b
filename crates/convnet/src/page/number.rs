//! Numbers as people read them.

use super::svg::exponent_of;

/// Stands between a number and its unit: narrow, and no line ends there.
pub(crate) const GAP: char = '\u{202f}';

/// A whole number with a comma between thousands, `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with so many decimals, `-1,234.50`; with an exponent where it would be long.
pub(crate) fn fixed(number: f64, decimals: usize) -> String {
    if decimals > 4 || number.abs() >= 1e9 {
        return scientific(number, 2);
    }
    let text = format!("{:.decimals$}", number.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), count);
    let sign = if number < 0.0 && text.contains(|digit: char| ('1'..='9').contains(&digit)) { "−" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// Three digits that count, `0.289`, `12.3`, `1,234`, `2.5e-5`.
pub(crate) fn figure(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() { "not a number" } else { "infinite" }.to_owned();
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    match exponent_of(number) {
        exponent @ -3..=1 => fixed(number, usize::try_from(2 - exponent).unwrap_or(0).min(4)),
        2..=8 => fixed(number, 0),
        _ => scientific(number, 2),
    }
}

fn scientific(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if mantissa.contains('.') => {
            format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.')).replace('-', "−")
        }
        _ => text.replace('-', "−"),
    }
}

/// `90.1 %` of a share from 0 to 1. Only all is `100 %` and only nothing is `0 %`.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return "not a number".to_owned();
    }
    let percent = 100.0 * share;
    if percent > 99.9 && percent < 100.0 {
        return format!("> 99.9{GAP}%");
    }
    if percent > 0.0 && percent < 0.1 {
        return format!("< 0.1{GAP}%");
    }
    let decimals = usize::from(percent != 0.0 && percent != 100.0);
    format!("{percent:.decimals$}{GAP}%")
}

/// `48.2 s`, `1 min 23 s`, `2 h 05 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 if seconds < 59.95 => format!("{seconds:.1}{GAP}s"),
        0..3_600 => format!("{}{GAP}min {:02}{GAP}s", whole / 60, whole % 60),
        _ => format!("{}{GAP}h {:02}{GAP}min", count(whole / 3_600), whole / 60 % 60),
    }
}

/// Sizes with the sign of multiplication, `64×3×5×5`.
pub(crate) fn sizes(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!([0, 999, 1_000, 138_357_544].map(count), ["0", "999", "1,000", "138,357,544"]);
    }

    #[test]
    fn figures_have_three_digits_that_count() {
        let cases =
            [(0.28934, "0.289"), (0.0, "0"), (12.345, "12.3"), (1234.5, "1,234"), (0.002, "0.0020"), (2.5e-5, "2.5e−5"), (-0.5, "−0.500")];
        for (number, text) in cases {
            assert_eq!(figure(number), text);
        }
        assert_eq!(figure(1e300), "1e300");
        assert_eq!(figure(f64::NAN), "not a number");
        assert_eq!(fixed(-0.001, 1), "0.0");
    }

    #[test]
    fn only_all_is_a_hundred_percent() {
        let text = |share| percent(share).replace(GAP, " ");
        assert_eq!([1.0, 0.9999, 0.901, 0.0, 0.0004, 0.5].map(text), ["100 %", "> 99.9 %", "90.1 %", "0 %", "< 0.1 %", "50.0 %"]);
    }

    #[test]
    fn durations_have_the_units_that_suit_them() {
        let text = |seconds| duration(seconds).replace(GAP, " ");
        assert_eq!([0.04, 59.97, 83.4, 7_500.0].map(text), ["0.0 s", "1 min 00 s", "1 min 23 s", "2 h 05 min"]);
    }
}
