//! Codes: maps of the data as scatters and as a grid of images, nearest neighbours, inversions, and how alike layers are.

use askama::Template;

use super::shown::{Hover, Legend, Shown, text_of};
use super::texts::{CodeTexts, Texts, fill};
use super::{IMAGE, short};
use crate::error::Result;
use crate::look::Contents;
use crate::look::codes::{Gathered, ImageNeighbours, Inversions, Map, Neighbour, Shown as Found, colour_among};
use crate::look::picture::{CLASS_COLOURS, ColourMap, Range, Raster};
use crate::look::similarity::Similarity;
use crate::page::colour::hex;
use crate::page::number::{count, percent, sizes};
use crate::page::picture::{Picture, reduced};
use crate::page::svg::{Scale, coordinate};

/// Side of a scatter, and the room around its points.
const SIDE: f64 = 420.0;
const MARGIN: f64 = 16.0;
/// The most classes whose names are written into a scatter.
const NAMED: usize = 20;
/// Bytes of pixels of the grid.
const GRID_BYTES: usize = 420_000;
/// How large the grid is shown, and one of a row of neighbours.
const GRID: usize = 900;
const NEIGHBOUR: usize = 84;
/// The longest side of a neighbour's picture.
const LONGEST: usize = 56;
/// Sides of all cells together in the table of similarities, and of one.
const TABLE: usize = 460;
const CELLS: [usize; 2] = [4, 18];
/// The least height of a layer's name beside the table.
const LINE: usize = 13;

/// The parts of the page about codes, each left out where nothing was looked at.
#[derive(Template)]
#[template(path = "look/codes.html", whitespace = "minimize")]
pub(super) struct Codes {
    t: &'static Texts,
    c: &'static CodeTexts,
    maps: Option<Maps>,
    inversions: Vec<InvertedView>,
    similarities: Vec<SimilarityView>,
}

/// Which parts there are: their addresses and names.
pub(super) struct Part {
    pub id: &'static str,
    pub name: &'static str,
}

struct Maps {
    about: String,
    /// Whether every image of the data is on the maps.
    all: bool,
    classes: Vec<ClassView>,
    /// What is said where colours begin again.
    repeat: Option<String>,
    scatters: Vec<Scatter>,
    grid: Shown,
    grid_about: String,
    neighbours: Vec<NearView>,
    neighbours_about: String,
}

struct ClassView {
    name: String,
    colour: String,
}

struct Scatter {
    name: &'static str,
    estimated: bool,
    note: String,
    words: String,
    dots: Vec<Dots>,
    names: Vec<Name>,
}

/// The images of one class.
struct Dots {
    class: String,
    colour: String,
    path: String,
}

/// The name of a class in the middle of its images.
struct Name {
    class: String,
    x: String,
    y: String,
}

struct NearView {
    image: String,
    picture: Shown,
    rows: Vec<NearRow>,
}

struct NearRow {
    name: &'static str,
    picture: Shown,
    width: usize,
    list: Vec<Near>,
}

struct Near {
    class: String,
    distance: String,
    /// Whether its class is that of the image.
    same: bool,
}

struct InvertedView {
    image: String,
    picture: Shown,
    layers: Vec<InvertedLayer>,
    without: Option<String>,
}

struct InvertedLayer {
    layer: String,
    linked: bool,
    picture: Shown,
    error: String,
    difference: String,
}

struct SimilarityView {
    id: &'static str,
    name: &'static str,
    about: String,
    all: bool,
    picture: Shown,
    /// Height of a line of names, the width likewise.
    cell: usize,
    rows: Vec<String>,
    columns: Vec<String>,
    note: String,
}

impl Codes {
    /// The view of what was gathered.
    ///
    /// # Errors
    /// A picture has no pixel, or too many.
    pub fn new(contents: &Contents<'_>, t: &'static Texts) -> Result<Self> {
        let (found, c): (&Gathered, _) = (&contents.codes, &t.codes);
        let layers = found.similarity.as_ref().map(|found| similarity(found, "part/similarity", c.similarity, c.similarity_about, c));
        let networks = found.comparison.as_ref().map(|found| similarity(found, "part/comparison", c.comparison, c.comparison_about, c));
        Ok(Self {
            t,
            c,
            maps: found.codes.as_ref().map(|codes| maps(contents, codes, t)).transpose()?,
            inversions: found.inversions.iter().map(|found| inverted(contents, found, t)).collect::<Result<_>>()?,
            similarities: layers.into_iter().chain(networks).collect::<Result<_>>()?,
        })
    }

    /// The parts that there are, for the list of them.
    pub fn parts(&self) -> Vec<Part> {
        let maps = self.maps.as_ref().map(|_| Part { id: "part/codes", name: self.c.codes });
        let inversions = (!self.inversions.is_empty()).then_some(Part { id: "part/inversion", name: self.c.inversion });
        let similarities = self.similarities.iter().map(|found| Part { id: found.id, name: found.name });
        maps.into_iter().chain(inversions).chain(similarities).collect()
    }
}

fn class_name(contents: &Contents<'_>, label: usize) -> String {
    contents.model.classes().get(label).cloned().unwrap_or_else(|| label.to_string())
}

fn maps(contents: &Contents<'_>, found: &Found, t: &'static Texts) -> Result<Maps> {
    let c = &t.codes;
    let classes = found.classes();
    let [images, of, features] = [found.images.len(), found.of, found.features].map(|number| count(number as u64));
    let explained: f64 = found.variance_shares.iter().take(2).sum();
    let trust = |map: &Map| {
        let value = map.trustworthiness.map_or_else(|| c.unknown.to_owned(), short);
        fill(c.trust, &[&value, &found.trusted_neighbours.to_string()])
    };
    let note = format!("{} {}", fill(c.pca_note, &[&percent(explained)]), trust(&found.pca));
    let pca = scatter(contents, found, &found.pca, [c.pca, c.pca_alt], note, false);
    let note = format!("{} {}", fill(c.tsne_note, &[&short(found.perplexity), &short(found.divergence)]), trust(&found.tsne));
    let tsne = scatter(contents, found, &found.tsne, [c.tsne, c.tsne_alt], note, true);
    Ok(Maps {
        about: fill(c.codes_about, &[&found.layer, &features, &images, &of]),
        all: found.images.len() == found.of,
        classes: if classes.len() <= CLASS_COLOURS {
            let view = |&class: &usize| ClassView { name: class_name(contents, class), colour: hex(colour_among(&classes, class)) };
            classes.iter().map(view).collect()
        } else {
            Vec::new()
        },
        repeat: (classes.len() > CLASS_COLOURS).then(|| fill(c.repeat, &[&CLASS_COLOURS.to_string(), &count(classes.len() as u64)])),
        scatters: vec![pca, tsne],
        grid_about: fill(c.grid_about, &[&count(found.grid.cells.len() as u64)]),
        grid: grid(contents, found, t)?,
        neighbours: found.neighbours.iter().map(|near| nearest(contents, found, near, t)).collect::<Result<_>>()?,
        neighbours_about: fill(c.neighbours_about, &[&found.layer]),
    })
}

fn scatter(contents: &Contents<'_>, found: &Found, map: &Map, [name, words]: [&'static str; 2], note: String, estimated: bool) -> Scatter {
    let ends = |axis: usize| {
        let all = || map.points.iter().map(|point| point[axis]);
        [all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max)]
    };
    // One scale for both axes: distances on the map mean the same in every direction.
    let middles = [0, 1].map(|axis| (ends(axis)[0] + ends(axis)[1]) / 2.0);
    let half = [0, 1].map(|axis| (ends(axis)[1] - ends(axis)[0]) / 2.0).into_iter().fold(0.0, f64::max);
    let scale = |axis: usize, places: [f64; 2]| Scale::new([middles[axis] - half, middles[axis] + half], places);
    let (across, up) = (scale(0, [MARGIN, SIDE - MARGIN]), scale(1, [SIDE - MARGIN, MARGIN]));
    let classes = found.classes();
    let of_class = |class: usize| {
        let points = found.labels.iter().zip(&map.points).filter(move |(label, _)| **label == class);
        points.map(|(_, point)| [across.place(point[0]), up.place(point[1])]).collect::<Vec<[f64; 2]>>()
    };
    let (mut dots, mut names) = (Vec::new(), Vec::new());
    for &class in &classes {
        let points = of_class(class);
        let path = points.iter().map(|[x, y]| format!("M{} {}h0", coordinate(*x), coordinate(*y))).collect();
        let [x, y] = [0, 1].map(|axis| median(points.iter().map(|point| point[axis]).collect()));
        let class_name = class_name(contents, class);
        if classes.len() <= NAMED {
            names.push(Name { class: class_name.clone(), x: coordinate(x.clamp(40.0, SIDE - 40.0)), y: coordinate(y) });
        }
        dots.push(Dots { class: class_name, colour: hex(colour_among(&classes, class)), path });
    }
    spread_names(&mut names);
    let words = fill(words, &[&found.layer, &count(found.images.len() as u64)]);
    Scatter { name, estimated, note, words, dots, names }
}

/// Moves names that would cover each other apart, downwards.
fn spread_names(names: &mut [Name]) {
    const HEIGHT: f64 = 15.0;
    const WIDTH: f64 = 74.0;
    let place = |text: &str| text.parse::<f64>().unwrap_or(0.0);
    names.sort_by(|a, b| place(&a.y).total_cmp(&place(&b.y)));
    for number in 1..names.len() {
        let x = place(&names[number].x);
        let mut y = place(&names[number].y);
        let above = names[..number].iter().filter(|other| (place(&other.x) - x).abs() < WIDTH).map(|other| place(&other.y));
        for other in above.collect::<Vec<f64>>() {
            if (y - other).abs() < HEIGHT {
                y = other + HEIGHT;
            }
        }
        names[number].y = coordinate(y.min(SIDE - 4.0));
    }
}

fn median(mut places: Vec<f64>) -> f64 {
    places.sort_by(f64::total_cmp);
    places[places.len() / 2]
}

fn grid(contents: &Contents<'_>, found: &Found, t: &'static Texts) -> Result<Shown> {
    let raster = found.grid_picture(contents.model.image_size(), GRID_BYTES)?;
    let side = found.grid.side;
    let tile = [(raster.height() + 1) / side - 1, (raster.width() + 1) / side - 1];
    let name = |place: &usize| format!("{} · {}", class_name(contents, found.labels[*place]), found.images[*place]);
    let names: Vec<String> = found.grid.cells.iter().map(name).collect();
    let alt = fill(t.codes.grid_alt, &[&count(found.grid.cells.len() as u64), &found.layer]);
    named(&raster, side, tile, &names, GRID, alt)
}

/// A sheet whose tiles tell their names under the pointer.
fn named(raster: &Raster, columns: usize, tile: [usize; 2], names: &[String], shown: usize, alt: String) -> Result<Shown> {
    let words = names.iter().map(|name| name.replace('|', "/")).collect::<Vec<_>>().join("|");
    let hover = Hover { map: "named", columns, tile, ranges: text_of(&[Range { low: 0.0, high: 255.0 }]), words, layer: None };
    Ok(Shown { picture: Picture::new(raster, shown)?, alt, hover, legend: None })
}

fn nearest(contents: &Contents<'_>, found: &Found, near: &ImageNeighbours, t: &'static Texts) -> Result<NearView> {
    let c = &t.codes;
    let image = contents.images.iter().find(|image| image.name == near.name);
    let (bytes, label) = image.map_or((&[][..], None), |image| (&image.bytes[..], image.label.as_deref()));
    let rows = [(c.by_cosine, &near.cosine), (c.by_euclidean, &near.euclidean), (c.by_pixels, &near.pixels)];
    Ok(NearView {
        image: near.name.clone(),
        picture: Shown::image(bytes, contents.model.image_size(), IMAGE, fill(t.image_alt, &[&near.name]))?,
        rows: rows
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| near_row(contents, found, &near.name, label, name, list, t))
            .collect::<Result<_>>()?,
    })
}

fn near_row(
    contents: &Contents<'_>,
    found: &Found,
    image: &str,
    label: Option<&str>,
    name: &'static str,
    list: &[Neighbour],
    t: &'static Texts,
) -> Result<NearRow> {
    let size = contents.model.image_size();
    let tiles: Vec<Raster> =
        list.iter().map(|near| reduced(found.pixels_of(near.image).unwrap_or(&[]), size, LONGEST)).collect::<Result<_>>()?;
    let raster = Raster::sheet(&tiles, tiles.len(), 1)?;
    let tile = [tiles[0].height(), tiles[0].width()];
    let times = (NEIGHBOUR / tile[0].max(tile[1])).max(1);
    let class = |near: &Neighbour| class_name(contents, near.label);
    let names: Vec<String> = list.iter().map(|near| format!("{} · {} · {}", class(near), near.image, short(near.distance))).collect();
    let alt = fill(t.codes.neighbours_alt, &[image, name, &list.iter().map(class).collect::<Vec<_>>().join(", ")]);
    let view = |near: &Neighbour| Near { class: class(near), distance: short(near.distance), same: label == Some(&class(near)) };
    Ok(NearRow {
        name,
        picture: named(&raster, list.len(), tile, &names, times * raster.width(), alt)?,
        width: times * (tile[1] + 1),
        list: list.iter().map(view).collect(),
    })
}

fn inverted(contents: &Contents<'_>, found: &Inversions, t: &'static Texts) -> Result<InvertedView> {
    let size = contents.model.image_size();
    let bytes = contents.bytes_of(&found.name);
    let view = |inversion: &crate::look::codes::Inversion| {
        let alt = fill(t.codes.inversion_alt, &[&inversion.layer, &found.name]);
        Ok(InvertedLayer {
            layer: inversion.layer.clone(),
            linked: contents.layers.contains(&inversion.layer),
            picture: Shown::image(&inversion.bytes(), size, IMAGE, alt)?,
            error: fill(t.codes.inversion_error, &[&share(inversion.error)]),
            difference: fill(t.codes.inversion_difference, &[&share(inversion.difference)]),
        })
    };
    Ok(InvertedView {
        image: found.name.clone(),
        picture: Shown::image(bytes, size, IMAGE, fill(t.image_alt, &[&found.name]))?,
        layers: found.layers.iter().map(view).collect::<Result<_>>()?,
        without: (!found.without.is_empty()).then(|| fill(t.codes.inversion_without, &[&found.without.join(", ")])),
    })
}

/// Per cent with three digits that count.
fn share(share: f64) -> String {
    format!("{}{}%", short(100.0 * share), crate::page::number::GAP)
}

fn similarity(found: &Similarity, id: &'static str, name: &'static str, about: &str, c: &'static CodeTexts) -> Result<SimilarityView> {
    let [rows, columns] = [&found.rows, &found.columns];
    let cell = (TABLE / rows.len().max(columns.len())).clamp(CELLS[0], CELLS[1]);
    let raster = found.picture()?;
    let picture = Picture { width: cell * columns.len(), height: cell * rows.len(), ..Picture::new(&raster, 1)? };
    let hover = Hover {
        map: ColourMap::Sequential.name(),
        columns: 1,
        tile: [rows.len(), columns.len()],
        ranges: text_of(&[Similarity::RANGE]),
        words: format!("{}\n{}", rows.join("|"), columns.join("|")),
        layer: None,
    };
    let [images, of] = [found.images, found.of].map(|number| count(number as u64));
    let alt = fill(c.similarity_alt, &[&sizes(&[rows.len(), columns.len()])]);
    let more = found.plain.iter().zip(&found.debiased).filter_map(|(plain, debiased)| Some((*plain)? - (*debiased)?)).fold(0.0, f64::max);
    let every = LINE.div_ceil(cell);
    let thinned = |names: &[String]| {
        let shown = |(place, name): (usize, &String)| if place.is_multiple_of(every) { name.clone() } else { String::new() };
        names.iter().enumerate().map(shown).collect()
    };
    Ok(SimilarityView {
        id,
        name,
        about: about.to_owned(),
        all: found.images == found.of,
        picture: Shown { picture, alt, hover, legend: Some(Legend::new(Similarity::RANGE, ColourMap::Sequential)) },
        cell,
        rows: thinned(rows),
        columns: thinned(columns),
        note: fill(c.similarity_note, &[&images, &of, &short(more)]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_one_place_are_moved_apart_and_others_stay() {
        let name = |x: &str, y: &str| Name { class: String::new(), x: x.into(), y: y.into() };
        let mut names = [name("100", "50"), name("110", "52"), name("300", "51"), name("105", "60")];
        spread_names(&mut names);
        let places: Vec<(&str, &str)> = names.iter().map(|name| (name.x.as_str(), name.y.as_str())).collect();
        assert_eq!(places, [("100", "50"), ("300", "51"), ("110", "65"), ("105", "80")]);
    }
}
