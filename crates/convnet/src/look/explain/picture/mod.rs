//! Arithmetic as drawings: the image with the window, the numbers of the window, the kernel and their products as colours with
//! the numbers in them, then the sum, what is added, and the result.
//!
//! A drawing is one SVG image, sharp at any size, light or dark as its reader's screen is.

mod canvas;
mod parts;
mod sheet;
mod words;

use std::fs;
use std::path::Path;

pub use canvas::Drawing;
pub use parts::{draw, draw_columns, draw_correlation, draw_coverage, draw_gradient, draw_weight_gradient};

use crate::error::{Error, Result};
use crate::file::{read_whole, write_whole};

/// Stands in every drawing.
const PROGRAM: &str = "<!-- drawn by convnet -->";
/// The largest file that is looked at before it is replaced.
const LIMIT: u64 = 64 << 20;

/// Writes a drawing to a file, whose name ends in `.svg`.
///
/// # Errors
/// The name ends in something else, another file than an earlier drawing stands in its place, or the folder cannot be written to.
pub fn write(drawing: &Drawing, path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| extension != "svg") {
        return Err(Error::Argument(format!("'{}' does not end in .svg; drawings are SVG images", path.display())));
    }
    if fs::symlink_metadata(path).is_ok() {
        let known = read_whole(path, LIMIT).is_ok_and(|bytes| bytes.windows(PROGRAM.len()).any(|part| part == PROGRAM.as_bytes()));
        if !known {
            return Err(Error::Argument(format!(
                "{} exists and is not a drawing of this program; choose another name, or move it away",
                path.display()
            )));
        }
    }
    write_whole(path, drawing.svg()?.as_bytes())
}
