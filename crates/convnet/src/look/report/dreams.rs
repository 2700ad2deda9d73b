//! Images changed until whole layers see more of what they see in them.

use super::short;
use super::shown::Shown;
use super::texts::{Texts, fill};
use crate::error::Result;
use crate::look::Contents;
use crate::look::maximise::Dream;

/// How large an image is shown, and the longest side that it keeps.
const IMAGE: usize = 168;

/// An image and what it was changed into.
pub(super) struct DreamsView {
    pub image: String,
    pub picture: Shown,
    pub layers: Vec<DreamView>,
}

/// One of them.
pub(super) struct DreamView {
    pub layer: String,
    pub linked: bool,
    pub picture: Shown,
    pub note: String,
}

/// A row for each image.
pub(super) fn views(contents: &Contents<'_>, t: &Texts) -> Result<Vec<DreamsView>> {
    let size = contents.model.image_size();
    let rows = contents.dreams.iter().map(|found| {
        let bytes = contents.bytes_of(&found.name);
        let view = |dream: &Dream| {
            let alt = fill(t.dream_alt, &[&found.name, &dream.image.layer]);
            let values = [dream.before, dream.image.value].map(|value| short(f64::from(value)));
            Ok(DreamView {
                layer: dream.image.layer.clone(),
                linked: contents.layers.contains(&dream.image.layer),
                picture: Shown::image_within(&dream.image.bytes(), size, IMAGE, IMAGE, alt)?,
                note: fill(t.dream_note, &[&values[0], &values[1]]),
            })
        };
        Ok(DreamsView {
            image: found.name.clone(),
            picture: Shown::image_within(bytes, size, IMAGE, IMAGE, fill(t.image_alt, &[&found.name]))?,
            layers: found.layers.iter().map(view).collect::<Result<_>>()?,
        })
    });
    rows.collect()
}
