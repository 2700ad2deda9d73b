//! Where each pixel of a mirrored, turned and shifted image comes from.

use super::augment::Fill;

/// The image is turned about its centre, then shifted, then mirrored left to right.
pub(super) struct Placing {
    pub height: usize,
    pub width: usize,
    /// The shift in pixels.
    pub down: isize,
    pub right: isize,
    pub mirrored: bool,
    /// Cosine and sine of the angle.
    pub turn: Option<[f32; 2]>,
    pub fill: Fill,
}

impl Placing {
    /// Writes a plane H×W of the changed image, 0 … 255, out of the plane of the image.
    pub fn sample(&self, source: &[u8], target: &mut [f32]) {
        for (y, row) in target.chunks_exact_mut(self.width).enumerate() {
            match self.turn {
                None => self.shifted_row(source, y as isize - self.down, row),
                Some(turn) => {
                    for (x, value) in row.iter_mut().enumerate() {
                        *value = self.between(source, turn, y as isize - self.down, x as isize - self.right);
                    }
                }
            }
            if self.mirrored {
                row.reverse();
            }
        }
    }

    /// Writes the row that comes from row `y`, which may lie outside.
    fn shifted_row(&self, source: &[u8], y: isize, row: &mut [f32]) {
        let Some(y) = self.inside(y, self.height) else {
            row.fill(0.0);
            return;
        };
        let width = self.width as isize;
        let source = &source[y * self.width..][..self.width];
        // Columns start … end come from columns that exist.
        let (start, end) = (self.right.clamp(0, width), (width + self.right).clamp(0, width));
        let existing = &source[(start - self.right) as usize..];
        for (value, &pixel) in row[start as usize..end as usize].iter_mut().zip(existing) {
            *value = f32::from(pixel);
        }
        for x in (0..start).chain(end..width) {
            row[x as usize] = self.inside(x - self.right, self.width).map_or(0.0, |x| f32::from(source[x]));
        }
    }

    /// The bilinear value of the turned image at a whole place.
    fn between(&self, source: &[u8], [cos, sin]: [f32; 2], y: isize, x: isize) -> f32 {
        let (middle_y, middle_x) = ((self.height - 1) as f32 / 2.0, (self.width - 1) as f32 / 2.0);
        let (from_y, from_x) = (y as f32 - middle_y, x as f32 - middle_x);
        let (at_y, at_x) = (cos * from_y - sin * from_x + middle_y, sin * from_y + cos * from_x + middle_x);
        let (top, left) = (floor(at_y), floor(at_x));
        let (below, after) = (at_y - top as f32, at_x - left as f32);
        let [[a, b], [c, d]] = self.square(source, top, left);
        let (upper, lower) = (a + (b - a) * after, c + (d - c) * after);
        upper + (lower - upper) * below
    }

    /// The values of a place and of its neighbours to the right and below.
    fn square(&self, source: &[u8], top: isize, left: isize) -> [[f32; 2]; 2] {
        if top >= 0 && left >= 0 && top + 1 < self.height as isize && left + 1 < self.width as isize {
            let first = top as usize * self.width + left as usize;
            let pair = |at: usize| [f32::from(source[at]), f32::from(source[at + 1])];
            return [pair(first), pair(first + self.width)];
        }
        [top, top + 1].map(|y| [left, left + 1].map(|x| self.pixel(source, y, x)))
    }

    /// The value at a whole place, which may lie outside.
    fn pixel(&self, source: &[u8], y: isize, x: isize) -> f32 {
        match (self.inside(y, self.height), self.inside(x, self.width)) {
            (Some(y), Some(x)) => f32::from(source[y * self.width + x]),
            _ => 0.0,
        }
    }

    /// The place that stands for `place` on an axis of this length; none where it is black.
    fn inside(&self, place: isize, length: usize) -> Option<usize> {
        match (self.fill, (0..length as isize).contains(&place)) {
            (_, true) => Some(place as usize),
            (Fill::Zero, false) => None,
            (Fill::Reflect, false) => Some(reflected(place, length)),
        }
    }
}

/// The largest whole number that is not above `value`, without the call of a function that `f32::floor` is on older CPUs.
fn floor(value: f32) -> isize {
    let towards_zero = value as isize;
    towards_zero - isize::from(value < towards_zero as f32)
}

/// A place mirrored at the ends, which are not repeated, until it lies within 0 … `length` − 1.
pub(super) fn reflected(place: isize, length: usize) -> usize {
    let last = length as isize - 1;
    if last == 0 {
        return 0;
    }
    let folded = place.rem_euclid(2 * last);
    (if folded > last { 2 * last - folded } else { folded }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 7;

    fn source() -> Vec<u8> {
        (0..SIDE * SIDE).map(|index| (index * 37 % 251) as u8).collect()
    }

    fn placed(placing: Placing) -> Vec<f32> {
        let mut values = vec![f32::NAN; SIDE * SIDE];
        placing.sample(&source(), &mut values);
        values
    }

    fn still() -> Placing {
        Placing { height: SIDE, width: SIDE, down: 0, right: 0, mirrored: false, turn: None, fill: Fill::Zero }
    }

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let row: Vec<usize> = (-4..8).map(|place| reflected(place, 4)).collect();
        assert_eq!(row, [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!(reflected(-3, 1), 0);
    }

    #[test]
    fn floor_is_that_of_the_standard_library() {
        for value in [-2.0, -1.5, -1e-7, -0.0, 0.0, 0.5, 1.0, 3.999_999_8, -8191.25, 16_000.75_f32] {
            assert_eq!(floor(value) as f32, value.floor(), "{value}");
        }
    }

    #[test]
    fn a_turn_by_nothing_is_the_image_itself_shifted_and_mirrored_or_not() {
        for fill in [Fill::Zero, Fill::Reflect] {
            for mirrored in [false, true] {
                for (down, right) in [(0, 0), (2, -3), (-6, 6), (6, 1)] {
                    let plain = placed(Placing { down, right, mirrored, fill, ..still() });
                    let turned = placed(Placing { down, right, mirrored, fill, turn: Some([1.0, 0.0]), ..still() });
                    assert_eq!(plain, turned, "{fill:?} {mirrored} {down} {right}");
                }
            }
        }
        assert!(placed(still()).iter().zip(source()).all(|(&value, pixel)| value == f32::from(pixel)));
    }

    #[test]
    fn a_turn_by_90_degrees_swaps_the_axes() {
        let (source, turned) = (source(), placed(Placing { turn: Some([0.0, 1.0]), ..still() }));
        for (index, &value) in turned.iter().enumerate() {
            let (y, x) = (index / SIDE, index % SIDE);
            assert_eq!(value, f32::from(source[(SIDE - 1 - x) * SIDE + y]), "{y}, {x}");
        }
    }

    #[test]
    fn a_turn_by_45_degrees_takes_the_corners_from_outside() {
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let turned = placed(Placing { turn: Some([half, half]), ..still() });
        assert!([0, SIDE - 1, SIDE * (SIDE - 1), SIDE * SIDE - 1].iter().all(|&corner| turned[corner] == 0.0));
        assert_eq!(turned[24], f32::from(source()[24]), "the centre stays");
    }
}
