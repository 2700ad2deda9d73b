//! Worked examples: one number of the first convolution and one of the first pooling.

use super::Language;
use super::texts::{Texts, fill};
use crate::error::Result;
use crate::look::Contents;
use crate::look::explain::draw;

/// The part of the page.
pub(super) struct Arithmetic {
    pub about: String,
    pub examples: Vec<Example>,
}

/// One number.
pub(super) struct Example {
    pub layer: String,
    /// The drawing, as an SVG element.
    pub drawing: String,
    pub commands: Vec<String>,
}

/// The examples of the first image; `None` where there is none.
pub(super) fn view(contents: &Contents<'_>, title: &str, language: Language) -> Result<Option<Arithmetic>> {
    let t: &Texts = language.texts();
    let Some(image) = contents.images.first().filter(|image| !image.arithmetic.is_empty()) else { return Ok(None) };
    let examples = image.arithmetic.iter().map(|explanation| {
        let [k, y, x] = explanation.at;
        let command = format!("convnet explain {title} {} --layer {} --at {k},{y},{x}", image.name, explanation.layer);
        let picture = format!("{command} --picture {}.svg", explanation.layer);
        Ok(Example {
            layer: explanation.layer.clone(),
            drawing: draw(explanation, &image.bytes, contents.model.image_size(), language)?.inline()?,
            commands: vec![picture, format!("{command} --backward")],
        })
    });
    Ok(Some(Arithmetic { about: fill(t.arithmetic_about, &[&image.name]), examples: examples.collect::<Result<_>>()? }))
}
