//! All that is looked at of codes, for a model, a data set and images: maps, a grid, neighbours, inversions, similarities.

use std::path::{Path, PathBuf};

use convnet_kernels::Machine;
use serde::Serialize;

use super::{
    Codes, Inversion, InversionRecipe, Metric, Neighbour, Tsne, code, codes, grid, invert, neighbours, pca, trustworthiness, tsne,
};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::look::contents::NamedImage;
use crate::look::maximise::Colours;
use crate::look::picture::{CLASS_COLOURS, ColourMap, Range, Raster, class_colour, strip, with_legend};
use crate::look::similarity::{Similarity, comparable, comparison, similarity};
use crate::model::Model;

/// Images on a side of the grid at most, and the longest side of one of them.
const GRID: usize = 20;
const TILE: usize = 32;
/// Neighbours that are shown of an image.
const NEIGHBOURS: usize = 6;
/// Neighbours that trustworthiness is taken over.
const TRUSTED: usize = 10;
/// Components whose shares are told.
const COMPONENTS: usize = 10;
/// Images that networks are compared over where nothing is said.
const COMPARED: usize = 256;
/// Width of the frame in the colour of the class.
const FRAME: usize = 2;
/// The least width of a picture file in pixels.
const WIDTH: usize = 960;
/// Pixels of a cell of the table of similarities in its file.
const CELL: usize = 16;

/// What of codes is looked at; nothing unless said.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// The layer whose codes are mapped.
    pub layer: Option<String>,
    /// The layers whose codes of each image are turned back into images.
    pub invert: Vec<String>,
    /// How they are.
    pub inversion: InversionRecipe,
    /// Images that the layers' similarities are taken over; none if 0.
    pub similarity: usize,
    /// Another model, whose layers are compared with those of this one.
    pub compare: Option<&'a Model>,
}

/// What was seen of codes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Gathered {
    /// The codes of the data.
    pub codes: Option<Shown>,
    /// For each image, what its codes were turned back into.
    pub inversions: Vec<Inversions>,
    /// How alike the layers are.
    pub similarity: Option<Similarity>,
    /// How alike they are to those of another network.
    pub comparison: Option<Similarity>,
}

/// The codes of a data set at one layer.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The layer.
    pub layer: String,
    /// Numbers of a code.
    pub features: usize,
    /// Numbers of the images in the split.
    pub images: Vec<usize>,
    /// Their classes.
    pub labels: Vec<usize>,
    /// Images of the split.
    pub of: usize,
    /// Shares of the variance along the first principal components.
    pub variance_shares: Vec<f64>,
    /// The first two principal components.
    pub pca: Map,
    /// t-SNE.
    pub tsne: Map,
    /// KL at the end of t-SNE.
    pub divergence: f64,
    /// Its perplexity.
    pub perplexity: f64,
    /// Neighbours that the trustworthiness of both maps is taken over.
    pub trusted_neighbours: usize,
    /// The map by t-SNE without overlaps.
    pub grid: Grid,
    /// The nearest images of each image that is looked at.
    pub neighbours: Vec<ImageNeighbours>,
    /// Bytes of the images on the grid, C×H×W, cell by cell, and of all neighbours.
    #[serde(skip)]
    pub pixels: Vec<(usize, Vec<u8>)>,
}

/// A map of all codes.
#[derive(Clone, Debug, Serialize)]
pub struct Map {
    /// The place of each image.
    pub points: Vec<[f64; 2]>,
    /// Its trustworthiness; nothing where there are too few images.
    pub trustworthiness: Option<f64>,
}

/// Images in the cells of a grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// Cells of a row, and of a column.
    pub side: usize,
    /// The image in each cell, row by row, as its place in the list of images.
    pub cells: Vec<usize>,
}

/// The images of the data nearest to one that is looked at; itself is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageNeighbours {
    /// Its name.
    pub name: String,
    /// By the angle between codes.
    pub cosine: Vec<Neighbour>,
    /// By the distance of codes.
    pub euclidean: Vec<Neighbour>,
    /// By the distance of pixels, 0 … 1.
    pub pixels: Vec<Neighbour>,
}

/// What the codes of one image were turned back into.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inversions {
    /// The image's name.
    pub name: String,
    /// For each layer the image that was found.
    pub layers: Vec<Inversion>,
    /// Layers at which its code is 0 or not finite, so that there is nothing to look for.
    pub without: Vec<String>,
}

/// What everything is gathered from.
pub(in crate::look) struct Sources<'a> {
    pub model: &'a Model,
    pub images: &'a [NamedImage],
    pub split: Option<&'a Split>,
    /// Images of the split that codes are taken of.
    pub samples: usize,
    /// The layers that are looked at.
    pub layers: &'a [String],
    pub colours: Option<&'a Colours>,
    pub seed: u64,
    pub machine: &'a Machine,
}

impl Gathered {
    /// Looks at all that is asked for and possible. `progress` is told what is done next.
    ///
    /// # Errors
    /// A layer or an image does not belong to the model, the other model takes other images, or memory cannot be had.
    pub(in crate::look) fn gather(asked: &Asked<'_>, from: &Sources<'_>, mut progress: impl FnMut(&str)) -> Result<Self> {
        let mut found = Self { inversions: inversions(asked, from, &mut progress)?, ..Self::default() };
        let Some(split) = from.split else { return Ok(found) };
        if let Some(layer) = &asked.layer {
            progress(&format!("codes at {layer}"));
            found.codes = shown(layer, split, from)?;
        }
        let layers: Vec<String> = comparable(from.model.network()).into_iter().filter(|layer| from.layers.contains(layer)).collect();
        if asked.similarity > 0 && layers.len() > 1 && split.len() > 3 {
            progress("similarity of the layers");
            found.similarity = Some(similarity(from.model, &layers, split, asked.similarity, from.machine)?);
        }
        if let Some(other) = asked.compare {
            progress("similarity to the other network");
            if other.image_size() != from.model.image_size() {
                return Err(Error::Argument(format!(
                    "the other model takes images of {:?}, this one of {:?}, channels x height x width; only networks that see the same images can be compared",
                    other.image_size(),
                    from.model.image_size()
                )));
            }
            let columns = comparable(other.network());
            let samples = if asked.similarity > 0 { asked.similarity } else { COMPARED };
            found.comparison = Some(comparison([from.model, other], [&layers, &columns], split, samples, from.machine)?);
        }
        Ok(found)
    }

    /// The pictures as files.
    ///
    /// # Errors
    /// A picture would have too many pixels.
    pub(in crate::look) fn files(&self, images: &[(String, &[u8])], size: [usize; 3]) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut files = Vec::new();
        if let Some(shown) = &self.codes {
            let picture = shown.grid_picture(size, usize::MAX)?;
            let times = (WIDTH / picture.width()).max(1);
            files.push((PathBuf::from("codes/grid.png"), picture.enlarged(times)?.png()?));
        }
        for (found, (folder, bytes)) in self.inversions.iter().zip(images) {
            let sheet = strip(bytes, found.layers.iter().map(Inversion::bytes), size)?;
            let times = (WIDTH / sheet.width()).max(1);
            files.push((Path::new("inversion").join(format!("{folder}.png")), sheet.enlarged(times)?.png()?));
        }
        for (name, found) in [("layers", &self.similarity), ("networks", &self.comparison)] {
            if let Some(found) = found {
                let (picture, range) = (found.picture()?.enlarged(CELL)?, Similarity::RANGE);
                let picture = with_legend(&picture, range, ColourMap::Sequential)?;
                files.push((Path::new("similarity").join(format!("{name}.png")), picture.png()?));
            }
        }
        Ok(files)
    }
}

impl Similarity {
    /// The numbers that the two ends of the colours stand for.
    pub(in crate::look) const RANGE: Range = Range { low: 0.0, high: 1.0 };

    /// The debiased estimate as a picture of a pixel for each pair.
    ///
    /// # Errors
    /// There is no layer.
    pub(in crate::look) fn picture(&self) -> Result<Raster> {
        let numbers: Vec<f32> = self.debiased.iter().map(|value| value.map_or(f32::NAN, |value| value as f32)).collect();
        Raster::plane(&numbers, [self.rows.len(), self.columns.len()], Self::RANGE, ColourMap::Sequential)
    }
}

fn inversions(asked: &Asked<'_>, from: &Sources<'_>, progress: &mut impl FnMut(&str)) -> Result<Vec<Inversions>> {
    if asked.invert.is_empty() || from.images.is_empty() {
        return Ok(Vec::new());
    }
    let images: Vec<&[u8]> = from.images.iter().map(|image| image.bytes.as_slice()).collect();
    let mut found: Vec<Inversions> =
        from.images.iter().map(|image| Inversions { name: image.name.clone(), layers: Vec::new(), without: Vec::new() }).collect();
    for layer in &asked.invert {
        progress(&format!("inversion of {layer}"));
        let inverted = invert(from.model, &images, layer, &asked.inversion, from.colours, from.seed, from.machine)?;
        for (found, inversion) in found.iter_mut().zip(inverted) {
            match inversion {
                Some(inversion) => found.layers.push(inversion),
                None => found.without.push(layer.clone()),
            }
        }
    }
    Ok(found)
}

/// The codes at a layer; nothing where there are too few images for a map, or numbers overflow.
fn shown(layer: &str, split: &Split, from: &Sources<'_>) -> Result<Option<Shown>> {
    let machine = from.machine;
    let found = codes(from.model, split, layer, from.samples, machine)?;
    if found.images.len() < 4 || found.check_finite().is_err() {
        return Ok(None);
    }
    let components = pca(&found, COMPONENTS, machine)?;
    let count = components.shares.len();
    let coordinate = |row: usize, axis: usize| if axis < count { components.coordinates[row * count + axis] } else { 0.0 };
    let flat: Vec<[f64; 2]> = (0..found.images.len()).map(|row| [coordinate(row, 0), coordinate(row, 1)]).collect();
    let map = tsne(&found, &Tsne::default(), machine)?;
    let trusted = TRUSTED.min((found.images.len() - 1) / 2);
    let with_trust = |points: Vec<[f64; 2]>| {
        Ok::<Map, Error>(Map { trustworthiness: Some(trustworthiness(&found, &points, trusted, machine)?), points })
    };
    let grid = on_grid(&map.points)?;
    let near = near(&found, split, from)?;
    let of_grid = grid.cells.iter().map(|place| found.images[*place]);
    let of_near = near.iter().flat_map(|near| near.cosine.iter().chain(&near.euclidean).chain(&near.pixels)).map(|near| near.image);
    let mut numbers: Vec<usize> = of_grid.chain(of_near).collect();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Some(Shown {
        layer: layer.to_owned(),
        features: found.features(),
        variance_shares: components.shares.clone(),
        pca: with_trust(flat)?,
        tsne: with_trust(map.points)?,
        divergence: map.divergence,
        perplexity: map.perplexity,
        trusted_neighbours: trusted,
        grid,
        neighbours: near,
        pixels: numbers.into_iter().map(|number| (number, split.image(number).to_vec())).collect(),
        images: found.images,
        labels: found.labels,
        of: found.of,
    }))
}

/// The largest square grid that is full, of images evenly spread over all.
fn on_grid(points: &[[f64; 2]]) -> Result<Grid> {
    let side = points.len().isqrt().min(GRID);
    let places: Vec<usize> = (0..side * side).map(|number| number * points.len() / (side * side)).collect();
    let chosen: Vec<[f64; 2]> = places.iter().map(|place| points[*place]).collect();
    let mut cells = vec![0; places.len()];
    for (place, cell) in places.iter().zip(grid(&chosen, side, side)?) {
        cells[cell] = *place;
    }
    Ok(Grid { side, cells })
}

fn near(found: &Codes, split: &Split, from: &Sources<'_>) -> Result<Vec<ImageNeighbours>> {
    let pixels = Codes::pixels(split, from.samples)?;
    let of = |image: &NamedImage| {
        let own = found.images.iter().copied().find(|number| split.image(*number) == image.bytes);
        let code = code(from.model, &image.bytes, &found.layer, from.machine)?;
        let bytes: Vec<f32> = image.bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect();
        Ok(ImageNeighbours {
            name: image.name.clone(),
            cosine: neighbours(found, &code, Metric::Cosine, NEIGHBOURS, own)?,
            euclidean: neighbours(found, &code, Metric::Euclidean, NEIGHBOURS, own)?,
            pixels: neighbours(&pixels, &bytes, Metric::Euclidean, NEIGHBOURS, own)?,
        })
    };
    from.images.iter().map(of).collect()
}

impl Shown {
    /// The classes that the images are of, in order.
    pub(in crate::look) fn classes(&self) -> Vec<usize> {
        let mut classes = self.labels.clone();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    /// The pixels of an image of the split that is shown.
    pub(in crate::look) fn pixels_of(&self, image: usize) -> Option<&[u8]> {
        let place = self.pixels.binary_search_by_key(&image, |(number, _)| *number).ok()?;
        Some(&self.pixels[place].1)
    }

    /// The grid as a picture, each image in a frame of its class's colour, reduced to at most `bytes` bytes of pixels.
    pub(in crate::look) fn grid_picture(&self, size: [usize; 3], bytes: usize) -> Result<Raster> {
        let channels = if size[0] == 3 { 3 } else { 1 };
        let longest = (bytes / self.grid.cells.len() / channels).isqrt().clamp(8, TILE);
        let classes = self.classes();
        let tile = |place: &usize| {
            let image = self.pixels_of(self.images[*place]).unwrap_or(&[]);
            framed(&crate::page::picture::reduced(image, size, longest)?, colour_among(&classes, self.labels[*place]))
        };
        Raster::sheet(&self.grid.cells.iter().map(tile).collect::<Result<Vec<_>>>()?, self.grid.side, 1)
    }
}

/// The colour of one of these classes, which are in order: its own where the model knows few, else by its place among them.
pub(in crate::look) fn colour_among(classes: &[usize], class: usize) -> [u8; 3] {
    let few = classes.last().is_none_or(|last| *last < CLASS_COLOURS);
    class_colour(if few { class } else { classes.binary_search(&class).unwrap_or(class) })
}

/// A picture in a frame.
fn framed(picture: &Raster, [red, green, blue]: [u8; 3]) -> Result<Raster> {
    let sides = [picture.width(), picture.height()].map(|side| side + 2 * FRAME);
    let mut frame = Raster::new(sides[0], sides[1], [red, green, blue, 255])?;
    frame.place(picture, [FRAME, FRAME]);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_full_and_has_no_image_twice() {
        let points: Vec<[f64; 2]> = (0..39).map(|number| [f64::from(number * 7 % 13), f64::from(number * 5 % 11)]).collect();
        let grid = on_grid(&points).unwrap();
        assert_eq!((grid.side, grid.cells.len()), (6, 36));
        let mut once = grid.cells.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), 36);
        assert_eq!(on_grid(&vec![[0.0; 2]; 1000]).unwrap().side, GRID);
    }

    #[test]
    fn frames_have_the_colour_of_the_class_around_all_pixels() {
        let picture = Raster::new(3, 2, [9, 9, 9, 255]).unwrap();
        let found = framed(&picture, [1, 2, 3]).unwrap();
        assert_eq!((found.width(), found.height()), (7, 6));
        assert_eq!(found.bytes().chunks_exact(4).filter(|pixel| pixel[0] == 9).count(), 6);
        assert_eq!(&found.bytes()[..4], &[1, 2, 3, 255]);
    }
}
