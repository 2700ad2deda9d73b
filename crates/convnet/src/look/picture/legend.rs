//! The legend of a picture: the colours from the lowest number to the highest, and these numbers.

use super::digits;
use super::{ColourMap, INK, PAPER, Range, Raster};
use crate::error::Result;
use crate::page::number::figure;

/// Height of the bar of colours.
const BAR: usize = 8;
/// Space around the picture and the legend.
const MARGIN: usize = 6;
/// How many pixels wide a pixel of a digit is.
const TIMES: usize = 2;
/// The least width of a legend.
const LEAST: usize = 150;

/// A picture on white with the bar of its colours below, and the numbers at both ends and in the middle.
///
/// # Errors
/// The result would have too many pixels.
pub fn with_legend(picture: &Raster, range: Range, map: ColourMap) -> Result<Raster> {
    let width = picture.width().max(LEAST);
    let text = MARGIN + picture.height() + MARGIN + BAR + 3;
    let mut whole = Raster::new(width + 2 * MARGIN, text + TIMES * digits::HEIGHT + MARGIN, PAPER)?;
    on_paper(&mut whole, picture, [MARGIN, MARGIN]);
    let bar = text - 3 - BAR;
    let last = (width - 1).max(1) as f32;
    for x in 0..width {
        let share = x as f32 / last;
        let [red, green, blue] = map.colour(share, Range { low: 0.0, high: 1.0 });
        (0..BAR).for_each(|y| whole.set([bar + y, MARGIN + x], [red, green, blue, 255]));
    }
    let middle = range.low + (range.high - range.low) / 2.0;
    for (number, share) in [(range.low, 0.0), (middle, 0.5), (range.high, 1.0)] {
        let number = figure(f64::from(number));
        let room = width.saturating_sub(TIMES * digits::width(&number));
        digits::draw(&mut whole, &number, [text, MARGIN + (share * room as f64) as usize], TIMES, INK);
    }
    Ok(whole)
}

/// Copies a picture onto white: what is clear stays white.
fn on_paper(paper: &mut Raster, picture: &Raster, [top, left]: [usize; 2]) {
    for (place, pixel) in picture.bytes().chunks_exact(4).enumerate().filter(|(_, pixel)| pixel[3] == 255) {
        paper.set([top + place / picture.width(), left + place % picture.width()], [pixel[0], pixel[1], pixel[2], 255]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_stands_unchanged_over_a_bar_from_the_first_colour_to_the_last() {
        let range = Range { low: -1.0, high: 1.0 };
        let picture = Raster::plane(&[-1.0, 0.0, 1.0, 0.5], [2, 2], range, ColourMap::Diverging).unwrap();
        let whole = with_legend(&picture, range, ColourMap::Diverging).unwrap();
        let pixel = |y: usize, x: usize| &whole.bytes()[4 * (y * whole.width() + x)..][..3];
        assert_eq!(pixel(MARGIN, MARGIN + 1), &picture.bytes()[4..7]);
        let palette = ColourMap::Diverging.palette();
        let bar = MARGIN + 2 + MARGIN;
        assert_eq!((pixel(bar, MARGIN), pixel(bar, MARGIN + LEAST - 1)), (&palette[0][..], &palette[254][..]));
        let ink = whole.bytes().chunks_exact(4).filter(|pixel| *pixel == INK).count();
        assert!(ink > 100, "the numbers are written: {ink}");
    }
}
