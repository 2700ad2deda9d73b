//! The report of a look inside: one HTML page that asks nothing of any other file or machine.
//!
//! A page part for each layer (`#conv3`), a link for each neuron (`#conv3/17`). Parts that were not looked at are left out.
//! Every picture has a legend and tells its numbers under the pointer; every figure says whether it is exact, estimated or
//! sampled. The only script reads numbers out of pictures; the content security policy forbids the browser every request.

use std::fmt;
use std::str::FromStr;

use askama::Template;
use serde::Serialize;

use super::contents::{Contents, ImageContents};
use super::maximise::{Parametrisation, PerChannel, PixelRules};
use super::picture::ColourMap;
use crate::error::{Error, Result};
use crate::layer::Role;
use crate::page::colour::{self, Swatch};
use crate::page::number::{GAP, count, figure, percent, sizes};

mod arithmetic;
mod attribution;
mod codes;
mod dreams;
mod fields;
mod filmstrip;
mod layers;
mod mistakes;
mod neurons;
mod shown;
mod statistics;
#[cfg(test)]
mod tests;
mod texts;

use arithmetic::Arithmetic;
use attribution::Attributions;
use codes::{Codes, Part};
use dreams::DreamsView;
use fields::Fields;
use filmstrip::FilmstripView;
use layers::LayerView;
use mistakes::MistakesView;
use shown::Shown;
use statistics::StatisticsView;
use texts::Texts;
pub(in crate::look) use texts::fill;

/// How large an image is shown.
const IMAGE: usize = 112;
/// The longest side of an image in the page.
const LONGEST: usize = 224;

/// The language of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English, `en`.
    #[default]
    En,
    /// Korean, `ko`.
    Ko,
}

impl Language {
    /// All languages.
    pub const ALL: [Self; 2] = [Self::En, Self::Ko];

    fn texts(self) -> &'static Texts {
        match self {
            Self::En => &texts::ENGLISH,
            Self::Ko => &texts::KOREAN,
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.texts().code)
    }
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|language| language.texts().code == text);
        found.ok_or_else(|| Error::Argument(format!("'{text}' is no language of the report; there are en and ko")))
    }
}

/// Writes the page.
///
/// # Errors
/// The parts do not fit together: a layer that the model does not have, an image of another size.
pub fn render(contents: &Contents<'_>, title: &str, commands: &[String], language: Language) -> Result<String> {
    let page = Page::new(contents, title, commands, language)?;
    page.render().map_err(|error| Error::Unsupported(format!("the report could not be written: {error}")))
}

#[derive(Template)]
#[template(path = "look/page.html", whitespace = "minimize")]
struct Page<'a> {
    t: &'static Texts,
    title: &'a str,
    lead: String,
    /// How numbers are read, with the address of a neuron as an example.
    pointer: String,
    headlines: Vec<Headline>,
    maps: Vec<MapColours>,
    images: Vec<ImageView<'a>>,
    attributions: Vec<Attributions<'a>>,
    arithmetic: Option<Arithmetic>,
    fields: Option<Fields>,
    statistics: Option<StatisticsView<'a>>,
    mistakes: Option<MistakesView<'a>>,
    on_light: Vec<Swatch>,
    on_dark: Vec<Swatch>,
    codes: Codes,
    codes_parts: Vec<Part>,
    dreams: Vec<DreamsView>,
    layers: Vec<LayerView<'a>>,
    filmstrip: Option<FilmstripView>,
    /// What the pictures of neurons are.
    neurons_about: Vec<String>,
    commands: &'a [String],
}

/// A figure at the top of the page.
struct Headline {
    name: &'static str,
    value: String,
    note: String,
}

/// A colour map for the page's style and script.
struct MapColours {
    name: &'static str,
    /// Six hexadecimal digits for each step.
    palette: String,
    /// Colours of a gradient.
    stops: String,
}

/// An image with what the model takes it for.
struct ImageView<'a> {
    name: &'a str,
    label: Option<&'a str>,
    picture: Shown,
    classes: Vec<ClassView<'a>>,
}

struct ClassView<'a> {
    name: &'a str,
    percent: String,
    width: String,
    right: bool,
}

impl<'a> Page<'a> {
    fn new(contents: &'a Contents<'a>, title: &'a str, commands: &'a [String], language: Language) -> Result<Self> {
        let t = language.texts();
        let layers = layers::views(contents, t)?;
        let codes = Codes::new(contents, t)?;
        let neuron = layers.iter().find(|layer| !layer.neurons.is_empty()).map_or("conv1", |layer| layer.name);
        Ok(Self {
            t,
            title,
            lead: lead(contents, t),
            pointer: fill(t.how_pointer, &[&format!("{neuron}/0")]),
            headlines: headlines(contents, t),
            maps: ColourMap::ALL.map(colours).into(),
            images: contents.images.iter().map(|image| image_view(contents, image, t)).collect::<Result<_>>()?,
            attributions: attribution::views(contents, t)?,
            arithmetic: arithmetic::view(contents, title, language)?,
            fields: fields::view(contents, t)?,
            statistics: contents.statistics.as_ref().map(|found| statistics::view(found, &contents.layers, t)),
            mistakes: mistakes::view(contents, t)?,
            on_light: colour::on_light(),
            on_dark: colour::on_dark(),
            codes_parts: codes.parts(),
            codes,
            dreams: dreams::views(contents, t)?,
            layers,
            filmstrip: filmstrip::view(contents, t)?,
            neurons_about: neurons_about(contents, t),
            commands,
        })
    }
}

fn neurons_about(contents: &Contents<'_>, t: &Texts) -> Vec<String> {
    let made = |there: bool, text: &str| there.then(|| text.to_owned());
    let synthetic = (!contents.synthetic.is_empty()).then(|| synthetic_about(contents, t));
    let negative = made(contents.synthetic.iter().any(|layer| !layer.negative.is_empty()), t.negative_about);
    let diverse = made(contents.synthetic.iter().any(|layer| !layer.diverse.is_empty()), t.diverse_about);
    let patches = contents.patches.first().map(|layer| fill(t.patches_about, &[&count(layer.images as u64)]));
    [synthetic, negative, diverse, patches].into_iter().flatten().collect()
}

/// How the synthetic images were made, and for what.
fn synthetic_about(contents: &Contents<'_>, t: &Texts) -> String {
    let each = match contents.each {
        PerChannel::Neuron(None) => t.for_middle.to_owned(),
        PerChannel::Neuron(Some([y, x])) => fill(t.for_place, &[&y.to_string(), &x.to_string()]),
        PerChannel::Mean => t.for_mean.to_owned(),
    };
    let way = match contents.recipe.as_ref().map(|recipe| recipe.parametrisation) {
        Some(Parametrisation::Pixels(rules)) if rules == PixelRules::NONE => t.by_plain_pixels,
        Some(Parametrisation::Pixels(_)) => t.by_pixels,
        _ => t.by_waves,
    };
    fill(t.synthetic_about, &[&each, way])
}

fn lead(contents: &Contents<'_>, t: &Texts) -> String {
    let network = contents.model.network();
    let input = sizes(&network.input_shape().chw());
    fill(t.lead, &[&count(network.nodes().len() as u64), &input, &count(contents.model.classes().len() as u64)])
}

fn headlines(contents: &Contents<'_>, t: &'static Texts) -> Vec<Headline> {
    let trained = contents.model.parameters().list().iter().filter(|parameter| parameter.role != Role::Buffer);
    let parameters: u64 = trained.map(|parameter| parameter.tensor.len() as u64).sum();
    let mut list = vec![Headline { name: t.parameters, value: count(parameters), note: t.parameters_note.to_owned() }];
    if !contents.filters.is_empty() {
        let all = || contents.filters.iter().flat_map(|layer| &layer.filters);
        let flagged = all().filter(|filter| filter.dead || filter.like.is_some()).count();
        list.push(Headline { name: t.filters, value: count(all().count() as u64), note: fill(t.filters_note, &[&count(flagged as u64)]) });
    }
    if let Some(found) = &contents.statistics {
        let dead: usize = found.layers.iter().map(|layer| layer.dead).sum();
        let note = fill(t.dead_note, &[&count(found.images as u64), &count(found.of as u64)]);
        list.push(Headline { name: t.dead_channels, value: count(dead as u64), note });
    }
    if let Some(first) = contents.images.first() {
        let zeros = first.maps.iter().map(|maps| maps.zeros).fold(0.0, f64::max);
        list.push(Headline { name: t.sparsity, value: percent(zeros), note: fill(t.sparsity_note, &[&first.name]) });
    }
    list
}

fn colours(map: ColourMap) -> MapColours {
    const STOPS: usize = 14;
    let palette = map.palette();
    let stop = |stop: usize| colour::hex(palette[stop * (palette.len() - 1) / STOPS]);
    MapColours {
        name: map.name(),
        palette: palette.iter().map(|&step| colour::hex(step).trim_start_matches('#').to_owned()).collect(),
        stops: (0..=STOPS).map(stop).collect::<Vec<_>>().join(","),
    }
}

fn image_view<'a>(contents: &Contents<'_>, image: &'a ImageContents, t: &Texts) -> Result<ImageView<'a>> {
    let label = image.label.as_deref();
    let classes = image.prediction.iter().map(|(class, probability)| ClassView {
        name: class,
        percent: percent(f64::from(*probability)),
        width: format!("{:.1}", 100.0 * f64::from(probability.clamp(0.0, 1.0))),
        right: label == Some(class),
    });
    let alt = fill(t.image_alt, &[&image.name]);
    let picture = Shown::image(&image.bytes, contents.model.image_size(), IMAGE, alt)?;
    Ok(ImageView { name: &image.name, label, picture, classes: classes.collect() })
}

/// A number with three digits that count.
fn short(number: f64) -> String {
    figure(number)
}

/// Per cent without a decimal, for narrow places.
fn rough_percent(share: f64) -> String {
    if share > 0.0 && share < 0.005 { percent(share) } else { format!("{:.0}{GAP}%", 100.0 * share) }
}
