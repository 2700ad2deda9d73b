//! Small random changes of place, size and angle, and their exact adjoint.
//!
//! A view takes the number at each pixel (y, x) from the place
//!
//! ```text
//! (y', x') = centre + R(angle)·((y, x) − centre)/scale + shift
//! ```
//!
//! of the image, between four pixels, bilinearly; places outside take the nearest pixel. What a network answers to whatever
//! the view is a pattern that survives such changes, not grain that only works at one place.

use convnet_kernels::Real;

use crate::random::Random;

/// How far views may differ.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Views {
    /// Largest shift along each axis, in pixels.
    pub shift: f32,
    /// Sizes lie between 1 − this and 1 + this; below 1.
    pub scale: f32,
    /// Largest angle in degrees, to either side.
    pub rotate: f32,
}

impl Views {
    /// The image as it is.
    pub const NONE: Self = Self { shift: 0.0, scale: 0.0, rotate: 0.0 };

    /// Those that suit a pattern of this many pixels a side: shifts of a sixteenth; sizes within 5 % and angles within 5°
    /// up to 64 pixels, twice as much from 128 on.
    pub fn for_side(side: usize) -> Self {
        let double = ((side as f32 - 64.0) / 64.0).clamp(0.0, 1.0);
        Self { shift: side as f32 / 16.0, scale: 0.05 * (1.0 + double), rotate: 5.0 * (1.0 + double) }
    }

    /// Draws a view.
    pub(crate) fn draw(&self, random: &mut Random) -> View {
        let mut around = |most: f32| f64::from(most) * (2.0 * random.uniform_f64() - 1.0);
        let shift = [around(self.shift), around(self.shift)];
        View { shift, scale: 1.0 + around(self.scale), angle: around(self.rotate).to_radians() }
    }

    /// What is wrong with these numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let sound = |value: f32, most: f32| (0.0..=most).contains(&value);
        (!(sound(self.shift, 1e4) && sound(self.scale, 0.9) && sound(self.rotate, 180.0))).then(|| {
            format!(
                "views with shifts of {} pixels, sizes within {} and angles of {}° cannot be drawn; possible are 0 to 10000, 0 to 0.9 and 0 to 180",
                self.shift, self.scale, self.rotate
            )
        })
    }
}

/// One view.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View {
    /// Rows and columns in pixels.
    pub shift: [f64; 2],
    pub scale: f64,
    /// In radians.
    pub angle: f64,
}

/// Where the four pixels of a place lie, and how much they count.
#[derive(Clone, Copy, Debug)]
struct Tap<T> {
    /// The pixel to the upper left.
    first: u32,
    /// Steps to the pixel on the right and to the one below; 0 at the end of an axis.
    right: u32,
    below: u32,
    /// Shares of the right and of the lower pixels.
    x: T,
    y: T,
}

/// A view of H×W images, ready to be taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampling<T> {
    taps: Vec<Tap<T>>,
}

impl<T: Real> Sampling<T> {
    /// Makes this the sampling of a view.
    pub fn set(&mut self, view: &View, [h, w]: [usize; 2]) {
        let (sin, cos) = (libm::sin(view.angle) / view.scale, libm::cos(view.angle) / view.scale);
        let (middle_y, middle_x) = ((h as f64 - 1.0) / 2.0, (w as f64 - 1.0) / 2.0);
        self.taps.clear();
        for y in 0..h {
            let v = y as f64 - middle_y;
            for x in 0..w {
                let u = x as f64 - middle_x;
                let (row, below, share_y) = between(middle_y + sin * u + cos * v + view.shift[0], h);
                let (column, right, share_x) = between(middle_x + cos * u - sin * v + view.shift[1], w);
                let first = (row * w + column) as u32;
                self.taps.push(Tap { first, right, below: below * w as u32, x: T::from_f64(share_x), y: T::from_f64(share_y) });
            }
        }
    }

    /// Writes the view of one plane.
    pub fn view(&self, plane: &[T], view: &mut [T]) {
        for (value, tap) in view.iter_mut().zip(&self.taps) {
            let at = |step: u32| plane[(tap.first + step) as usize];
            let upper = at(0) + (at(tap.right) - at(0)) * tap.x;
            let lower = at(tap.below) + (at(tap.below + tap.right) - at(tap.below)) * tap.x;
            *value = upper + (lower - upper) * tap.y;
        }
    }

    /// Adds the gradient of the plane for this gradient of its view.
    pub fn add_gradient(&self, grad_view: &[T], grad_plane: &mut [T]) {
        for (gradient, tap) in grad_view.iter().zip(&self.taps) {
            let mut add = |step: u32, share: T| grad_plane[(tap.first + step) as usize] += *gradient * share;
            add(0, (T::ONE - tap.x) * (T::ONE - tap.y));
            add(tap.right, tap.x * (T::ONE - tap.y));
            add(tap.below, (T::ONE - tap.x) * tap.y);
            add(tap.below + tap.right, tap.x * tap.y);
        }
    }
}

/// The pixel before a place on an axis, the step to the next one, and the next one's share.
fn between(place: f64, length: usize) -> (usize, u32, f64) {
    let place = place.clamp(0.0, (length - 1) as f64);
    let before = place as usize;
    (before, u32::from(before + 1 < length), place - before as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose};

    const SIZE: [usize; 2] = [6, 7];

    fn random() -> Random {
        Address::new(3, Purpose::Check).random()
    }

    fn sampling(view: &View) -> Sampling<f64> {
        let mut sampling = Sampling::default();
        sampling.set(view, SIZE);
        sampling
    }

    #[test]
    fn no_change_is_the_image_itself_and_a_whole_shift_moves_it() {
        let plane: Vec<f64> = (0..42).map(f64::from).collect();
        let mut seen = vec![0.0; 42];
        let mut view = Views::NONE.draw(&mut random());
        sampling(&view).view(&plane, &mut seen);
        assert_eq!(seen, plane);
        view.shift = [1.0, -2.0];
        sampling(&view).view(&plane, &mut seen);
        assert_eq!(seen[2 * 7 + 3], plane[3 * 7 + 1]);
        // Outside, the nearest pixel.
        assert_eq!((seen[5 * 7 + 3], seen[0]), (plane[5 * 7 + 1], plane[7]));
    }

    #[test]
    fn a_quarter_turn_puts_pixels_where_they_belong() {
        let plane: Vec<f64> = (0..25).map(f64::from).collect();
        let mut sampling = Sampling::default();
        sampling.set(&View { shift: [0.0; 2], scale: 1.0, angle: std::f64::consts::FRAC_PI_2 }, [5, 5]);
        let mut seen = vec![0.0; 25];
        sampling.view(&plane, &mut seen);
        for (y, x) in (0..5).flat_map(|y| (0..5).map(move |x| (y, x))) {
            // A place right of the centre is taken from below the centre.
            assert!((seen[y * 5 + x] - plane[x * 5 + 4 - y]).abs() < 1e-12, "{y},{x}");
        }
    }

    #[test]
    fn the_gradient_is_the_adjoint_of_the_view() {
        let mut random = random();
        let views = Views { shift: 3.0, scale: 0.3, rotate: 40.0 };
        for _ in 0..20 {
            let sampling = sampling(&views.draw(&mut random));
            let plane: Vec<f64> = (0..42).map(|_| random.normal()).collect();
            let grad: Vec<f64> = (0..42).map(|_| random.normal()).collect();
            let (mut seen, mut back) = (vec![0.0; 42], vec![0.0; 42]);
            sampling.view(&plane, &mut seen);
            sampling.add_gradient(&grad, &mut back);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            assert!((dot(&seen, &grad) - dot(&plane, &back)).abs() < 42.0 * 8.0 * f64::EPSILON * 10.0);
        }
    }

    #[test]
    fn views_that_cannot_be_drawn_are_told() {
        assert_eq!(Views::for_side(28).problem(), None);
        assert!(Views { scale: 1.0, ..Views::NONE }.problem().is_some());
        assert!(Views { rotate: f32::NAN, ..Views::NONE }.problem().is_some());
    }
}
