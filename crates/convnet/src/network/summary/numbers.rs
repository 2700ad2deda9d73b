//! Numbers for people: thousands, shortened counts, bytes.

/// Writes a number with a comma between thousands, `138,357,544`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = (first..digits.len()).step_by(3).map(|start| &digits[start..start + 3]);
    let head = (first > 0).then(|| &digits[..first]);
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

/// Writes a number below a million in full, a larger one with four digits: `15.47 G`.
pub fn shortened(number: u64) -> String {
    if number < 1_000_000 {
        return thousands(number);
    }
    let units = [(1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"), (1e18, "E")];
    let value = number as f64;
    // A unit is left behind as soon as rounding would give it a fourth digit before the point.
    let (unit, name) = units.into_iter().find(|(unit, _)| value / unit < 999.95).unwrap_or(units[4]);
    let scaled = value / unit;
    let decimals = match scaled {
        ..9.9995 => 3,
        ..99.995 => 2,
        _ => 1,
    };
    format!("{scaled:.decimals$} {name}")
}

/// The unit in which so many bytes are best written, and its name.
pub fn byte_unit(bytes: u64) -> (f64, &'static str) {
    match bytes {
        ..=1_048_575 => (1024.0, "KiB"),
        1_048_576..=1_073_741_823 => (1_048_576.0, "MiB"),
        _ => (1_073_741_824.0, "GiB"),
    }
}

/// Writes bytes in the unit that suits them, `58.13 MiB`.
pub fn bytes_text(bytes: u64) -> String {
    let (unit, name) = byte_unit(bytes);
    format!("{:.2} {name}", bytes as f64 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        let written = [0, 7, 999, 1000, 138_357_544].map(thousands);
        assert_eq!(written, ["0", "7", "999", "1,000", "138,357,544"]);
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn large_numbers_are_shortened_to_four_digits() {
        let written = [768_000, 3_920_000, 9_999_600, 86_704_128, 115_605_504, 999_949_999, 999_950_001, 15_470_264_320].map(shortened);
        assert_eq!(written, ["768,000", "3.920 M", "10.00 M", "86.70 M", "115.6 M", "999.9 M", "1.000 G", "15.47 G"]);
        assert_eq!(shortened(u64::MAX), "18.45 E");
    }

    #[test]
    fn bytes_are_written_in_the_unit_that_suits_them() {
        assert_eq!(bytes_text(15_237_608 * 4), "58.13 MiB");
        assert_eq!([bytes_text(512), bytes_text(1 << 20), bytes_text(3 << 29)], ["0.50 KiB", "1.00 MiB", "1.50 GiB"]);
    }
}
