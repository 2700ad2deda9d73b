//! A part of an image in its place: a frame around it, all else dimmed, and the number that belongs to it below.

use std::ops::Range as Places;

use super::{INK, PAPER, Raster, digits};
use crate::error::Result;
use crate::page::number::figure;
use crate::page::picture::reduced;

/// The least width of such a picture.
const WIDTH: usize = 84;
/// Space between the image and the number.
const MARGIN: usize = 3;
/// How many pixels wide a pixel of a digit is.
const TIMES: usize = 2;
/// The colour of the frame, which no grey image has.
const FRAME: [u8; 4] = [214, 51, 108, 255];

/// An image of bytes C×H×W, its longest side reduced to at most `longest`, with a frame around these rows and columns, which
/// lie inside, and a number below.
///
/// # Errors
/// There are not C·H·W bytes, or an axis is empty.
pub(in crate::look) fn placed(
    image: &[u8],
    size: [usize; 3],
    [rows, columns]: [&Places<usize>; 2],
    number: f32,
    longest: usize,
) -> Result<Raster> {
    let small = reduced(image, size, longest)?;
    let picture = small.enlarged((WIDTH / small.width()).max(1))?;
    let (height, width) = (picture.height(), picture.width());
    let along = |places: &Places<usize>, side: usize, shown: usize| places.start * shown / side..(places.end * shown).div_ceil(side);
    let (rows, columns) = (along(rows, size[1], height), along(columns, size[2], width));
    let mut whole = Raster::new(width, height + MARGIN + TIMES * digits::HEIGHT, PAPER)?;
    for (place, pixel) in picture.bytes().chunks_exact(4).enumerate() {
        let (y, x) = (place / width, place % width);
        let inside = rows.contains(&y) && columns.contains(&x);
        let on_frame = inside && (y == rows.start || y + 1 == rows.end || x == columns.start || x + 1 == columns.end);
        let shade = |byte: u8| if inside { byte } else { byte / 2 };
        whole.set([y, x], if on_frame { FRAME } else { [shade(pixel[0]), shade(pixel[1]), shade(pixel[2]), 255] });
    }
    digits::draw(&mut whole, &figure(f64::from(number)), [height + MARGIN, 0], TIMES, INK);
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_keeps_its_colours_inside_a_frame_and_all_else_is_dimmed() {
        let picture = placed(&[200; 14 * 28], [1, 14, 28], [&(0..7), &(14..28)], -1.5, 28).unwrap();
        assert_eq!((picture.width(), picture.height()), (84, 42 + MARGIN + 10));
        let at = |y: usize, x: usize| &picture.bytes()[4 * (y * 84 + x)..][..4];
        assert_eq!(at(10, 60), [200, 200, 200, 255]);
        assert_eq!((at(30, 60), at(10, 41)), (&[100, 100, 100, 255][..], &[100, 100, 100, 255][..]));
        for corner in [[0, 42], [0, 83], [20, 42], [20, 83]] {
            assert_eq!(at(corner[0], corner[1]), FRAME);
        }
        let ink = picture.bytes()[4 * 84 * (42 + MARGIN)..].chunks_exact(4).filter(|pixel| **pixel == INK).count();
        assert!(ink > 20, "the number is written");
    }

    #[test]
    fn a_large_image_is_reduced_and_its_frame_with_it() {
        let picture = placed(&[80; 3 * 200 * 100], [3, 200, 100], [&(50..150), &(0..1)], 2.0, 50).unwrap();
        assert_eq!(picture.width(), 75);
        let frame: Vec<usize> = (0..150).filter(|y| picture.bytes()[4 * y * 75..][..4] == FRAME).collect();
        assert_eq!((frame.first(), frame.last()), (Some(&37), Some(&112)));
    }
}
