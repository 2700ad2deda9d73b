//! One number from many: sums, the largest, its place, and whether all are finite.
//!
//! Sums are made in `f64`. The numbers are cut into at most 64 pieces by their count alone, and the pieces' results
//! are put together in order: the same bits for any number of threads.

use crate::once::compiled_once;
use crate::{Machine, Real, per_isa};

/// Numbers that are worth a piece of work.
const PIECE: usize = 1 << 15;
/// Most pieces.
const PIECES: usize = 64;
/// Sums that run side by side, so that no addition waits for the one before it.
const LANES: usize = 16;

/// `work` of every piece of `x`, put together in order with `join`, beginning with `start`.
fn pieces<T: Real, R: Copy + Send>(machine: &Machine, x: &[T], start: R, work: impl Fn(&[T]) -> R + Sync, join: impl Fn(R, R) -> R) -> R {
    let piece = x.len().div_ceil(PIECES).max(PIECE);
    let mut results = [start; PIECES];
    let results = &mut results[..x.len().div_ceil(piece)];
    machine.threads.chunks_mut(results, 1, |index, result| {
        result[0] = work(&x[index * piece..((index + 1) * piece).min(x.len())]);
    });
    results.iter().fold(start, |all, &result| join(all, result))
}

/// All lanes put together with `join`: the upper half with the lower, and again, which needs few steps one after the other.
#[inline(always)]
pub(crate) fn join_lanes<V: Copy, const N: usize>(mut lanes: [V; N], join: impl Fn(V, V) -> V) -> V {
    const { assert!(N.is_power_of_two()) };
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Σ term(x) in `f64`.
#[inline(always)]
fn sum_in_lanes<T: Real>(x: &[T], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let blocks = x.chunks_exact(LANES);
    let rest: f64 = blocks.remainder().iter().map(|x| term(x.to_f64())).sum();
    for x in blocks {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane += term(x.to_f64());
        }
    }
    join_lanes(lanes, |a, b| a + b) + rest
}

per_isa! {
    fn sum_piece<T: Real>(x: &[T]) -> f64 {
        sum_in_lanes(x, |x| x)
    }
}

compiled_once! {
    /// Σ x
    pub fn sum<T>(machine: &'a Machine, x: &'a [T]) -> f64 {
        pieces(machine, x, 0.0, |x| sum_piece(machine.isa, x), |a, b| a + b)
    }
}

per_isa! {
    fn sum_of_squares_piece<T: Real>(x: &[T]) -> f64 {
        sum_in_lanes(x, |x| x * x)
    }
}

compiled_once! {
    /// Σ x²
    pub fn sum_of_squares<T>(machine: &'a Machine, x: &'a [T]) -> f64 {
        pieces(machine, x, 0.0, |x| sum_of_squares_piece(machine.isa, x), |a, b| a + b)
    }
}

per_isa! {
    fn max_piece<T: Real>(x: &[T]) -> T {
        let mut lanes = [T::NEG_INFINITY; LANES];
        let blocks = x.chunks_exact(LANES);
        let larger = |most: T, x: T| if x > most { x } else { most };
        let rest = blocks.remainder().iter().fold(T::NEG_INFINITY, |most, &x| larger(most, x));
        for x in blocks {
            for (lane, &x) in lanes.iter_mut().zip(x) {
                *lane = larger(*lane, x);
            }
        }
        larger(rest, join_lanes(lanes, larger))
    }
}

/// The largest number; −∞ if there is none. A NaN is never the largest.
pub fn max<T: Real>(machine: &Machine, x: &[T]) -> T {
    pieces(machine, x, T::NEG_INFINITY, |x| max_piece(machine.isa, x), |a, b| if b > a { b } else { a })
}

compiled_once! {
    /// The place of the largest number, of equal ones the first; `None` if there is none. A NaN is never the largest.
    pub fn argmax<T>(machine: &'a Machine, x: &'a [T]) -> Option<usize> {
        let most = max(machine, x);
        x.iter().position(|&x| x == most)
    }
}

per_isa! {
    fn has_non_finite_piece<T: Real>(x: &[T]) -> bool {
        // 0 · x is 0 for every finite x and a NaN for every other, and once a NaN, a sum stays one.
        let mut lanes = [T::ZERO; LANES];
        let blocks = x.chunks_exact(LANES);
        let rest = blocks.remainder().iter().fold(T::ZERO, |sum, &x| sum + x * T::ZERO);
        for x in blocks {
            for (lane, &x) in lanes.iter_mut().zip(x) {
                *lane += x * T::ZERO;
            }
        }
        rest + join_lanes(lanes, |a, b| a + b) != T::ZERO
    }
}

compiled_once! {
    /// Whether a number is infinite or not a number.
    pub fn has_non_finite<T>(machine: &'a Machine, x: &'a [T]) -> bool {
        pieces(machine, x, false, |x| has_non_finite_piece(machine.isa, x), |a, b| a || b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Multiples of 2⁻¹¹, whose sums and sums of squares are exact in `f64` in any order.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|place| (place * 7919 % 4001) as f32 / 2048.0 - 1.0).collect()
    }

    fn machines() -> impl Iterator<Item = Machine> {
        Isa::available().into_iter().flat_map(|isa| [1, 2, 3, 8].map(|threads| Machine::new(isa, threads)))
    }

    #[test]
    fn sums_are_made_in_double_precision() {
        for count in [0, 1, 17, PIECE, 3 * PIECE + 5, 70 * PIECE] {
            let x = numbers(count);
            let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
            let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            for machine in machines() {
                assert_eq!([sum(&machine, &x), sum_of_squares(&machine, &x)], [exact, squares], "{machine:?}");
            }
        }
    }

    #[test]
    fn sums_that_are_rounded_have_the_same_bits_for_any_number_of_threads_and_instruction_set() {
        let x: Vec<f32> = (0..3 * PIECE + 5).map(|place| 1.0 / (place + 1) as f32).collect();
        let first = [sum(&Machine::new(Isa::Portable, 1), &x), sum_of_squares(&Machine::new(Isa::Portable, 1), &x)];
        for machine in machines() {
            assert_eq!([sum(&machine, &x), sum_of_squares(&machine, &x)], first, "{machine:?}");
        }
    }

    #[test]
    fn the_first_of_equal_largest_numbers_is_found_and_nan_is_passed_over() {
        for machine in machines() {
            let mut x = numbers(3 * PIECE + 5);
            x[PIECE + 7] = 5.0;
            x[2 * PIECE] = 5.0;
            x[3] = f32::NAN;
            assert_eq!((max(&machine, &x), argmax(&machine, &x)), (5.0, Some(PIECE + 7)));
            assert_eq!((max::<f32>(&machine, &[]), argmax::<f32>(&machine, &[])), (f32::NEG_INFINITY, None));
            assert_eq!(argmax(&machine, &[f32::NAN, f32::NAN]), None);
            assert_eq!(argmax(&machine, &[f64::NAN, f64::NEG_INFINITY]), Some(1));
        }
    }

    #[test]
    fn one_odd_number_anywhere_is_noticed() {
        for machine in machines() {
            let mut x = numbers(3 * PIECE + 5);
            x[0] = f32::MAX;
            assert!(!has_non_finite(&machine, &x));
            for (place, odd) in [(0, f32::NAN), (PIECE + 1, f32::INFINITY), (3 * PIECE + 4, f32::NEG_INFINITY)] {
                let kept = std::mem::replace(&mut x[place], odd);
                assert!(has_non_finite(&machine, &x), "{odd} at {place}");
                x[place] = kept;
            }
        }
    }
}
