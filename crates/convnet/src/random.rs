//! Addressed randomness: every random number is a function of (seed, purpose, coordinates), never of what was drawn
//! before elsewhere. A run can be stopped, resumed and replayed, and cut among any number of threads, with the same bits.
//!
//! An [`Address`] is a 128-bit state of two halves. A number x is taken in by
//! `low ← mix(low ⊕ x)`, `high ← mix(high + γ·x + low)`, where `mix` is the finaliser of SplitMix64 (Steele, Lea, Flood
//! 2014, with the constants of Stafford's variant 13) and γ = `0x9e3779b97f4a7c15`. Two addresses of different coordinates
//! share a state with a probability of 2⁻¹²⁸. The numbers at an address come from PCG64-MCG (O'Neill 2014) started at
//! that state, whose values never change between versions.

use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

/// What a random number is for. Different purposes never see the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Initial values of parameters.
    Initialise,
    /// The order of the training images in an epoch.
    Shuffle,
    /// The random changes of a training image.
    Augment,
    /// What dropout drops.
    Dropout,
    /// Which images of a folder become test images.
    Split,
    /// Inputs and parameters at which gradients are checked.
    Check,
    /// What is drawn to look inside a network; the first coordinate says what for.
    Look,
}

impl Purpose {
    /// Stored runs depend on these numbers: they never change, new purposes take new ones.
    fn code(self) -> u64 {
        match self {
            Purpose::Initialise => 1,
            Purpose::Shuffle => 2,
            Purpose::Augment => 3,
            Purpose::Dropout => 4,
            Purpose::Split => 5,
            Purpose::Check => 6,
            Purpose::Look => 7,
        }
    }
}

/// Where random numbers are taken: a seed, a purpose and any number of coordinates.
///
/// ```
/// use convnet::random::{Address, Purpose};
///
/// let augment = Address::new(7, Purpose::Augment);
/// let (epoch, sample) = (3, 1_000);
/// let mut random = augment.at(epoch, sample);
/// let shift = random.below(9);
///
/// assert!(shift < 9);
/// assert_eq!(shift, augment.at(3, 1_000).below(9)); // the same address, the same numbers
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    low: u64,
    high: u64,
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut state: u64) -> u64 {
    state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}

impl Address {
    /// The address of a purpose under a seed.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Address { low: 0, high: 0 }.then(seed).then(purpose.code())
    }

    /// The address one coordinate further: an epoch, a step, a layer, a sample, a piece of the work.
    pub fn then(self, coordinate: u64) -> Self {
        // γ keeps coordinate 0 from leaving the state 0 as it is.
        let low = mix(self.low ^ coordinate.wrapping_add(GAMMA));
        let high = mix(self.high.wrapping_add(coordinate.wrapping_mul(GAMMA)).wrapping_add(low));
        Address { low, high }
    }

    /// The numbers at two further coordinates.
    pub fn at(self, first: u64, second: u64) -> Random {
        self.then(first).then(second).random()
    }

    /// The numbers at this address.
    pub fn random(self) -> Random {
        Random(Pcg64Mcg::new(u128::from(self.high) << 64 | u128::from(self.low)))
    }

    /// One number that stands for this address, to be handed on as a seed.
    pub fn key(self) -> u64 {
        self.low ^ self.high.rotate_left(32)
    }
}

/// The random numbers at one [`Address`], one after the other.
#[derive(Clone, Debug)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1): one of the 2²⁴ multiples of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1): one of the 2⁵³ multiples of 2⁻⁵³.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform from `low` to `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// Uniform in 0 … `end` − 1, without bias (Lemire 2019); 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        let mut product = u128::from(self.bits()) * u128::from(end);
        if (product as u64) < end {
            // The lowest 2⁶⁴ mod `end` products would come up once too often.
            let surplus = end.wrapping_neg() % end.max(1);
            while (product as u64) < surplus {
                product = u128::from(self.bits()) * u128::from(end);
            }
        }
        (product >> 64) as usize
    }

    /// Normal with mean 0 and variance 1 (Box and Muller 1958): √(−2·ln u)·cos(2π·v), in `f64`, two uniform numbers for
    /// each. The logarithm and the cosine are those of the `libm` crate, the same on every machine.
    pub fn normal(&mut self) -> f64 {
        let above_zero = 1.0 - self.uniform_f64();
        let angle = std::f64::consts::TAU * self.uniform_f64();
        (-2.0 * libm::log(above_zero)).sqrt() * libm::cos(angle)
    }

    /// Puts `items` in a random order, each order being as likely as any other (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The order of `count` training images in an epoch: each of 0 … `count` − 1 once.
pub fn permutation(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    Address::new(seed, Purpose::Shuffle).then(epoch).random().shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_numbers_never_change_between_versions() {
        // From an implementation of the definition in Python.
        let mut random = Address::new(7, Purpose::Augment).at(3, 1000);
        assert_eq!([random.bits(), random.bits()], [5_294_044_295_067_084_807, 1_875_900_897_357_868_182]);
        assert_eq!(Address::new(0, Purpose::Initialise).at(0, 0).bits(), 10_142_575_940_663_633_665);
        assert_eq!(Address::new(0, Purpose::Initialise).then(5).key(), 5_905_546_551_766_268_039);
        assert_eq!(Address::new(1, Purpose::Initialise).at(0, 0).normal(), 2.066_793_892_587_512);
        assert_eq!(permutation(1, 0, 10), [2, 0, 4, 6, 7, 5, 9, 1, 8, 3]);
    }

    #[test]
    fn every_address_has_its_own_numbers() {
        let mut seen = HashSet::new();
        let mut addresses = 0;
        for seed in [0, 1, 2, GAMMA, u64::MAX] {
            for purpose in
                [Purpose::Initialise, Purpose::Shuffle, Purpose::Augment, Purpose::Dropout, Purpose::Split, Purpose::Check, Purpose::Look]
            {
                for first in 0..40 {
                    for second in 0..40 {
                        seen.insert(Address::new(seed, purpose).at(first, second).bits());
                        addresses += 1;
                    }
                }
            }
        }
        assert_eq!(seen.len(), addresses);
        let address = Address::new(1, Purpose::Dropout);
        assert_ne!(address.then(0), address);
        assert_ne!(address.then(1).then(2), address.then(2).then(1));
        assert_ne!(address.then(1).key(), address.then(2).key());
    }

    #[test]
    fn neighbouring_addresses_are_not_alike() {
        // The first number of n consecutive samples is uniform: mean 1/2, variance 1/12, no correlation with the next.
        let n = 100_000;
        let address = Address::new(3, Purpose::Augment).then(1);
        let values: Vec<f64> = (0..n).map(|sample| address.then(sample).random().uniform_f64()).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n as f64;
        let covariance = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>() / n as f64;
        // Five standard deviations of each figure.
        let sd = 5.0 / (n as f64).sqrt();
        assert!((mean - 0.5).abs() < sd * (1.0_f64 / 12.0).sqrt(), "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < sd * (1.0_f64 / 180.0).sqrt(), "{variance}");
        assert!(covariance.abs() < sd / 12.0, "{covariance}");
    }

    #[test]
    fn below_is_even_and_stays_below() {
        let mut random = Address::new(5, Purpose::Shuffle).random();
        for end in [1_usize, 2, 3, 7, 10] {
            let mut counts = vec![0_f64; end];
            let rounds = 20_000 * end;
            for _ in 0..rounds {
                counts[random.below(end)] += 1.0;
            }
            let chi_squared: f64 = counts.iter().map(|count| (count - 20_000.0).powi(2) / 20_000.0).sum();
            assert!(chi_squared < 40.0, "below({end}): {counts:?}");
        }
        assert_eq!(random.below(0), 0);
        assert!((0..1000).all(|_| random.below(usize::MAX) < usize::MAX));
    }

    #[test]
    fn uniform_numbers_stay_in_their_interval() {
        let mut random = Address::new(9, Purpose::Augment).random();
        for _ in 0..100_000 {
            assert!((0.0..1.0).contains(&random.uniform()));
            assert!((-2.0..=3.0).contains(&random.between(-2.0, 3.0)));
        }
        assert_eq!(random.between(4.0, 4.0), 4.0);
        assert!((0..1000).all(|_| !random.chance(0.0) && random.chance(1.0)));
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let n = 200_000;
        let mut random = Address::new(11, Purpose::Initialise).random();
        let values: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        let moment = |power: i32| values.iter().map(|value| value.powi(power)).sum::<f64>() / n as f64;
        // The variance of xᵏ is E x²ᵏ − (E xᵏ)²: 1, 2, 15, 96.
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0_f64)] {
            let tolerance = 5.0 * (variance / n as f64).sqrt();
            assert!((moment(power) - expected).abs() < tolerance, "moment {power}: {}", moment(power));
        }
        assert!(values.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn a_permutation_has_every_image_once_and_differs_by_epoch_and_seed() {
        let order = permutation(1, 0, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert_ne!(order, sorted);
        assert_ne!(order, permutation(1, 1, 1000));
        assert_ne!(order, permutation(2, 0, 1000));
        assert_eq!(order, permutation(1, 0, 1000));
        assert!(permutation(1, 0, 0).is_empty());
    }

    #[test]
    fn every_order_of_a_shuffle_is_as_likely_as_any_other() {
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..60_000 {
            *counts.entry(permutation(4, epoch, 4)).or_insert(0.0_f64) += 1.0;
        }
        assert_eq!(counts.len(), 24);
        let chi_squared: f64 = counts.values().map(|count| (count - 2500.0).powi(2) / 2500.0).sum();
        // 23 degrees of freedom: above 60 with a probability of 4·10⁻⁵.
        assert!(chi_squared < 60.0, "{chi_squared}");
    }
}
