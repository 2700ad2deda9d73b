//! Dropout: numbers or whole channels are set to zero by chance, the others made larger so that the mean stays.
//!
//! Which ones is a function of a random key and of the place alone, so backward finds the same ones again and nothing is
//! kept. Places are taken in blocks of 8192; the block's number is mixed into the key with the finaliser of SplitMix64
//! (Steele, Lea and Flood 2014), and both halves of that into the place with 32-bit multiplications and shifts, which are
//! vector code.

use crate::elementwise::{PIECE, pieces};
use crate::once::compiled_once;
use crate::{Machine, per_isa};

/// The key of a block: two words that know of the whole random key.
fn block_key(random: u64, block: u64) -> [u32; 2] {
    let mut mixed = random.wrapping_add((block + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    [mixed as u32, (mixed >> 32) as u32]
}

/// 31 random bits for a place in a block.
#[inline(always)]
fn bits(place: u32, [first, second]: [u32; 2]) -> i32 {
    let mut mixed = place.wrapping_mul(0x9e37_79b1) ^ first;
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x7feb_352d);
    mixed = (mixed ^ (mixed >> 15) ^ second).wrapping_mul(0x846c_a68b);
    ((mixed ^ (mixed >> 16)) >> 1) as i32
}

per_isa! {
    fn drop_piece<T: Real>(key: [u32; 2], threshold: i32, scale: T, y: &mut [T]) {
        for (place, y) in y.iter_mut().enumerate() {
            *y = if bits(place as u32, key) < threshold { *y * scale } else { T::ZERO };
        }
    }
}

compiled_once! {
    /// y ← x/(1 − share), or 0 with the probability `share`, which is at least 0 and below 1.
    ///
    /// The gradient is the same routine with dy for x.
    pub fn dropout<T>(machine: &'a Machine, share: f64, random: u64, x: Option<&'a [T]>, y: &'a mut [T]) {
        // The conversion saturates.
        let threshold = ((1.0 - share) * f64::from(1u32 << 31)) as i32;
        let scale = T::from_f64(1.0 / (1.0 - share));
        pieces(&machine.threads, x, y, |start, y| {
            drop_piece(machine.isa, block_key(random, (start / PIECE) as u64), threshold, scale, y);
        });
    }
}

per_isa! {
    fn drop_channels_piece<T: Real>(factors: &[T], channels: usize, pixels: usize, first: usize, y: &mut [T]) {
        for (row, y) in (first..).zip(y.chunks_exact_mut(channels)) {
            let factors = &factors[row / pixels * channels..][..channels];
            for (y, &factor) in y.iter_mut().zip(factors) {
                *y = if factor > T::ZERO { *y * factor } else { T::ZERO };
            }
        }
    }
}

compiled_once! {
    /// As [`dropout`], but the `pixels` numbers of one channel of one image share their fate. Images are channels last;
    /// `factors` is working memory, one number for each channel of each image.
    ///
    /// # Panics
    /// If `y` is not as many images of as many channels as `factors` says, or there are no channels or pixels.
    pub fn spatial_dropout<T>(
        machine: &'a Machine,
        share: f64,
        random: u64,
        channels: usize,
        pixels: usize,
        x: Option<&'a [T]>,
        y: &'a mut [T],
        factors: &'a mut [T],
    ) {
        assert_eq!(y.len(), factors.len() * pixels, "one factor for each channel of each image");
        factors.fill(T::ONE);
        dropout(machine, share, random, None, factors);
        let factors = &*factors;
        let rows = PIECE.div_ceil(channels);
        machine.threads.chunks_mut(y, rows * channels, |index, y| {
            if let Some(x) = x {
                y.copy_from_slice(&x[index * rows * channels..][..y.len()]);
            }
            drop_channels_piece(machine.isa, factors, channels, pixels, index * rows, y);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    fn machine() -> Machine {
        Machine::new(Isa::detect(), 2)
    }

    /// Which of the first `count` places are kept.
    fn kept(share: f64, random: u64, count: usize) -> Vec<bool> {
        let mut y = vec![1.0_f32; count];
        dropout(&machine(), share, random, None, &mut y);
        y.iter().map(|&y| y != 0.0).collect()
    }

    #[test]
    fn the_mean_stays_and_the_share_is_kept() {
        let count = 1 << 20;
        for share in [0.0, 0.1, 0.2, 0.5, 0.9, 0.999] {
            let mut y = vec![1.0_f32; count];
            dropout(&machine(), share, 7, None, &mut y);
            let factor = (1.0 / (1.0 - share)) as f32;
            assert!(y.iter().all(|&y| y == 0.0 || y == factor));
            let mean = y.iter().map(|&y| f64::from(y)).sum::<f64>() / count as f64;
            // Five standard deviations of the mean of independent numbers.
            let tolerance = 5.0 * (share / (1.0 - share) / count as f64).sqrt() + 1e-7;
            assert!((mean - 1.0).abs() <= tolerance, "share {share}: mean {mean}");
        }
    }

    #[test]
    fn places_and_keys_are_independent_of_each_other() {
        let count = 1 << 18;
        let share_alike = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
        let tolerance = 5.0 * (0.25 / count as f64).sqrt();
        let first = kept(0.5, 1, count);
        // Keys that differ in one bit anywhere, and the next ones.
        for other in (0..64).map(|bit| 1 ^ (1u64 << bit)).chain(2..20) {
            let alike = share_alike(&first, &kept(0.5, other, count));
            assert!((alike - 0.5).abs() < tolerance * 1.1, "key {other:#x}: {alike}");
        }
        // Neighbours, rows, and the same place of the next block.
        for distance in [1, 2, 3, 4, 7, 8, 16, 28, 32, 64, 96, 256, 1024, 4096, PIECE] {
            let alike = share_alike(&first[distance..], &first[..count - distance]);
            assert!((alike - 0.5).abs() < tolerance * 1.1, "distance {distance}: {alike}");
        }
    }

    #[test]
    fn runs_of_eight_have_every_pattern_as_often_as_any_other() {
        let mut counts = [0.0_f64; 256];
        for random in 0..32 {
            for run in kept(0.5, random, 1 << 16).chunks_exact(8) {
                counts[run.iter().fold(0, |pattern, &kept| 2 * pattern + usize::from(kept))] += 1.0;
            }
        }
        let expected = 32.0 * f64::from(1 << 16) / 8.0 / 256.0;
        let chi_squared: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
        // 255 degrees of freedom: above 370 with a probability of 3·10⁻⁶.
        assert!(chi_squared < 370.0, "{chi_squared}");
    }

    #[test]
    fn threads_instruction_sets_types_and_working_in_place_change_nothing() {
        let x: Vec<f32> = (1..=3 * PIECE + 9).map(|x| x as f32).collect();
        let mut first = None;
        for isa in Isa::available() {
            for threads in [1, 2, 3, 8] {
                let (mut y, mut in_place) = (vec![f32::NAN; x.len()], x.clone());
                let mut double: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                dropout(&Machine::new(isa, threads), 0.75, 3, Some(&x), &mut y);
                dropout(&Machine::new(isa, threads), 0.75, 3, None, &mut in_place);
                dropout(&Machine::new(isa, threads), 0.75, 3, None, &mut double);
                assert_eq!(y, in_place);
                assert!(y.iter().zip(double).all(|(&y, double)| f64::from(y) == double));
                assert_eq!(*first.get_or_insert(y.clone()), y, "{isa}, {threads} threads");
            }
        }
    }

    #[test]
    fn spatial_dropout_drops_whole_channels_of_single_images() {
        let (images, channels, pixels) = (50, 40, 300);
        let x: Vec<f32> = (1..=images * channels * pixels).map(|x| x as f32).collect();
        let mut first = None;
        for isa in Isa::available() {
            for threads in [1, 2, 3, 8] {
                let (mut y, mut factors) = (vec![f32::NAN; x.len()], vec![f32::NAN; images * channels]);
                spatial_dropout(&Machine::new(isa, threads), 0.5, 11, channels, pixels, Some(&x), &mut y, &mut factors);
                let mut dropped = 0;
                for (image, (x, y)) in x.chunks(channels * pixels).zip(y.chunks(channels * pixels)).enumerate() {
                    for channel in 0..channels {
                        let factor = factors[image * channels + channel];
                        assert!(factor == 0.0 || factor == 2.0);
                        dropped += usize::from(factor == 0.0);
                        assert!((0..pixels).all(|pixel| y[pixel * channels + channel] == factor * x[pixel * channels + channel]));
                    }
                }
                // Half of 2000, within five standard deviations.
                assert!((dropped as f64 - 1000.0).abs() < 5.0 * 500.0_f64.sqrt(), "{dropped}");
                assert_eq!(*first.get_or_insert(y.clone()), y, "{isa}, {threads} threads");
            }
        }
    }
}
