//! Digits in pixels: three columns and five rows each, for the numbers of a legend.

use super::Raster;

/// Rows of a character.
pub(super) const HEIGHT: usize = 5;
/// Columns of a character, and one between two of them.
const ADVANCE: usize = 4;

/// Rows from the top, of three bits each, the leftmost column first.
fn rows(character: char) -> [u8; HEIGHT] {
    match character {
        '0' => [0b111, 0b101, 0b101, 0b101, 0b111],
        '1' => [0b010, 0b110, 0b010, 0b010, 0b111],
        '2' => [0b111, 0b001, 0b111, 0b100, 0b111],
        '3' => [0b111, 0b001, 0b111, 0b001, 0b111],
        '4' => [0b101, 0b101, 0b111, 0b001, 0b001],
        '5' => [0b111, 0b100, 0b111, 0b001, 0b111],
        '6' => [0b111, 0b100, 0b111, 0b101, 0b111],
        '7' => [0b111, 0b001, 0b010, 0b010, 0b010],
        '8' => [0b111, 0b101, 0b111, 0b101, 0b111],
        '9' => [0b111, 0b101, 0b111, 0b001, 0b111],
        '-' | '−' => [0, 0, 0b111, 0, 0],
        '.' => [0, 0, 0, 0, 0b010],
        ',' => [0, 0, 0, 0b010, 0b100],
        'e' => [0, 0b111, 0b110, 0b100, 0b111],
        _ => [0; HEIGHT],
    }
}

/// How many pixels a text is wide.
pub(super) fn width(text: &str) -> usize {
    (text.chars().count() * ADVANCE).saturating_sub(1)
}

/// Draws a text of digits, signs and points with its upper left corner at a place, each of its pixels a square of `times`.
pub(super) fn draw(raster: &mut Raster, text: &str, [top, left]: [usize; 2], times: usize, colour: [u8; 4]) {
    for (place, character) in text.chars().enumerate() {
        for (row, bits) in rows(character).into_iter().enumerate() {
            for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                let (y, x) = (top + times * row, left + times * (place * ADVANCE + column));
                (0..times * times).for_each(|pixel| raster.set([y + pixel / times, x + pixel % times], colour));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_can_be_told_from_every_other() {
        let mut seen: Vec<[u8; HEIGHT]> = "0123456789-.,e".chars().map(rows).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 14);
        assert!(seen.iter().all(|rows| rows.iter().any(|&row| row != 0)));
    }

    #[test]
    fn a_text_is_drawn_where_it_should_be_and_cut_at_the_border() {
        let mut raster = Raster::new(width("-1"), HEIGHT, [0; 4]).unwrap();
        draw(&mut raster, "-1", [0, 0], 1, [255; 4]);
        let row: Vec<u8> = raster.bytes()[2 * 4 * 7..][..28].chunks_exact(4).map(|pixel| pixel[3] / 255).collect();
        assert_eq!(row, [1, 1, 1, 0, 0, 1, 0]);
        draw(&mut raster, "888", [3, 5], 2, [255; 4]);
    }
}
