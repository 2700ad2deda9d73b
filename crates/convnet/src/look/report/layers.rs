//! The page part of each layer: its facts, filters, maps and neurons.

use super::neurons::{self, MOST, NeuronView};
use super::rough_percent;
use super::shown::{Hover, Legend, Shown, text_of};
use super::texts::{Texts, fill};
use crate::error::Result;
use crate::look::filters::square;
use crate::look::picture::{ColourMap, Range, Raster};
use crate::look::{Contents, LayerFilters, LayerMaps};
use crate::network::LayerSummary;
use crate::page::number::{count, sizes};
use crate::page::picture::Picture;

/// How large a sheet is shown, so that it fits a telephone.
const SHEET: usize = 292;
/// Pixels that all sheets of maps have together.
const PIXELS: usize = 3_000_000;
/// The least pixels that a sheet may have.
const LEAST_PIXELS: usize = 10_000;

/// One layer.
pub(super) struct LayerView<'a> {
    pub name: &'a str,
    pub text: String,
    pub facts: Vec<Fact>,
    pub filters: Option<FiltersView>,
    pub maps: Vec<MapsView<'a>>,
    pub neurons: Vec<NeuronView>,
    /// Whether the cards of the neurons need room for images.
    pub wide: bool,
    /// What is not shown.
    pub more: Option<String>,
}

/// A number that is told of a layer.
pub(super) struct Fact {
    pub name: &'static str,
    pub value: String,
}

pub(super) struct FiltersView {
    pub about: String,
    pub picture: Shown,
}

/// The maps of one image.
pub(super) struct MapsView<'a> {
    pub image: &'a str,
    pub about: String,
    pub picture: Shown,
}

/// The layers that were looked at.
pub(super) fn views<'a>(contents: &'a Contents<'_>, t: &'static Texts) -> Result<Vec<LayerView<'a>>> {
    let summary = contents.model.network().summary().layers;
    let sheets = (contents.layers.len() * contents.images.len()).max(1);
    let pixels = (PIXELS / sheets).max(LEAST_PIXELS);
    let view = |name: &'a String| {
        let id = contents.model.network().find(name)?;
        let filters = contents.filters.iter().find(|filters| filters.layer == *name);
        let neurons = neurons::views(contents, id, name, filters, t)?;
        let channels = contents.model.network().shape(id).c;
        Ok(LayerView {
            name,
            text: contents.model.network().node(id).map_or(String::new(), |node| node.layer().to_string()),
            facts: summary.iter().find(|row| row.name == *name).map(|row| facts(row, t)).unwrap_or_default(),
            filters: filters.map(|filters| filters_view(filters, t)).transpose()?,
            maps: maps_views(contents, name, pixels, t)?,
            more: (!neurons.is_empty() && neurons.len() < channels)
                .then(|| fill(t.more_neurons, &[&count(neurons.len() as u64), &count(channels as u64)])),
            wide: neurons.iter().any(|neuron| neuron.patches.is_some() || neuron.synthetic.is_some()),
            neurons,
        })
    };
    contents.layers.iter().map(view).collect()
}

fn facts(row: &LayerSummary, t: &'static Texts) -> Vec<Fact> {
    let mut list = vec![Fact { name: t.output, value: sizes(&row.output) }];
    if row.parameters > 0 {
        let formula = row.formula.as_ref().map_or(String::new(), |formula| format!(" = {formula}"));
        list.push(Fact { name: t.parameters, value: format!("{}{formula}", count(row.parameters)) });
    }
    if row.macs > 0 {
        list.push(Fact { name: t.macs, value: count(row.macs) });
    }
    let [h, w] = row.receptive_field;
    let field = if row.sees_whole { t.whole_image.to_owned() } else { format!("{h}×{w}") };
    list.push(Fact { name: t.receptive_field, value: field });
    if !row.sees_whole {
        list.push(Fact { name: t.jump, value: sizes(&row.jump.map(|jump| usize::try_from(jump).unwrap_or(usize::MAX))) });
    }
    list
}

fn filters_view(filters: &LayerFilters, t: &Texts) -> Result<FiltersView> {
    let [k, c, ..] = filters.sizes;
    let mut about = fill(if filters.are_images() { t.filters_images } else { t.filters_grid }, &[&sizes(&filters.sizes)]);
    if k > MOST || c > MOST {
        about += " ";
        about += &fill(t.filters_cut, &[&MOST.to_string()]);
    }
    let alt = fill(t.filters_alt, &[&filters.layer, &count(k as u64)]);
    let mut picture = filters_shown(filters, &filters.sheet(MOST)?, SHEET, alt, t)?;
    picture.hover.layer = Some(filters.layer.clone());
    Ok(FiltersView { about, picture })
}

/// The sheet of a layer's filters with its legend.
pub(super) fn filters_shown(filters: &LayerFilters, sheet: &Raster, shown: usize, alt: String, t: &Texts) -> Result<Shown> {
    let [k, c, r, s] = filters.sizes;
    let range = filters.range();
    let columns = if filters.are_images() { square(k.min(MOST)) } else { c.min(MOST) };
    let words = if filters.are_images() { t.filter.to_owned() } else { format!("{}|{}", t.filter, t.channel) };
    let map = if c == 3 { "colour" } else { filters.colour_map().name() };
    let hover = Hover { map, columns, tile: [r, s], ranges: text_of(&[range]), words, layer: None };
    Ok(Shown { picture: Picture::new(sheet, shown)?, alt, hover, legend: Some(Legend::new(range, filters.colour_map())) })
}

fn maps_views<'a>(contents: &'a Contents<'_>, layer: &str, pixels: usize, t: &Texts) -> Result<Vec<MapsView<'a>>> {
    let mut views = Vec::new();
    for image in &contents.images {
        let Some(place) = image.maps.iter().position(|maps| maps.layer == layer) else { continue };
        views.push(maps_view(&image.maps[place], &image.scales[place], &image.name, pixels, t)?);
    }
    Ok(views)
}

fn maps_view<'a>(maps: &LayerMaps, scales: &[(Range, ColourMap)], image: &'a str, pixels: usize, t: &Texts) -> Result<MapsView<'a>> {
    let [c, h, w] = maps.sizes;
    let shown = c.min(MOST);
    let factor = (1..=h.max(w)).find(|factor| h.div_ceil(*factor) * w.div_ceil(*factor) * shown <= pixels).unwrap_or(h.max(w)).max(1);
    let tile = [h.div_ceil(factor), w.div_ceil(factor)];
    let tiles: Vec<Raster> = (0..shown)
        .map(|map| Raster::plane(&means(maps.plane(map), [h, w], factor), tile, scales[map].0, scales[map].1))
        .collect::<Result<_>>()?;
    let mut about = fill(t.maps_figures, &[&rough_percent(maps.zeros)]);
    for (holds, text) in
        [(c > MOST, fill(t.maps_cut, &[&MOST.to_string(), &count(c as u64)])), (factor > 1, fill(t.maps_means, &[&factor.to_string()]))]
    {
        if holds {
            about += " ";
            about += &text;
        }
    }
    let ranges: Vec<Range> = scales.iter().take(shown).map(|(range, _)| *range).collect();
    let same = scales.iter().all(|scale| *scale == scales[0]);
    let legend = match same {
        true => Legend::new(scales[0].0, scales[0].1),
        false => Legend { map: scales[0].1.name(), low: t.each_low.to_owned(), high: t.each_high.to_owned() },
    };
    let hover = Hover {
        map: scales[0].1.name(),
        columns: square(shown),
        tile,
        ranges: text_of(if same { &ranges[..1] } else { &ranges }),
        words: t.map.to_owned(),
        layer: Some(maps.layer.clone()),
    };
    let alt = fill(t.maps_alt, &[&maps.layer, image, &count(shown as u64)]);
    let picture = Picture::new(&Raster::sheet(&tiles, square(shown), 1)?, SHEET)?;
    Ok(MapsView { image, about, picture: Shown { picture, alt, hover, legend: Some(legend) } })
}

/// Means of squares of `factor` × `factor` numbers of a plane H×W, as far as they lie inside.
pub(super) fn means(plane: &[f32], [h, w]: [usize; 2], factor: usize) -> Vec<f32> {
    if factor <= 1 {
        return plane.to_vec();
    }
    let columns = w.div_ceil(factor);
    let mean = |place: usize| {
        let (top, left) = (place / columns * factor, place % columns * factor);
        let (bottom, right) = ((top + factor).min(h), (left + factor).min(w));
        let sum: f64 = (top..bottom).flat_map(|y| &plane[y * w + left..y * w + right]).map(|&value| f64::from(value)).sum();
        (sum / ((bottom - top) * (right - left)) as f64) as f32
    };
    (0..h.div_ceil(factor) * columns).map(mean).collect()
}
