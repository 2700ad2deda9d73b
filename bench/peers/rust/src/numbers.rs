//! The images of a measurement, and the sample by which results are compared: the formulas of `convnet bench --help`.

use std::time::Instant;

/// How many numbers of the scores a record carries.
const SAMPLE: usize = 16;

/// Numbers in [−1/2, 1/2), the bits that convnet makes: stream 0 of its formula, N×C×H×W. All arithmetic is modulo 2³²:
///
/// ```text
/// h ← place · 0x9E3779B1
/// h ← (h xor (h >> 15)) · 0x2C1B3C6D
/// h ← (h xor (h >> 12)) · 0x297A2D39
/// value = ((h xor (h >> 15)) >> 8) / 2²⁴ − 1/2
/// ```
pub fn images(count: usize) -> Vec<f32> {
    (0..count as u32)
        .map(|place| {
            let mut mixed = place.wrapping_mul(0x9E37_79B1);
            mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2C1B_3C6D);
            mixed = (mixed ^ (mixed >> 12)).wrapping_mul(0x297A_2D39);
            ((mixed ^ (mixed >> 15)) >> 8) as f32 / 16_777_216.0 - 0.5
        })
        .collect()
}

/// 16 evenly spaced numbers, the first and the last among them.
pub fn sample(numbers: &[f32]) -> Vec<f32> {
    let last = numbers.len().saturating_sub(1);
    (0..SAMPLE).filter_map(|number| numbers.get(number * last / (SAMPLE - 1)).copied()).collect()
}

/// Median seconds of `work` over at least one round, after one that is not counted.
pub fn median<E>(rounds: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    work()?;
    let mut seconds = Vec::new();
    for _ in 0..rounds.max(1) {
        let begun = Instant::now();
        work()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_those_of_the_formula() {
        let expected = [0, 2_121_476].map(|bits| bits as f32 / 16_777_216.0 - 0.5);
        assert_eq!(images(2), expected);
    }

    #[test]
    fn a_sample_holds_the_first_and_the_last_number() {
        let numbers: Vec<f32> = (0..1000).map(|number| number as f32).collect();
        let sample = sample(&numbers);
        assert_eq!((sample.len(), sample[0], sample[1], sample[15]), (16, 0.0, 66.0, 999.0));
    }

    #[test]
    fn the_median_leaves_out_the_first_round_and_passes_errors_on() {
        let mut calls = 0;
        let mut count = || {
            calls += 1;
            if calls < 5 { Ok(()) } else { Err("fifth") }
        };
        assert!(median(3, &mut count).unwrap() >= 0.0);
        assert_eq!(median(0, &mut count), Err("fifth"));
    }
}
