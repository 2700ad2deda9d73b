//! The cards of neurons: what a channel of a convolution, or an output of a fully connected layer, looks for; the synthetic
//! image and the patches from the data beside each other, never mixed.

use super::fields::frame;
use super::shown::{Hover, Shown, text_of};
use super::texts::{Texts, fill};
use super::{LONGEST, rough_percent, short};
use crate::error::Result;
use crate::layer::Layer;
use crate::look::contents::{MOST_NEURONS, test_name};
use crate::look::filters::square;
use crate::look::maximise::{Synthetic, is_pooled_to_scores};
use crate::look::picture::{Range, Raster};
use crate::look::{ChannelPatches, ChannelStatistics, Contents, LayerFilters, Patch, activated};
use crate::network::NodeId;
use crate::page::number::count;
use crate::page::picture::{Picture, reduced};

/// The most neurons of a layer, and the most channels of a filter, that are shown.
pub(super) const MOST: usize = MOST_NEURONS;
/// How large the filter of a neuron is shown.
const FILTER: usize = 60;
/// How large a synthetic image is shown, and the longest side that it keeps.
const SYNTHETIC: usize = 112;
/// How large the image that makes a neuron small is shown.
const OTHERS: usize = 56;
/// How large the patches are shown, and the longest side that one keeps.
const PATCHES: usize = 176;
/// How large the image of the first patch is shown.
const PLACED: usize = 84;
const PATCH: usize = 56;
/// Pixels that the synthetic images of all cards, and their patches, have together; a side has at least so many.
const PIXELS: usize = 3_300_000;
const LEAST: usize = 28;
/// Patches at the top and at the bottom, in rows of three.
const TOP: usize = 6;
const BOTTOM: usize = 3;
const COLUMNS: usize = 3;
/// Classes that are told of the patches.
const CLASSES: usize = 2;

/// One neuron.
pub(super) struct NeuronView {
    pub number: usize,
    /// The class whose score it is.
    pub class: Option<String>,
    pub flags: Vec<String>,
    pub synthetic: Option<SyntheticView>,
    pub patches: Option<PatchesView>,
    pub filter: Option<Shown>,
    pub figures: Vec<String>,
}

/// The image that was made for a neuron.
pub(super) struct SyntheticView {
    pub picture: Shown,
    /// Its value, and where that stands among the data's.
    pub value: String,
    pub standing: Option<String>,
    /// More images for it, unlike each other.
    pub diverse: Option<Shown>,
    pub diverse_words: String,
    /// The image that makes it small.
    pub opposite: Option<Shown>,
    pub opposite_words: String,
}

/// The patches that a neuron answers to most and least.
pub(super) struct PatchesView {
    pub top: Shown,
    pub top_values: String,
    /// The first of them in its image, where that is more than the patch.
    pub first: Option<PlacedView>,
    pub bottom: Option<Shown>,
    pub bottom_values: String,
    pub classes: String,
}

/// A patch in its image.
pub(super) struct PlacedView {
    pub picture: Shown,
    /// Where the frame lies, as a style.
    pub frame: String,
    pub words: String,
}

/// The neurons of a convolution or a fully connected layer; none of others.
pub(super) fn views(
    contents: &Contents<'_>,
    id: NodeId,
    name: &str,
    filters: Option<&LayerFilters>,
    t: &'static Texts,
) -> Result<Vec<NeuronView>> {
    let network = contents.model.network();
    let is_fc = network.node(id).is_some_and(|node| matches!(node.layer(), Layer::Linear(_)));
    if filters.is_none() && !is_fc {
        return Ok(Vec::new());
    }
    let behind = activated(network, id);
    let is_output = is_pooled_to_scores(network, id) || behind == network.output();
    let statistics = contents.statistics.as_ref().map(|found| &found.layers);
    let of = |id: NodeId| statistics.and_then(|layers| layers.get(id.index().checked_sub(1)?)).map(|layer| &layer.channels);
    let patches = contents.patches.iter().find(|layer| layer.layer == name);
    let neuron = |number: usize| {
        let work = of(behind).and_then(|channels| channels.get(number));
        let picture = filters.filter(|filters| filters.sizes[1] <= MOST).map(|filters| filter(filters, number, t)).transpose()?;
        let mut flags = filters.map(|filters| flags(filters, number, t)).unwrap_or_default();
        if work.is_some_and(|work| work.dead) {
            flags.push(t.flag_silent.to_owned());
        }
        let mut figures = Vec::new();
        if let Some(filter) = filters.and_then(|filters| filters.filters.get(number)) {
            figures.push(fill(t.figure_norm, &[&short(filter.norm)]));
        }
        figures.extend(work.map(|work| activity(work, t)).into_iter().flatten());
        let found = patches.and_then(|layer| layer.channels.get(number)).filter(|found| !found.top.is_empty());
        Ok(NeuronView {
            number,
            class: if is_output { contents.model.classes().get(number).cloned() } else { None },
            synthetic: synthetic(contents, name, number, t)?,
            patches: found.map(|found| patches_view(contents, found, name, t)).transpose()?,
            filter: picture,
            flags,
            figures,
        })
    };
    (0..cards(contents, id)).map(neuron).collect()
}

/// How many neurons of a layer have a card.
pub(super) fn cards(contents: &Contents<'_>, id: NodeId) -> usize {
    contents.model.network().shape(id).c.min(contents.neurons)
}

/// The longest side of `images` images on every card, so that a page of many cards stays small.
fn longest(contents: &Contents<'_>, images: usize) -> usize {
    let layers = contents.layers.iter().filter_map(|layer| contents.model.network().find(layer).ok());
    let of = |id| contents.model.network().node(id).is_some_and(|node| matches!(node.layer(), Layer::Conv2d(_) | Layer::Linear(_)));
    let cards: usize = layers.filter(|id| of(*id)).map(|id| cards(contents, id)).sum();
    (PIXELS / (cards * images).max(1)).isqrt().max(LEAST)
}

/// How a neuron works over the data set, in words.
fn activity(work: &ChannelStatistics, t: &Texts) -> [String; 2] {
    [fill(t.figure_mean, &[&short(work.mean), &short(f64::from(work.high))]), fill(t.figure_active, &[&rough_percent(work.positive)])]
}

fn flags(filters: &LayerFilters, number: usize, t: &Texts) -> Vec<String> {
    let Some(filter) = filters.filters.get(number) else { return Vec::new() };
    let dead = filter.dead.then(|| t.flag_dead.to_owned());
    let like = filter.like.map(|like| {
        let text = if like.cosine > 0.0 { t.flag_double } else { t.flag_opposite };
        fill(text, &[&like.filter.to_string()])
    });
    dead.into_iter().chain(like).collect()
}

fn filter(filters: &LayerFilters, number: usize, t: &Texts) -> Result<Shown> {
    let [_, c, r, s] = filters.sizes;
    let range = filters.range();
    let tiles = filters.pictures(number, range)?;
    let columns = square(tiles.len());
    let map = if c == 3 { "colour" } else { filters.colour_map().name() };
    let words = if filters.are_images() { String::new() } else { t.channel.to_owned() };
    let hover = Hover { map, columns, tile: [r, s], ranges: text_of(&[range]), words, layer: None };
    let alt = fill(t.filter_alt, &[&number.to_string(), &filters.layer]);
    let sheet = Raster::sheet(&tiles, columns, 1)?;
    Ok(Shown { picture: Picture::new(&sheet, FILTER.max(sheet.width()))?, alt, hover, legend: None })
}

fn synthetic(contents: &Contents<'_>, layer: &str, number: usize, t: &Texts) -> Result<Option<SyntheticView>> {
    let Some(made) = contents.synthetic.iter().find(|made| made.atlas.layer == layer) else { return Ok(None) };
    let Some(image) = made.atlas.images.get(number) else { return Ok(None) };
    let (size, bytes) = image.seen();
    if bytes.is_empty() {
        return Ok(None);
    }
    let alt = fill(t.synthetic_alt, &[layer, &number.to_string()]);
    let standing = made.standing.get(number).map(|standing| {
        let (images, largest) = (count(standing.images as u64), short(f64::from(standing.largest)));
        if standing.quantile == 1.0 {
            fill(t.standing_above, &[&images, &largest])
        } else {
            fill(t.standing, &[&rough_percent(standing.quantile), &images, &largest])
        }
    });
    let negative = made.negative.get(number).map(|image| -> Result<_> {
        let (size, bytes) = image.seen();
        let alt = fill(t.opposite_alt, &[layer, &number.to_string()]);
        // The objective is the neuron's number with the other sign.
        Ok((Shown::image(&bytes, size, OTHERS, alt)?, fill(t.opposite, &[&short(-f64::from(image.value))])))
    });
    let (opposite, opposite_words) = negative.transpose()?.unzip();
    let copies = made.diverse.len() / made.atlas.images.len().max(1);
    let diverse = made.diverse.get(number * copies..(number + 1) * copies).filter(|copies| !copies.is_empty());
    Ok(Some(SyntheticView {
        diverse: diverse.map(|copies| sheet(copies, layer, number, t)).transpose()?,
        diverse_words: fill(t.diverse, &[&copies.to_string()]),
        opposite,
        opposite_words: opposite_words.unwrap_or_default(),
        picture: Shown::image_within(&bytes, size, longest(contents, 1).min(LONGEST), SYNTHETIC, alt)?,
        value: fill(t.synthetic_value, &[&short(f64::from(image.value))]),
        standing,
    }))
}

/// The copies of one neuron side by side.
fn sheet(copies: &[Synthetic], layer: &str, number: usize, t: &Texts) -> Result<Shown> {
    let tiles = copies.iter().map(|image| image.seen()).map(|(size, bytes)| reduced(&bytes, size, PATCH));
    let tiles: Vec<Raster> = tiles.collect::<Result<_>>()?;
    let tile = tiles.first().map_or([1, 1], |tile| [tile.height(), tile.width()]);
    let map = if copies.first().is_some_and(|image| image.size[0] == 3) { "image-colour" } else { "image" };
    let columns = square(tiles.len());
    let hover = Hover { map, columns, tile, ranges: text_of(&[Range { low: 0.0, high: 255.0 }]), words: String::new(), layer: None };
    let alt = fill(t.diverse_alt, &[layer, &number.to_string(), &count(copies.len() as u64)]);
    Ok(Shown { picture: Picture::new(&Raster::sheet(&tiles, columns, 1)?, SYNTHETIC)?, alt, hover, legend: None })
}

fn patches_view(contents: &Contents<'_>, found: &ChannelPatches, layer: &str, t: &Texts) -> Result<PatchesView> {
    let number = found.channel.to_string();
    let longest = longest(contents, TOP + BOTTOM).min(PATCH);
    let sheet = |patches: &[Patch], text: &str| -> Result<Option<Shown>> {
        let tiles = patches.iter().filter(|patch| !patch.pixels.is_empty()).map(|patch| reduced(&patch.pixels, patch.size, longest));
        let tiles: Vec<Raster> = tiles.collect::<Result<_>>()?;
        let Some(first) = tiles.first() else { return Ok(None) };
        let map = if contents.model.image_size()[0] == 3 { "image-colour" } else { "image" };
        let tile = tiles.iter().fold([first.height(), first.width()], |[h, w], tile| [h.max(tile.height()), w.max(tile.width())]);
        let hover =
            Hover { map, columns: COLUMNS, tile, ranges: text_of(&[Range { low: 0.0, high: 255.0 }]), words: String::new(), layer: None };
        let alt = fill(text, &[layer, &number, &count(tiles.len() as u64)]);
        Ok(Some(Shown { picture: Picture::new(&Raster::sheet(&tiles, COLUMNS, 1)?, PATCHES)?, alt, hover, legend: None }))
    };
    let values = |patches: &[Patch]| match patches {
        [] => String::new(),
        [first, .., last] => format!("{} … {}", short(f64::from(first.value)), short(f64::from(last.value))),
        [only] => short(f64::from(only.value)),
    };
    let (top, bottom) = (&found.top[..found.top.len().min(TOP)], &found.bottom[..found.bottom.len().min(BOTTOM)]);
    let mut shares: Vec<(usize, f64)> = found.label_shares.iter().copied().enumerate().filter(|(_, share)| *share > 0.0).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    let names = shares
        .into_iter()
        .take(CLASSES)
        .filter_map(|(class, share)| Some(format!("{} {}", contents.model.classes().get(class)?, rough_percent(share))));
    Ok(PatchesView {
        top: sheet(top, t.top_alt)?.ok_or_else(|| crate::error::Error::Argument(format!("the patches of '{layer}' are empty")))?,
        top_values: values(top),
        first: top.first().map(|patch| placed(contents, patch, layer, &number, longest, t)).transpose()?.flatten(),
        bottom: sheet(bottom, t.bottom_alt)?,
        bottom_values: values(bottom),
        classes: names.collect::<Vec<_>>().join(", "),
    })
}

/// A patch in its image; nothing where it is the whole image, or the images are not at hand.
fn placed(contents: &Contents<'_>, patch: &Patch, layer: &str, number: &str, longest: usize, t: &Texts) -> Result<Option<PlacedView>> {
    let Some(split) = contents.split else { return Ok(None) };
    let [_, h, w] = split.size();
    if (patch.rows.len(), patch.columns.len()) == (h, w) {
        return Ok(None);
    }
    let name = test_name(split, patch.image);
    let alt = fill(t.placed_alt, &[layer, number, &name]);
    let picture = Shown::image_within(split.image(patch.image), split.size(), longest, PLACED, alt)?;
    let [rows, columns] = [&patch.rows, &patch.columns].map(|places| places.start as i64..places.end as i64);
    let words = fill(t.placed, &[&short(f64::from(patch.value)), &name]);
    Ok(Some(PlacedView { picture, frame: frame([&rows, &columns], [h, w]), words }))
}
