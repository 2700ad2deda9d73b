//! Attribution: for each image the maps of every method, each beside the tests of whether it is to be believed.

use super::layers::means;
use super::short;
use super::shown::Shown;
use super::texts::{MethodTexts, Texts, fill};
use crate::error::Result;
use crate::look::attribution::{Evidence, Method, Plane};
use crate::look::sanity::Randomisation;
use crate::look::{AttributionContents, Contents, ImageContents};
use crate::page::svg::{Scale, points};

/// How large a map is shown.
const SHOWN: usize = 140;
/// The longest side that a map keeps.
const LONGEST: usize = 120;
/// Sides of the curve of the randomisation test.
const CURVE: [f64; 2] = [140.0, 44.0];

/// The maps of one image.
pub(super) struct Attributions<'a> {
    pub image: &'a str,
    /// Whose score was explained.
    pub about: String,
    pub picture: Shown,
    pub methods: Vec<MethodView>,
}

/// The map of one method.
pub(super) struct MethodView {
    pub name: &'static str,
    pub meaning: &'static str,
    /// `exact`, `estimated` or `sampled`.
    pub mark: &'static str,
    pub picture: Option<Shown>,
    /// What is said in place of a picture.
    pub no_picture: Option<&'static str>,
    /// What is known of the method, and what was found on this image.
    pub warnings: Vec<String>,
    pub randomisation: Option<RandomisationView>,
    pub figures: Vec<String>,
}

/// The randomisation test as a curve: left the true network, right all layers random.
pub(super) struct RandomisationView {
    pub points: String,
    /// Heights of the lines at 1 and 0.
    pub lines: [String; 2],
    pub width: String,
    pub height: String,
    pub words: String,
    pub last: String,
}

/// The images that something was explained of.
pub(super) fn views<'a>(contents: &'a Contents<'_>, t: &'static Texts) -> Result<Vec<Attributions<'a>>> {
    let explained = contents.images.iter().filter(|image| !image.attributions.is_empty());
    explained.map(|image| view(contents, image, t)).collect()
}

fn view<'a>(contents: &Contents<'_>, image: &'a ImageContents, t: &'static Texts) -> Result<Attributions<'a>> {
    let class = image.prediction.first().map_or("", |(class, _)| class.as_str());
    let alt = fill(t.image_alt, &[&image.name]);
    Ok(Attributions {
        image: &image.name,
        about: fill(t.attribution_of, &[class]),
        picture: Shown::image(&image.bytes, contents.model.image_size(), SHOWN, alt)?,
        methods: image.attributions.iter().map(|found| method(contents, image, found, t)).collect::<Result<_>>()?,
    })
}

fn method(contents: &Contents<'_>, image: &ImageContents, found: &AttributionContents, t: &'static Texts) -> Result<MethodView> {
    let map = &found.attribution;
    let texts: &MethodTexts = t.method(map.method);
    let [_, h, w] = contents.model.image_size();
    let no_picture = match map.evidence {
        Evidence::Positive => None,
        Evidence::NonePositive if map.method.plane() == Plane::Sum => None,
        Evidence::NonePositive => Some(t.no_positive),
        Evidence::None => Some(t.no_evidence),
    };
    let picture = match no_picture {
        Some(_) => None,
        None => {
            let factor = h.max(w).div_ceil(LONGEST).max(1);
            let plane = means(map.over_image([h, w]).values(), [h, w], factor);
            let scale = map.method.plane().scale(&plane);
            let alt = fill(t.attribution_alt, &[texts.name, &image.name]);
            Some(Shown::plane(&plane, [h.div_ceil(factor), w.div_ceil(factor)], scale, SHOWN, alt)?)
        }
    };
    let mut figures = Vec::new();
    if let Some(layer) = &map.layer {
        figures.push(fill(t.attribution_layer, &[layer]));
    }
    if let Some(completeness) = &map.completeness {
        figures.push(fill(t.completeness, &[&short(completeness.sum), &short(completeness.difference), &short(completeness.error())]));
    }
    if let Some(curves) = &found.deletion {
        let areas = [&curves.deletion, &curves.random_deletion, &curves.insertion, &curves.random_insertion].map(|curve| short(curve.area));
        figures.push(fill(t.deletion, &[&areas[0], &areas[1]]));
        figures.push(fill(t.insertion, &[&areas[2], &areas[3]]));
    }
    let stays_alike = found.randomisation.as_ref().filter(|found| found.stays_alike());
    let alike = stays_alike.and_then(Randomisation::at_last).map(|last| fill(t.stays_alike, &[&short(last)]));
    Ok(MethodView {
        name: texts.name,
        meaning: texts.meaning,
        mark: match map.method {
            Method::IntegratedGradients => "estimated",
            Method::SmoothGrad => "sampled",
            _ => "exact",
        },
        picture,
        no_picture,
        warnings: texts.warning.map(str::to_owned).into_iter().chain(alike).collect(),
        randomisation: found.randomisation.as_ref().map(|found| randomisation(found, texts.name, t)),
        figures,
    })
}

fn randomisation(found: &Randomisation, method: &str, t: &Texts) -> RandomisationView {
    let [width, height] = CURVE;
    let across = Scale::new([0.0, found.stages.len().max(1) as f64], [2.0, width - 2.0]);
    let up = Scale::new([-1.0, 1.0], [height - 2.0, 2.0]);
    let stages = found.stages.iter().filter_map(|stage| Some((across.place(stage.depth as f64), up.place(stage.correlation?))));
    let last = found.at_last().map_or(t.no_order.to_owned(), short);
    RandomisationView {
        points: points(std::iter::once((across.place(0.0), up.place(1.0))).chain(stages)),
        lines: [up.place(1.0), up.place(0.0)].map(|place| format!("{place:.1}")),
        width: width.to_string(),
        height: height.to_string(),
        words: fill(t.randomisation_alt, &[method, &found.stages.len().to_string(), &last]),
        last: fill(t.randomisation_last, &[&last]),
    }
}
