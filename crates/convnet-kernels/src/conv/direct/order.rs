//! The order of a phase's pixels: those that see the same taps inside the image follow each other, so that a tile of
//! them multiplies none of the padding.
//!
//! Small images are surrounded by much of it: of the taps of a 3×3 kernel on 7×7 pixels, 18 % see only padding.

use super::geometry::{Problem, ProblemAxis};
use super::ranges::product;

/// Most bands that an axis is cut into.
const MAX_BANDS: usize = 8;
/// What a tile costs beside its pixels, in pixels.
const TILE_PRICE: usize = 8;
/// One part in so many must be saved at least: every band reads the pixels around it once more.
const LEAST_SAVING: usize = 32;

/// Neighbouring outputs of one axis that see the same taps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Band {
    first: usize,
    end: usize,
    /// Taps that they see.
    taps: usize,
}

/// The outputs of one axis.
#[derive(Clone, Copy, Debug)]
struct Bands {
    bands: [Band; MAX_BANDS],
    count: usize,
}

impl Bands {
    /// All outputs together.
    fn whole(axis: &ProblemAxis, phase: usize) -> Self {
        let mut bands = [Band::default(); MAX_BANDS];
        bands[0] = Band { first: 0, end: axis.outputs(phase), taps: axis.taps(phase).range.count };
        Self { bands, count: 1 }
    }

    /// A band for all outputs that see the same taps, unless there are too many of these.
    fn new(axis: &ProblemAxis, phase: usize) -> Option<Self> {
        let taps = axis.taps(phase);
        let outputs = axis.outputs(phase);
        let inside = |output: usize| taps.inside(axis, output);
        let mut bands = Self { bands: [Band::default(); MAX_BANDS], count: 0 };
        let mut first = 0;
        while first < outputs {
            if bands.count == MAX_BANDS {
                return None;
            }
            let seen = inside(first);
            // Outputs between two that see all taps see them all.
            let full = seen.len() == taps.range.count;
            let end = if full {
                (first + 1..=outputs).rev().find(|&end| inside(end - 1) == seen).unwrap_or(outputs)
            } else {
                (first + 1..outputs).find(|&next| inside(next) != seen).unwrap_or(outputs)
            };
            bands.bands[bands.count] = Band { first, end, taps: seen.len() };
            bands.count += 1;
            first = end;
        }
        Some(bands)
    }

    fn iter(&self) -> impl Iterator<Item = Band> + use<> {
        self.bands.into_iter().take(self.count)
    }
}

/// Pixels that see the same taps, in all images: image by image and row by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    /// The number of its first pixel, and the end.
    pub pixels: [usize; 2],
    /// Its first row and its first column.
    pub first: [usize; 2],
    /// Rows and columns.
    pub size: [usize; 2],
}

impl Class {
    /// The image, the row and the column of a pixel of this class.
    #[inline(always)]
    pub fn place(&self, pixel: usize) -> [usize; 3] {
        let number = pixel - self.pixels[0];
        let (row, col) = (number / self.size[1], number % self.size[1]);
        [row / self.size[0], self.first[0] + row % self.size[0], self.first[1] + col]
    }
}

/// The classes of a phase, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    images: usize,
    rows: Bands,
    cols: Bands,
}

impl Order {
    /// The cheapest order for tiles of so many pixels.
    pub fn new(problem: &Problem, phase: [usize; 2], pixels: usize) -> Self {
        let Problem { images, h, w, .. } = problem;
        let whole = Self { images: *images, rows: Bands::whole(h, phase[0]), cols: Bands::whole(w, phase[1]) };
        let (rows, cols) = (Bands::new(h, phase[0]), Bands::new(w, phase[1]));
        if [&rows, &cols].iter().all(|bands| bands.is_none_or(|bands| bands.count == 1)) {
            return whole;
        }
        let mut best = whole;
        let mut least = whole.cost(pixels);
        least -= least / LEAST_SAVING;
        for (rows, cols) in [(rows, None), (None, cols), (rows, cols)] {
            let order = Self { images: *images, rows: rows.unwrap_or(whole.rows), cols: cols.unwrap_or(whole.cols) };
            let cost = order.cost(pixels);
            if cost < least {
                (best, least) = (order, cost);
            }
        }
        best
    }

    /// The rows and the columns of each class.
    fn bands(&self) -> impl Iterator<Item = [Band; 2]> + use<> {
        let Self { rows, cols, .. } = *self;
        rows.iter().flat_map(move |rows| cols.iter().map(move |cols| [rows, cols]))
    }

    /// Multiply-adds for each filter and channel, and what the tiles cost beside them.
    fn cost(&self, pixels: usize) -> usize {
        self.bands().fold(0, |cost, [rows, cols]| {
            let count = self.images * (rows.end - rows.first) * (cols.end - cols.first);
            product([rows.taps, cols.taps, count + count.div_ceil(pixels) * TILE_PRICE]).saturating_add(cost)
        })
    }

    /// All classes.
    pub fn classes(&self) -> impl Iterator<Item = Class> + use<> {
        let images = self.images;
        self.bands().scan(0, move |pixels, [rows, cols]| {
            let size = [rows.end - rows.first, cols.end - cols.first];
            let first_pixel = *pixels;
            *pixels += images * size[0] * size[1];
            Some(Class { pixels: [first_pixel, *pixels], first: [rows.first, cols.first], size })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::ConvShape;
    use crate::window::{Axis, Window};

    fn problem(images: usize, size: usize, kernel: usize, stride: usize, padding: usize) -> Problem {
        let axis = Axis { size: kernel, stride, pad_before: padding, pad_after: padding, dilation: 1 };
        Problem::forward(&ConvShape::new(images, 4, [size, size], 4, Window::square(axis), 1).unwrap())
    }

    #[test]
    fn every_pixel_comes_once() {
        for (images, size, kernel, stride, padding) in
            [(3, 7, 3, 1, 1), (2, 14, 3, 2, 1), (1, 5, 11, 1, 5), (2, 9, 5, 1, 2), (4, 56, 3, 1, 1)]
        {
            let problem = problem(images, size, kernel, stride, padding);
            let mut places: Vec<_> = Order::new(&problem, [0, 0], 14)
                .classes()
                .flat_map(|class| (class.pixels[0]..class.pixels[1]).map(move |pixel| class.place(pixel)))
                .collect();
            places.sort();
            let (height, width) = (problem.h.outputs(0), problem.w.outputs(0));
            let all = (0..images).flat_map(|n| (0..height).flat_map(move |row| (0..width).map(move |col| [n, row, col])));
            assert!(places.into_iter().eq(all), "{problem:?}");
        }
    }

    #[test]
    fn small_images_are_cut_where_the_taps_change_and_large_ones_are_not() {
        let classes = |problem: &Problem| Order::new(problem, [0, 0], 14).classes().count();
        assert_eq!(classes(&problem(16, 7, 3, 1, 1)), 9);
        assert_eq!(classes(&problem(16, 14, 3, 2, 1)), 4);
        assert_eq!(classes(&problem(16, 56, 3, 1, 1)), 1);
        assert_eq!(classes(&problem(16, 7, 3, 1, 0)), 1);
    }
}
