//! Receptive fields: what the middle neuron of each layer sees of an image, where that grows from layer to layer.

use std::ops;

use super::layers::means;
use super::shown::Shown;
use super::texts::{Texts, fill};
use crate::error::Result;
use crate::look::Contents;
use crate::look::picture::Range;
use crate::network::NodeId;
use crate::page::number::{fixed, sizes};

/// How large the image is shown under each field.
const SHOWN: usize = 112;
/// The longest side that the effective field of a large image keeps.
const LONGEST: usize = 120;
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
    pub effective: Option<Effective>,
}

/// How much each pixel moves the neuron.
pub(super) struct Effective {
    pub picture: Shown,
    pub note: String,
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
        let frame = frame([&region.window_rows, &region.window_columns], [h, w]);
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
            effective: effective(contents, layer, t)?,
        });
    }
    let mut about = fill(t.fields_about, &[&image.name]);
    if let Some(found) = contents.effective.first() {
        about += " ";
        about += &fill(t.effective_about, &[&found.images.to_string()]);
    }
    Ok((!list.is_empty()).then_some(Fields { about, list }))
}

/// The effective field of a layer, if it was looked at.
fn effective(contents: &Contents<'_>, layer: &str, t: &Texts) -> Result<Option<Effective>> {
    let Some(found) = contents.effective.iter().find(|found| found.layer == *layer) else { return Ok(None) };
    let [h, w] = [found.influence.sizes()[0], found.influence.sizes()[1]];
    let factor = h.max(w).div_ceil(LONGEST).max(1);
    let numbers = means(found.influence.values(), [h, w], factor);
    let alt = fill(t.effective_alt, &[layer]);
    let picture = Shown::plane(&numbers, [h.div_ceil(factor), w.div_ceil(factor)], Range::suited(&numbers), SHOWN, alt)?;
    Ok(Some(Effective { picture, note: fill(t.effective_note, &[&sizes(&found.sides)]) }))
}

/// Where a frame around rows and columns of an image H×W lies, as a style: in per cent of the image's sides.
pub(super) fn frame([rows, columns]: [&ops::Range<i64>; 2], [h, w]: [usize; 2]) -> String {
    let along = |first: &str, length: &str, pixels: &ops::Range<i64>, side: usize| {
        let percent = |pixels: i64| 100.0 * pixels as f64 / side as f64;
        format!("{first}:{:.2}%;{length}:{:.2}%", percent(pixels.start), percent(pixels.end.saturating_sub(pixels.start)))
    };
    [along("top", "height", rows, h), along("left", "width", columns, w)].join(";")
}
