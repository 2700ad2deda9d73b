//! Random shapes of convolutions.

use convnet_kernels::conv::ConvShape;
use convnet_kernels::window::{Axis, Window};

use crate::random::Random;

fn random_axis(random: &mut Random) -> Axis {
    let size = match random.below(4) {
        0 => random.within(1, 11),
        _ => [1, 1, 2, 3, 3, 3, 4, 5, 7][random.below(9)],
    };
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
        let (groups, group_channels, group_filters) = match random.below(10) {
            0 => (random.within(2, 4), random.within(1, 9), random.within(1, 20)),
            1 => (random.within(1, 70), 1, 1),
            2 => (random.within(2, 20), 1, random.within(2, 4)),
            3 => (1, [1, 2, 3, 4][random.below(4)], random.within(1, 70)),
            4 => (1, random.within(30, 300), random.within(1, 70)),
            5 => (1, random.within(1, 40), random.within(1, 3)),
            6 => (random.within(1, 2), 4 * random.within(1, 8), random.within(1, 70)),
            7 => (random.within(1, 3), random.within(16, 70), random.within(16, 70)),
            _ => (1, random.within(1, 40), random.within(1, 70)),
        };
        let size = match random.below(7) {
            0 => [1, 1],
            1 => [random.within(1, 4), random.within(1, 4)],
            2 => [random.within(1, 7), random.within(16, 40)],
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
