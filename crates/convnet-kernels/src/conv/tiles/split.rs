//! `f32` as a sum of bfloat16 parts.
//!
//! ```text
//! part₀ = bf16(x)    part₁ = bf16(x − part₀)    part₂ = bf16(x − part₀ − part₁)
//! ```
//!
//! `bf16` rounds to the nearest, to even where two are equally near. The differences are exact: they need no more bits than x
//! has. Parts below 2⁻¹²⁶, which have no full precision and which AMX takes for zero, become zero.

/// The sign, the exponent and the mantissa of the nearest bfloat16 number.
#[inline(always)]
pub(super) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    // Half a unit, or a little less where the last bit is even, carries into the last bit.
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // Of a NaN rounding could make an infinity.
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    let rounded = if is_nan { bits >> 16 | 0x40 } else { nearest };
    let has_exponent = rounded & 0x7f80 != 0;
    (if has_exponent { rounded } else { rounded & 0x8000 }) as u16
}

/// The number of these bits.
#[inline(always)]
pub(super) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The parts of a number, the largest first. Where the first is infinite or NaN there are no others.
#[inline(always)]
pub(super) fn split<const PARTS: usize>(x: f32) -> [u16; PARTS] {
    let mut parts = [0; PARTS];
    let mut rest = x;
    for part in &mut parts {
        *part = round(rest);
        let is_finite = *part & 0x7f80 != 0x7f80;
        rest = if is_finite { rest - widen(*part) } else { 0.0 };
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of many sizes and bits, both signs.
    fn numbers() -> impl Iterator<Item = f32> {
        let exponents = [-90, -30, -3, -1, 0, 1, 7, 60, 126];
        (0..20_000u32).map(move |place| {
            let mantissa = place.wrapping_mul(0x9e37_79b1) >> 8;
            let number = (1.0 + f64::from(mantissa) / f64::from(1 << 24)) * 2f64.powi(exponents[place as usize % exponents.len()]);
            let number = number as f32;
            if place & 16 == 0 { number } else { -number }
        })
    }

    #[test]
    fn the_nearest_number_of_eight_bits_is_taken_and_the_even_one_of_two() {
        for x in numbers() {
            let (rounded, below) = (widen(round(x)), f32::from_bits(x.to_bits() & 0xffff_0000));
            let above = f32::from_bits((x.to_bits() & 0xffff_0000) + 0x1_0000);
            let error = |number: f32| (f64::from(number) - f64::from(x)).abs();
            assert!(error(rounded) <= error(below).min(error(above)), "{x}");
            assert!((rounded - x).abs() <= x.abs() * 2f32.powi(-8), "{x}");
        }
        for (bits, expected) in [(0x3f80_8000, 0x3f80), (0x3f81_8000, 0x3f82), (0x3f80_8001, 0x3f81), (0xbf81_7fff, 0xbf81)] {
            assert_eq!(round(f32::from_bits(bits)), expected, "{bits:x}");
        }
    }

    #[test]
    fn small_whole_numbers_are_exact() {
        assert!((-256..=256).all(|number| widen(round(number as f32)) == number as f32));
    }

    #[test]
    fn three_parts_are_the_number_and_two_are_sixteen_bits_of_it() {
        for x in numbers().filter(|x| x.abs() > 1e-28) {
            let [first, second, third] = split::<3>(x).map(|part| f64::from(widen(part)));
            assert_eq!(first + second + third, f64::from(x));
            assert!((first + second - f64::from(x)).abs() <= f64::from(x.abs()) * 2f64.powi(-16), "{x}");
            assert_eq!(split::<2>(x), [split::<3>(x)[0], split::<3>(x)[1]]);
            assert_eq!(split::<1>(x), [round(x)]);
        }
    }

    #[test]
    fn what_is_no_number_stays_so_and_what_is_too_small_becomes_zero() {
        for bits in [0x7fc0_0000, 0x7f80_0001, 0xffff_ffff, 0x7fff_ffff, 0xff80_0001] {
            assert!(split::<3>(f32::from_bits(bits)).map(widen)[0].is_nan(), "{bits:x}");
        }
        assert_eq!(split::<3>(f32::INFINITY).map(widen), [f32::INFINITY, 0.0, 0.0]);
        assert_eq!(split::<3>(f32::NEG_INFINITY).map(widen), [f32::NEG_INFINITY, 0.0, 0.0]);
        assert_eq!(split::<2>(f32::MAX).map(widen), [f32::INFINITY, 0.0], "the nearest is beyond the largest");
        assert_eq!(split::<2>(1e-40), [0, 0]);
        assert_eq!(split::<2>(-1e-40), [0x8000, 0x8000]);
    }
}
