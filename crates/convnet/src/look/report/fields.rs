//! Receptive fields: what the middle neuron of each layer sees of an image, where that grows from layer to layer.

use std::ops::Range;

use super::shown::Shown;
use super::texts::{Texts, fill};
use crate::error::Result;
use crate::look::Contents;
use crate::network::NodeId;
use crate::page::number::{fixed, sizes};

/// How large the image is shown under each field.
const SHOWN: usize = 112;
/// The most fields that are drawn.
const MOST: usize = 24;

/// The fields of a network.
pub(super) struct Fields {
    pub about: String,
    pub list: Vec<Field>,
}

/// One field over the image.
pub(super) struct Field {
    pub layer: String,
    pub size: String,
    pub note: String,
    pub picture: Shown,
    /// Where the frame lies, as a style: in per cent of the image's sides. Parts in the padding lie outside.
    pub frame: String,
}

/// The fields of the layers that were looked at, one for each size; `None` without an image.
pub(super) fn view(contents: &Contents<'_>, t: &Texts) -> Result<Option<Fields>> {
    let Some(image) = contents.images.first() else { return Ok(None) };
    let network = contents.model.network();
    let [_, h, w] = contents.model.image_size();
    let fields = network.receptive_fields();
    let mut list: Vec<Field> = Vec::new();
    let mut last = None;
    for layer in &contents.layers {
        let id = network.find(layer)?;
        let field = &fields[id.index()];
        if id == NodeId::IMAGE || last == Some((field.size(), field.jump())) || field.size() == [1, 1] || list.len() == MOST {
            continue;
        }
        last = Some((field.size(), field.jump()));
        let shape = network.shape(id);
        let (y, x) = (shape.h / 2, shape.w / 2);
        let region = network.region(id, y, x)?;
        let frame = [frame("top", "height", &region.window_rows, h), frame("left", "width", &region.window_columns, w)].join(";");
        let [size, jump] =
            [field.size(), field.jump()].map(|pair| sizes(&pair.map(|length| usize::try_from(length).unwrap_or(usize::MAX))));
        let note = if field.is_whole() {
            t.field_whole.to_owned()
        } else {
            fill(t.field_note, &[&jump, &fixed(field.h.start as f64, 0), &fixed(field.w.start as f64, 0)])
        };
        let alt = fill(t.field_alt, &[layer, &size, &image.name]);
        list.push(Field {
            layer: layer.clone(),
            size,
            note,
            picture: Shown::image(&image.bytes, contents.model.image_size(), SHOWN, alt)?,
            frame,
        });
    }
    Ok((!list.is_empty()).then(|| Fields { about: fill(t.fields_about, &[&image.name]), list }))
}

/// A range of pixels as a place in per cent of the image's side.
fn frame(first: &str, length: &str, pixels: &Range<i64>, side: usize) -> String {
    let percent = |pixels: i64| 100.0 * pixels as f64 / side as f64;
    format!("{first}:{:.2}%;{length}:{:.2}%", percent(pixels.start), percent(pixels.end.saturating_sub(pixels.start)))
}
