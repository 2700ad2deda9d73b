//! Occlusion: a window slides over the image and covers all channels of it; how far the score falls is said of every pixel
//! covered, on average over the windows that cover it.
//!
//! Windows begin at 0, stride, 2·stride, … until one reaches the border; the last ones are cut there.

use std::ops::Range;

use convnet_kernels::Real;

use super::subject::Subject;
use super::target::Spot;
use crate::error::Result;

/// The windows along one axis.
fn windows(length: usize, window: usize, stride: usize) -> Vec<Range<usize>> {
    let count = length.saturating_sub(window).div_ceil(stride) + 1;
    (0..count).map(|number| number * stride..(number * stride + window).min(length)).collect()
}

/// The mean fall of the score at each pixel, H×W, and the image's score. The stride is at most the window, so that every
/// pixel is covered.
pub(super) fn occlusion<T: Real>(
    subject: &mut Subject<'_, T>,
    image: &[T],
    spot: Spot,
    [window, stride]: [[usize; 2]; 2],
    fill: &[T],
) -> Result<(Vec<T>, f64)> {
    let shape = subject.image_shape();
    let score = subject.score(image, spot)?;
    let columns = windows(shape.w, window[1], stride[1]);
    let places: Vec<(Range<usize>, Range<usize>)> = windows(shape.h, window[0], stride[0])
        .into_iter()
        .flat_map(|rows| columns.iter().map(move |columns| (rows.clone(), columns.clone())))
        .collect();
    let mut falls = vec![0.0; places.len()];
    let cover = |number: usize, values: &mut [T]| {
        values.copy_from_slice(image);
        let (rows, columns) = places[number].clone();
        for (plane, fill) in values.chunks_exact_mut(shape.pixels()).zip(fill) {
            for row in plane.chunks_exact_mut(shape.w).take(rows.end).skip(rows.start) {
                row[columns.clone()].fill(*fill);
            }
        }
    };
    subject.walk(places.len(), spot, None, cover, |number, covered, _| falls[number] = score - covered.number().to_f64())?;
    let mut sums = vec![(0.0, 0_u32); shape.pixels()];
    for ((rows, columns), fall) in places.iter().zip(&falls) {
        for row in rows.clone() {
            for (sum, count) in &mut sums[row * shape.w..][columns.clone()] {
                *sum += fall;
                *count += 1;
            }
        }
    }
    Ok((sums.iter().map(|(sum, count)| T::from_f64(sum / f64::from((*count).max(1)))).collect(), score))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_an_axis_to_its_end() {
        assert_eq!(windows(7, 3, 2), [0..3, 2..5, 4..7]);
        assert_eq!(windows(8, 3, 2), [0..3, 2..5, 4..7, 6..8]);
        assert_eq!(windows(5, 4, 1), [0..4, 1..5]);
        assert_eq!(windows(5, 2, 2), [0..2, 2..4, 4..5]);
    }
}
