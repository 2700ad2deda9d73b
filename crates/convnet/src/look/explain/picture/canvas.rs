//! What a drawing is made of: cells with their numbers, pictures, frames, lines of text.

use askama::Template;

use crate::error::{Error, Result};
use crate::look::picture::{ColourMap, NOT_FINITE, Range, Raster};
use crate::page::colour::hex;
use crate::page::number::{count, figure};
use crate::page::picture::Picture;
use crate::page::svg::coordinate;

/// A finished drawing: an SVG image with every number in it, in light and dark.
///
/// Written to a file it stands alone; in a page it takes the page's colours.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    canvas: Canvas,
    /// The drawing in words.
    words: String,
}

#[derive(Template)]
#[template(path = "look/arithmetic.svg", escape = "html", whitespace = "minimize")]
struct Svg<'a> {
    canvas: &'a Canvas,
    words: &'a str,
    alone: bool,
    width: String,
    height: String,
}

impl Drawing {
    pub(super) fn new(mut canvas: Canvas, words: String) -> Self {
        canvas.width += MARGIN;
        canvas.height += MARGIN;
        Self { canvas, words }
    }

    /// The SVG file.
    ///
    /// # Errors
    /// The text cannot be written.
    pub fn svg(&self) -> Result<String> {
        self.render(true)
    }

    /// The element for a page that has the style `templates/look/arithmetic.css`.
    pub(in crate::look) fn inline(&self) -> Result<String> {
        self.render(false)
    }

    fn render(&self, alone: bool) -> Result<String> {
        let [width, height] = [self.canvas.width, self.canvas.height].map(|length| coordinate(length.ceil()));
        let svg = Svg { canvas: &self.canvas, words: &self.words, alone, width, height };
        svg.render().map_err(|error| Error::Unsupported(format!("the drawing could not be written: {error}")))
    }

    /// How many cells show a number.
    #[cfg(test)]
    pub(in crate::look::explain) fn numbers(&self) -> usize {
        self.canvas.cells.iter().filter(|cell| !cell.text.is_empty()).count()
    }
}

/// Space around everything.
pub(super) const MARGIN: f64 = 14.0;
/// Side of a cell with a number.
const SIDE: f64 = 40.0;
/// The longest side of a grid, and the least side of a cell that has a number.
const LONGEST: f64 = 240.0;
const READABLE: f64 = 34.0;
/// Size of the text, and the width of a letter, about, as a share of it.
const SIZE: f64 = 13.0;
const LETTER: f64 = 0.57;

/// About how wide a text is: Hangul letters are as wide as they are high.
pub(super) fn width_of(text: &str) -> f64 {
    SIZE * text.chars().map(|letter| if letter >= '\u{1100}' { 1.0 } else { LETTER }).sum::<f64>()
}

/// A whole number as it is, any other with three digits that count.
pub(super) fn plain(number: f64) -> String {
    if number.fract() == 0.0 && (0.0..1e9).contains(&number) { count(number as u64) } else { figure(number) }
}

/// A number with six decimals, or with an exponent where they would show little of it.
pub(super) fn precise(number: f64) -> String {
    let small = number != 0.0 && number.abs() < 1e-3;
    if small { format!("{number:.4e}") } else { format!("{number:.6}") }.replace('-', "−")
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Canvas {
    pub width: f64,
    pub height: f64,
    cells: Vec<Cell>,
    pictures: Vec<Placed>,
    frames: Vec<Frame>,
    texts: Vec<Text>,
}

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    x: String,
    y: String,
    side: String,
    middle: [String; 2],
    fill: String,
    ink: &'static str,
    text: String,
    title: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Placed {
    x: String,
    y: String,
    width: String,
    height: String,
    address: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Frame {
    class: &'static str,
    x: String,
    y: String,
    width: String,
    height: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Text {
    class: &'static str,
    x: String,
    y: String,
    text: String,
}

/// Numbers in rows and columns; `None` is what lies in the padding.
pub(super) struct Grid<'a> {
    pub numbers: &'a [Option<f64>],
    pub size: [usize; 2],
    pub range: Range,
    pub map: ColourMap,
    /// The place that is marked.
    pub marked: Option<usize>,
}

/// How large a cell of a grid of this size is drawn.
pub(super) fn side_of([rows, columns]: [usize; 2]) -> f64 {
    (LONGEST / rows.max(columns).max(1) as f64).clamp(1.0, SIDE)
}

impl Canvas {
    pub fn text(&mut self, class: &'static str, [x, y]: [f64; 2], text: impl Into<String>) {
        let text = text.into();
        let width = width_of(&text) * if class.contains("title") { 17.0 / 13.0 } else { 1.0 };
        let right = match class {
            _ if class.contains("middle") => x + width / 2.0,
            _ if class.contains("end") => x,
            _ => x + width,
        };
        self.reach([right, y + 4.0]);
        self.texts.push(Text { class, x: coordinate(x), y: coordinate(y), text });
    }

    /// Grows so that a point lies inside.
    fn reach(&mut self, [x, y]: [f64; 2]) {
        self.width = self.width.max(x);
        self.height = self.height.max(y);
    }

    pub fn frame(&mut self, class: &'static str, [x, y]: [f64; 2], [width, height]: [f64; 2]) {
        let [x, y, width, height] = [x, y, width, height].map(coordinate);
        self.frames.push(Frame { class, x, y, width, height });
    }

    pub fn picture(&mut self, raster: &Raster, [x, y]: [f64; 2], [width, height]: [f64; 2]) -> Result<()> {
        self.reach([x + width, y + height]);
        let address = Picture::new(raster, 1)?.address;
        let [x, y, width, height] = [x, y, width, height].map(coordinate);
        self.pictures.push(Placed { x, y, width, height, address });
        Ok(())
    }

    /// Draws a grid at a place: with its numbers where there is room for them. Gives its width and height.
    pub fn grid(&mut self, grid: &Grid<'_>, at: [f64; 2], padding: &str) -> Result<[f64; 2]> {
        let [rows, columns] = grid.size;
        let side = side_of(grid.size);
        let size = [side * columns as f64, side * rows as f64];
        self.reach([at[0] + size[0], at[1] + size[1]]);
        if side < READABLE {
            self.picture(&raster(grid)?, at, size)?;
        } else {
            for (place, number) in grid.numbers.iter().enumerate() {
                let corner = [at[0] + side * (place % columns) as f64, at[1] + side * (place / columns) as f64];
                self.cells.push(cell(*number, grid, corner, side, padding));
            }
        }
        self.frame("line", at, size);
        if let Some(place) = grid.marked {
            let corner = [at[0] + side * (place % columns) as f64, at[1] + side * (place / columns) as f64];
            self.frame("mark", corner, [side, side]);
        }
        Ok(size)
    }

    /// A bar of colours with the numbers at its ends.
    pub fn legend(&mut self, range: Range, map: ColourMap, [x, y]: [f64; 2], width: f64) -> Result<()> {
        let steps: Vec<f32> = (0..64).map(|step| step as f32).collect();
        let bar = Raster::plane(&steps, [1, 64], Range { low: 0.0, high: 63.0 }, map)?;
        self.picture(&bar, [x, y], [width, 9.0])?;
        self.frame("line", [x, y], [width, 9.0]);
        self.text("soft small", [x, y + 22.0], plain(f64::from(range.low)));
        self.text("soft small end", [x + width, y + 22.0], plain(f64::from(range.high)));
        Ok(())
    }
}

fn cell(number: Option<f64>, grid: &Grid<'_>, [x, y]: [f64; 2], side: f64, padding: &str) -> Cell {
    let (fill, ink, text, title) = match number {
        Some(number) => {
            let colour = grid.map.colour(number as f32, grid.range);
            let [red, green, blue] = colour.map(f64::from);
            let light = 0.299 * red + 0.587 * green + 0.114 * blue;
            (hex(colour), if light > 140.0 { "#000" } else { "#fff" }, compact(number), number.to_string())
        }
        None => ("var(--pad, var(--faint))".to_owned(), "var(--soft)", "0".to_owned(), padding.to_owned()),
    };
    let [middle_x, middle_y] = [x + side / 2.0, y + side / 2.0].map(coordinate);
    let [x, y, side] = [x, y, side].map(coordinate);
    Cell { x, y, side, middle: [middle_x, middle_y], fill, ink, text, title }
}

/// A number in at most five letters.
fn compact(number: f64) -> String {
    let size = number.abs();
    let text = match size {
        _ if !number.is_finite() => return figure(number),
        0.0 => "0".to_owned(),
        _ if !(0.0005..99_999.0).contains(&size) => format!("{size:.0e}"),
        _ if size < 0.095 => format!("{size:.3}").trim_start_matches('0').to_owned(),
        _ if size < 9.995 => format!("{size:.2}"),
        _ if size < 99.95 => format!("{size:.1}"),
        _ => format!("{size:.0}"),
    };
    if number < 0.0 { format!("−{text}") } else { text }
}

fn raster(grid: &Grid<'_>) -> Result<Raster> {
    let [rows, columns] = grid.size;
    let mut raster = Raster::new(columns, rows, [0; 4])?;
    for (place, number) in grid.numbers.iter().enumerate() {
        if let Some(number) = number {
            let [red, green, blue] = if number.is_finite() { grid.map.colour(*number as f32, grid.range) } else { NOT_FINITE };
            raster.set([place / columns, place % columns], [red, green, blue, 255]);
        }
    }
    Ok(raster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_into_their_cells() {
        let cases = [
            (0.0, "0"),
            (0.1234, "0.12"),
            (-0.0123, "−.012"),
            (12.34, "12.3"),
            (-1234.0, "−1234"),
            (1e-7, "1e-7"),
            (0.0949, ".095"),
            (9.999, "10.0"),
        ];
        for (number, text) in cases {
            assert_eq!(compact(number), text);
        }
    }
}
