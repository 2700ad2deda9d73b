//! The size of what flows between layers: N×C×H×W, always in this order and always four.

use std::fmt;

/// N images of C channels, H rows and W columns. A flat vector of F numbers per image is `n × F × 1 × 1`.
///
/// ```
/// use convnet::shape::Shape;
/// let shape = Shape::new(64, 3, 32, 32);
/// assert_eq!(shape.to_string(), "64x3x32x32");
/// assert_eq!(shape.image(), 3 * 32 * 32);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Batch: number of images, N.
    pub n: usize,
    /// Channels (depth), C.
    pub c: usize,
    /// Height: rows, H.
    pub h: usize,
    /// Width: columns, W.
    pub w: usize,
}

impl Shape {
    /// The largest count of numbers in one batch that is accepted: its bytes must be addressable in `f64` with room to spare.
    pub const MAX_COUNT: usize = isize::MAX as usize / 64;

    /// A shape in the order of its axes.
    pub const fn new(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w }
    }

    /// Numbers in one image, C·H·W. Saturates instead of overflowing; [`check`](Self::check) refuses such shapes.
    pub fn image(&self) -> usize {
        self.c.saturating_mul(self.h).saturating_mul(self.w)
    }

    /// Numbers in the whole batch, N·C·H·W. Saturates instead of overflowing.
    pub fn count(&self) -> usize {
        self.n.saturating_mul(self.image())
    }

    /// Positions in one channel, H·W.
    pub fn pixels(&self) -> usize {
        self.h.saturating_mul(self.w)
    }

    /// The same image size with another batch.
    pub const fn with_batch(self, n: usize) -> Self {
        Self { n, ..self }
    }

    /// Channels, height, width.
    pub const fn chw(&self) -> [usize; 3] {
        [self.c, self.h, self.w]
    }

    /// The shape itself, if it has no empty axis and its numbers can be addressed.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without a name in front.
    pub fn check(self) -> Result<Self, String> {
        if self.count() == 0 {
            return Err(format!("{self} has an empty axis; every size must be at least 1"));
        }
        if self.count() > Self::MAX_COUNT {
            return Err(format!("{self} has more numbers than memory can address"));
        }
        Ok(self)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}x{}x{}x{}", self.n, self.c, self.h, self.w)
    }
}

/// Writes sizes as text, `64x3x5x5`.
pub fn sizes_text(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_and_empty_shapes_are_refused_without_overflow() {
        assert!(Shape::new(usize::MAX, usize::MAX, 2, 2).check().unwrap_err().contains("more numbers"));
        assert!(Shape::new(1, 0, 2, 2).check().unwrap_err().contains("empty axis"));
        assert!(Shape::new(1, 3, 2, 2).check().is_ok());
    }
}
