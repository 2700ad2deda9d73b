//! exp, tanh, the logistic function and the normal distribution, in forms that the compiler turns into vector code.
//!
//! For `f32` they are polynomials or quotients of two (minimax, found by Remez's algorithm or linear programming), without
//! branches, calls or fused operations, so every instruction set gives the same bits. For `f64`, which proofs are made in, they
//! are the standard library's, and the error function is its series or continued fraction.
//!
//! | function | largest error in `f32` |
//! |---|---|
//! | [`exp`] | 1 unit in the last place, down to the smallest subnormal |
//! | [`tanh`] | 2 units in the last place |
//! | [`sigmoid`] | 2.5 units in the last place, subnormals included |
//! | [`normal_share`] | 2e-7 |
//! | [`gelu_slope`] | 3.5e-7 |

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use crate::Real;

/// The value of `single` for `f32`, of `double` for `f64`. The conversions there and back cancel.
#[inline(always)]
fn by_type<T: Real>(x: T, single: impl Fn(f32) -> f32, double: impl Fn(f64) -> f64) -> T {
    let value = x.to_f64();
    if size_of::<T>() == size_of::<f32>() { T::from_f64(f64::from(single(value as f32))) } else { T::from_f64(double(value)) }
}

/// eˣ
#[inline(always)]
pub fn exp<T: Real>(x: T) -> T {
    by_type(x, exp_f32, f64::exp)
}

/// tanh x
#[inline(always)]
pub fn tanh<T: Real>(x: T) -> T {
    by_type(x, tanh_f32, f64::tanh)
}

/// The logistic function, 1 / (1 + e⁻ˣ)
#[inline(always)]
pub fn sigmoid<T: Real>(x: T) -> T {
    // With −|x| the exponential never overflows, and small results keep their relative accuracy.
    let e = exp(-x.abs());
    let numerator = if x < T::ZERO { e } else { T::ONE };
    numerator / (T::ONE + e)
}

/// The logistic function and its slope, e⁻ˣ / (1 + e⁻ˣ)², which keeps its relative accuracy where the function is near 1.
#[inline(always)]
pub fn sigmoid_and_slope<T: Real>(x: T) -> [T; 2] {
    let e = exp(-x.abs());
    let share = T::ONE / (T::ONE + e);
    let small = e * share;
    [if x < T::ZERO { small } else { share }, small * share]
}

/// Φ(x), the share of a normal distribution that lies below x.
#[inline(always)]
pub fn normal_share<T: Real>(x: T) -> T {
    by_type(x, normal_share_f32, normal_share_f64)
}

/// The slope of x·Φ(x): Φ(x) + x·φ(x) with the density φ(x) = e^(−x²/2) / √(2π).
#[inline(always)]
pub fn gelu_slope<T: Real>(x: T) -> T {
    by_type(x, gelu_slope_f32, |x| normal_share_f64(x) + x * normal_density_f64(x))
}

/// Σ cᵢ·xⁱ
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients[..N - 1].iter().rev().fold(coefficients[N - 1], |sum, &c| sum * x + c)
}

/// x held between `low` and `high`; a NaN stays.
#[inline(always)]
fn held_between(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// eˣ = 2ⁿ · eʳ with n = round(x / ln 2) and |r| ≤ ln 2 / 2.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has so few bits that n times it is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    // Beyond these the result is 0 or ∞.
    let x = held_between(x, -104.0, 89.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let tail = polynomial(r, [0.499_999_93, 0.166_665_15, 0.041_668_457, 0.008_369_419, 0.001_381_314_2]);
    let power = 1.0 + (r + r * r * tail);
    // 2ⁿ as a product of two powers, each of which has an exponent that a normal number can have.
    let whole = (rounded.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    let half = whole >> 1;
    power * power_of_two(half) * power_of_two(whole.wrapping_sub(half))
}

/// 2ⁿ for −126 ≤ n ≤ 127
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

#[inline(always)]
fn tanh_f32(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let tail = polynomial(square, [-0.333_332_84, 0.133_314_91, -0.053_743_5, 0.020_650_587, -0.005_717_045]);
    let small = size + size * square * tail;
    let large = 1.0 - 2.0 / (exp_f32(2.0 * size) + 1.0);
    (if size < 0.625 { small } else { large }).copysign(x)
}

/// ½ + x·P(x²)/Q(x²) between −`limit` and `limit`, 0 below and 1 above: what rises from 0 to 1 and is odd around its middle. The
/// coefficients are those of the least largest error (found by linear programming).
#[inline(always)]
fn odd_around_half<const N: usize, const M: usize>(x: f32, limit: f32, numerator: [f32; N], denominator: [f32; M]) -> f32 {
    let held = held_between(x, -limit, limit);
    let square = held * held;
    let middle = 0.5 + held * polynomial(square, numerator) / polynomial(square, denominator);
    let above = if x > limit { 1.0 } else { middle };
    if x < -limit { 0.0 } else { above }
}

#[inline(always)]
fn normal_share_f32(x: f32) -> f32 {
    const P: [f32; 7] = [0.398_942_08, 0.032_104_366, 0.004_259_699, 1.325_882_2e-4, 2.910_518_8e-6, -2.297_822_4e-8, 1.285_255_1e-10];
    const Q: [f32; 5] = [1.0, 0.247_138_43, 0.026_870_2, 0.001_606_116_1, 5.050_037_7e-5];
    odd_around_half(x, 5.3, P, Q)
}

#[inline(always)]
fn gelu_slope_f32(x: f32) -> f32 {
    const P: [f32; 7] = [0.797_884_76, -0.043_875_642, 0.014_695_496, -2.080_653_8e-4, 3.504_911e-5, -3.914_091_2e-7, -2.990_365_3e-9];
    const Q: [f32; 7] = [1.0, 0.278_348_15, 0.036_186_963, 0.002_846_829_6, 1.348_516_7e-4, 5.583_534_4e-6, -1.414_331_8e-7];
    odd_around_half(x, 5.8, P, Q)
}

fn normal_share_f64(x: f64) -> f64 {
    0.5 + 0.5 * erf_f64(x * FRAC_1_SQRT_2)
}

fn normal_density_f64(x: f64) -> f64 {
    (-0.5 * x * x).exp() * (0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI)
}

/// The error function, 2/√π · ∫₀ˣ e^(−t²) dt, accurate to a few units in the last place.
fn erf_f64(x: f64) -> f64 {
    let size = x.abs();
    if x.is_nan() {
        x
    } else if size < 2.0 {
        erf_series(x)
    } else {
        // Beyond 6, erfc is less than 2⁻⁵⁴.
        (1.0 - if size > 6.0 { 0.0 } else { erfc_continued_fraction(size) }).copysign(x)
    }
}

/// erf x = 2/√π · e^(−x²) · Σ 2ᵏ·x²ᵏ⁺¹ / (1·3·5·…·(2k+1)): all terms have one sign, so nothing cancels.
fn erf_series(x: f64) -> f64 {
    let twice_square = 2.0 * x * x;
    let mut term = x;
    let mut sum = x;
    let mut odd = 1.0;
    while term.abs() > sum.abs() * f64::EPSILON / 4.0 {
        odd += 2.0;
        term *= twice_square / odd;
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// erfc x = e^(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …)))) for x ≥ 2, where 120 levels are plenty.
fn erfc_continued_fraction(x: f64) -> f64 {
    let fraction = (1..=120).rev().fold(x, |below, level| x + f64::from(level) / 2.0 / below);
    (-x * x).exp() / (PI.sqrt() * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units in the last place of the nearest `f32` to `exact`; infinities and zeros must be met exactly.
    fn ulps(value: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        if nearest.is_infinite() || nearest == 0.0 {
            // Half a subnormal is rounded either way.
            return if value == nearest || (value.abs() <= f32::from_bits(1) && nearest == 0.0) { 0.0 } else { f64::INFINITY };
        }
        let spacing = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
        let spacing = if spacing.is_finite() { spacing } else { f64::powi(2.0, 104) };
        (f64::from(value) - exact).abs() / spacing
    }

    /// The largest error over every 499th `f32` from −`limit` to `limit`.
    fn largest_error(function: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, limit: f32) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        for bits in (0..=limit.to_bits()).step_by(499) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let error = ulps(function(x), exact(f64::from(x)));
                if error > worst.0 {
                    worst = (error, x);
                }
            }
        }
        worst
    }

    #[test]
    fn exp_is_within_one_unit_in_the_last_place() {
        let (error, x) = largest_error(exp::<f32>, f64::exp, 120.0);
        assert!(error <= 1.0, "{error} ULP at {x}");
    }

    #[test]
    fn tanh_is_within_two_units_in_the_last_place() {
        let (error, x) = largest_error(tanh::<f32>, f64::tanh, 40.0);
        assert!(error <= 2.0, "{error} ULP at {x}");
    }

    #[test]
    fn sigmoid_is_within_two_and_a_half_units_in_the_last_place() {
        let (error, x) = largest_error(sigmoid::<f32>, |x| 1.0 / (1.0 + (-x).exp()), 120.0);
        assert!(error <= 2.5, "{error} ULP at {x}");
    }

    #[test]
    fn the_normal_share_and_the_slope_of_gelu_are_within_what_is_promised() {
        let (mut share_error, mut slope_error) = (0.0_f64, 0.0_f64);
        for place in -1_000_000..=1_000_000 {
            let x = place as f32 * 1.3e-5;
            let exact = f64::from(x);
            share_error = share_error.max((f64::from(normal_share(x)) - normal_share_f64(exact)).abs());
            slope_error = slope_error.max((f64::from(gelu_slope(x)) - gelu_slope(exact)).abs());
        }
        assert!(share_error <= 2e-7 && slope_error <= 3.5e-7, "{share_error} {slope_error}");
    }

    #[test]
    fn erf_in_double_precision_has_the_published_values() {
        // Abramowitz and Stegun, table 7.1, and the NIST Digital Library of Mathematical Functions.
        for (x, exact) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_89),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (1.5, 0.966_105_146_475_310_7),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (f64::INFINITY, 1.0),
        ] {
            assert!((erf_f64(x) - exact).abs() <= 4e-16, "erf({x}) = {}", erf_f64(x));
            assert_eq!(erf_f64(-x), -erf_f64(x));
        }
        // Both forms agree where they meet.
        for x in [1.9, 1.99, 2.0, 2.1, 2.5, 3.0] {
            assert!((erf_series(x) - (1.0 - erfc_continued_fraction(x))).abs() < 1e-15, "{x}");
        }
    }

    #[test]
    fn infinities_have_their_limits_and_nan_stays() {
        let (most, least) = (f32::INFINITY, f32::NEG_INFINITY);
        assert_eq!([exp(most), exp(least), exp(0.0_f32), exp(f32::MAX), exp(f32::MIN)], [most, 0.0, 1.0, most, 0.0]);
        assert_eq!([tanh(most), tanh(least), tanh(f32::MAX)], [1.0, -1.0, 1.0]);
        assert_eq!([sigmoid(most), sigmoid(least), sigmoid(0.0_f32)], [1.0, 0.0, 0.5]);
        assert_eq!([normal_share(most), normal_share(least), normal_share(f32::MIN)], [1.0, 0.0, 0.0]);
        assert_eq!([gelu_slope(most), gelu_slope(least), gelu_slope(f32::MAX)], [1.0, 0.0, 1.0]);
        for function in [exp::<f32>, tanh, sigmoid, normal_share, gelu_slope] {
            assert!(function(f32::NAN).is_nan());
        }
        assert!(normal_share(f64::NAN).is_nan());
        assert!(tanh(-0.0_f32).is_sign_negative());
    }
}
