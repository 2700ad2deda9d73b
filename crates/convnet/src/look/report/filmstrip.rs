//! The filmstrip: filters and synthetic images over the epochs of the training, a column for each moment.

use super::layers::filters_shown;
use super::neurons::{self, MOST};
use super::rough_percent;
use super::shown::Shown;
use super::texts::{Texts, fill};
use crate::error::Result;
use crate::look::attribution::scores;
use crate::look::{Contents, Frame, LayerFilters};

/// How large the filters of a moment, and an image, are shown.
const FILTERS: usize = 100;
const IMAGE: usize = 72;

/// The filmstrip as a table.
pub(super) struct FilmstripView {
    pub about: String,
    pub moments: Vec<Moment>,
    pub rows: Vec<Row>,
}

/// The head of a column.
pub(super) struct Moment {
    pub name: String,
    pub accuracy: Option<String>,
}

/// The filters of a layer, or the images of a neuron, at every moment.
pub(super) struct Row {
    pub name: String,
    /// Where the neuron is shown on the page, if it is.
    pub link: Option<String>,
    /// Whether the pictures are searched for, not read off.
    pub estimated: bool,
    pub pictures: Vec<Option<Shown>>,
}

/// The filmstrip, if there is one.
pub(super) fn view(contents: &Contents<'_>, t: &'static Texts) -> Result<Option<FilmstripView>> {
    let frames = &contents.frames;
    let Some(first) = frames.first() else { return Ok(None) };
    let moments: Vec<Moment> = frames.iter().map(|frame| moment(frame, t)).collect();
    let mut rows = Vec::new();
    for (place, layer) in first.filters.iter().enumerate() {
        let of = |(frame, moment): (&Frame, &Moment)| frame.filters.get(place).map(|found| filters(found, &moment.name, t)).transpose();
        let pictures = frames.iter().zip(&moments).map(of).collect::<Result<_>>()?;
        let link = contents.layers.contains(&layer.layer).then(|| layer.layer.clone());
        rows.push(Row { name: fill(t.frame_filters, &[&layer.layer]), link, estimated: false, pictures });
    }
    for (place, layer) in first.neurons.iter().enumerate() {
        for (number, image) in layer.images.iter().enumerate() {
            let Some(channel) = image.objective.only_channel() else { continue };
            let name = name_of(contents, &layer.layer, channel);
            let picture = |(frame, moment): (&Frame, &Moment)| {
                let Some(made) = frame.neurons.get(place).and_then(|layer| layer.images.get(number)) else { return Ok(None) };
                let (size, bytes) = made.seen();
                let alt = fill(t.frame_neuron_alt, &[&name, &moment.name]);
                if bytes.is_empty() { Ok(None) } else { Shown::image(&bytes, size, IMAGE, alt).map(Some) }
            };
            let pictures = frames.iter().zip(&moments).map(picture).collect::<Result<_>>()?;
            let cards = contents.model.network().find(&layer.layer).map_or(0, |id| neurons::cards(contents, id));
            let on_page = contents.layers.contains(&layer.layer) && channel < cards;
            rows.push(Row { link: on_page.then(|| format!("{}/{channel}", layer.layer)), name, estimated: true, pictures });
        }
    }
    let layer = first.filters.first().map_or("", |found| found.layer.as_str());
    Ok(Some(FilmstripView { about: fill(t.filmstrip_about, &[layer]), moments, rows }))
}

fn moment(frame: &Frame, t: &Texts) -> Moment {
    let name = if frame.epoch == 0 { t.frame_start.to_owned() } else { fill(t.frame_epoch, &[&frame.epoch.to_string()]) };
    Moment { name, accuracy: frame.accuracy.map(|accuracy| fill(t.frame_accuracy, &[&rough_percent(accuracy)])) }
}

/// `conv3/17`, or the class whose score it is.
fn name_of(contents: &Contents<'_>, layer: &str, channel: usize) -> String {
    let network = contents.model.network();
    let is_score = network.find(layer).is_ok_and(|id| id == scores(network));
    let class = if is_score { contents.model.classes().get(channel) } else { None };
    class.cloned().unwrap_or_else(|| format!("{layer}/{channel}"))
}

fn filters(found: &LayerFilters, moment: &str, t: &Texts) -> Result<Shown> {
    let sheet = found.sheet(MOST)?;
    filters_shown(found, &sheet, FILTERS.max(sheet.width()), fill(t.frame_filters_alt, &[&found.layer, moment]), t)
}
