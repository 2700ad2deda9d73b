//! Random shapes, and buffers that notice when somebody writes beside them.

use convnet_kernels::Real;
use convnet_kernels::conv::ConvShape;
use convnet_kernels::window::{Axis, Window};

/// A small generator of random numbers (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `0..end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number of `low..=high`.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// A float between the two.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}

fn random_axis(random: &mut Random) -> Axis {
    let size = [1, 1, 2, 3, 3, 3, 4, 5, 7, 11][random.below(10)];
    let stride = [1, 1, 1, 2, 2, 3, 4][random.below(7)];
    let dilation = [1, 1, 1, 2, 3][random.below(5)];
    let (pad_before, pad_after) = match random.below(4) {
        0 => (0, 0),
        1 => (size / 2, size / 2),
        _ => (random.within(0, size), random.within(0, size)),
    };
    Axis { size, stride, pad_before, pad_after, dilation }
}

/// A shape of at most `macs` multiply-adds.
pub fn random_shape(random: &mut Random, macs: u64) -> ConvShape {
    loop {
        let h = random_axis(random);
        let w = if random.below(3) == 0 { random_axis(random) } else { h };
        let (groups, group_channels, group_filters) = match random.below(8) {
            0 => (random.within(2, 4), random.within(1, 9), random.within(1, 20)),
            1 => (random.within(1, 70), 1, 1),
            2 => (random.within(2, 20), 1, random.within(2, 4)),
            3 => (1, [1, 2, 3, 4][random.below(4)], random.within(1, 70)),
            4 => (1, random.within(30, 300), random.within(1, 70)),
            5 => (1, random.within(1, 40), random.within(1, 3)),
            _ => (1, random.within(1, 40), random.within(1, 70)),
        };
        let size = match random.below(6) {
            0 => [1, 1],
            1 => [random.within(1, 4), random.within(1, 4)],
            _ => [random.within(3, 17), random.within(3, 17)],
        };
        let n = random.within(1, 5);
        let shape = ConvShape::new(n, groups * group_channels, size, groups * group_filters, Window { h, w }, groups);
        if let Ok(shape) = shape
            && shape.macs() <= macs
        {
            return shape;
        }
    }
}

/// Numbers on each side of a buffer.
const MARGIN: usize = 67;

/// A slice in the middle of a larger one that is full of a certain NaN.
pub struct Buffer<T> {
    numbers: Vec<T>,
}

fn canary<T: Real>() -> T {
    T::from_f64(f64::NAN)
}

impl<T: Real> Buffer<T> {
    /// A copy of these numbers.
    pub fn holding(numbers: &[T]) -> Self {
        let mut buffer = Self::empty(numbers.len());
        buffer.inner_mut().copy_from_slice(numbers);
        buffer
    }

    /// A buffer whose contents are NaN until somebody writes them.
    pub fn empty(length: usize) -> Self {
        Self { numbers: vec![canary(); length + 2 * MARGIN] }
    }

    pub fn inner(&self) -> &[T] {
        &self.numbers[MARGIN..self.numbers.len() - MARGIN]
    }

    pub fn inner_mut(&mut self) -> &mut [T] {
        let end = self.numbers.len() - MARGIN;
        &mut self.numbers[MARGIN..end]
    }

    /// Whether both margins still hold what they did.
    pub fn is_intact(&self) -> bool {
        let end = self.numbers.len() - MARGIN;
        self.numbers[..MARGIN].iter().chain(&self.numbers[end..]).all(|number| number.is_nan())
    }
}
