//! What was seen as files: `look.html`, `look.json` with the numbers, and pictures that can be read alone.
//!
//! | file | holds |
//! |---|---|
//! | `look.html` | the [report](super::report) |
//! | `look.json` | every number, and the list of all files written |
//! | `filters/LAYER.png` | the filters of a convolution |
//! | `maps/N-IMAGE/LAYER.png` | the activation maps of a layer for an image |
//! | `attribution/N-IMAGE/METHOD.png` | where the score of the image's first class comes from |
//! | `synthetic/LAYER.png` | synthetic images, one for each neuron |
//! | `synthetic/LAYER-negative.png`, `-diverse.png` | what makes them small; several for each, unlike each other |
//! | `dream/N-IMAGE.png` | an image, and what it was changed into for some layers |
//! | `codes/grid.png` | images of the data in the order of their codes, framed in the colours of their classes |
//! | `inversion/N-IMAGE.png` | an image, and what its codes at some layers were turned back into |
//! | `similarity/layers.png`, `networks.png` | CKA of the layers, and with those of another network |
//! | `patches/LAYER.png` | a row for each neuron: the patches of the data that it answers to most |
//! | `patches/LAYER-in-images.png` | the same in their images, with the neuron's number |
//!
//! Files that an earlier look has written, by its list, are replaced; any other file in their place is an error before
//! anything is written.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::attribution::Attribution;
use super::contents::{Contents, ImageContents};
use super::filters::square;
use super::maximise::Synthetic;
use super::picture::{ColourMap, Range, Raster, placed, strip, with_legend};
use super::report::{Language, render};
use super::{LayerFilters, LayerPatches, Patch};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::file::{read_whole, write_whole};
use crate::page::picture::reduced;

/// The name of the report in its folder.
pub const REPORT: &str = "look.html";
/// The name of the numbers in their folder.
pub const NUMBERS: &str = "look.json";
/// The longest side of a patch, a larger one being reduced.
const PATCH: usize = 112;
/// Stands in the numbers for who wrote them.
const PROGRAM: &str = "convnet look";
/// The largest list of files that is read.
const LIMIT: u64 = 256 << 20;
/// The most tiles along a side of a picture file.
const MOST: usize = 256;
/// The least width of a picture file in pixels; smaller ones are enlarged.
const WIDTH: usize = 480;
/// The most neurons of a layer in a picture of patches.
const NEURONS: usize = 64;
/// Clear pixels between patches in their images, which have numbers below.
const PLACED_GAP: usize = 6;
/// Letters that are kept of an image's name.
const LETTERS: usize = 40;

/// What `look.json` holds.
#[derive(Serialize)]
struct Numbers<'a> {
    program: &'static str,
    title: &'a str,
    network: String,
    files: &'a [PathBuf],
    #[serde(flatten)]
    contents: &'a Contents<'a>,
}

/// What is read of an earlier `look.json`.
#[derive(Deserialize)]
struct Earlier {
    program: String,
    files: BTreeSet<PathBuf>,
}

/// Writes everything into a folder, which is made if there is none, and gives the files relative to it.
///
/// # Errors
/// A file of another origin stands in the place of one that would be written; the folder cannot be written to.
pub fn write(contents: &Contents<'_>, folder: &Path, title: &str, commands: &[String], language: Language) -> Result<Vec<PathBuf>> {
    let mut files = vec![(PathBuf::from(REPORT), render(contents, title, commands, language)?.into_bytes())];
    let sheet = |filters: &LayerFilters| {
        let picture = with_legend(&large(&filters.sheet(MOST)?)?, filters.range(), filters.colour_map())?;
        Ok((Path::new("filters").join(format!("{}.png", filters.layer)), picture.png()?))
    };
    files.extend(contents.filters.par_iter().map(sheet).collect::<Result<Vec<_>>>()?);
    for (number, image) in contents.images.iter().enumerate() {
        let name = folder_name(number, &image.name);
        files.extend(maps_of(image, &Path::new("maps").join(&name))?);
        let [_, h, w] = contents.model.image_size();
        for found in &image.attributions {
            let picture = attribution_of(&found.attribution, [h, w])?;
            files.push((Path::new("attribution").join(&name).join(format!("{}.png", found.method)), picture.png()?));
        }
    }
    for made in &contents.synthetic {
        for (images, name) in [(&made.atlas.images, ""), (&made.negative, "-negative"), (&made.diverse, "-diverse")] {
            if let Some(sheet) = synthetic_of(images)? {
                files.push((Path::new("synthetic").join(format!("{}{name}.png", made.atlas.layer)), large(&sheet)?.png()?));
            }
        }
    }
    for (found, (number, image)) in contents.dreams.iter().zip(contents.images.iter().enumerate()) {
        let dreams = found.layers.iter().map(|dream| dream.image.bytes());
        let sheet = strip(&image.bytes, dreams, contents.model.image_size())?;
        files.push((Path::new("dream").join(format!("{}.png", folder_name(number, &image.name))), large(&sheet)?.png()?));
    }
    for layer in &contents.patches {
        if let Some(sheet) = patches_of(layer)? {
            files.push((Path::new("patches").join(format!("{}.png", layer.layer)), large(&sheet)?.png()?));
        }
        if let Some(sheet) = contents.split.map(|split| in_images(layer, split)).transpose()?.flatten() {
            files.push((Path::new("patches").join(format!("{}-in-images.png", layer.layer)), sheet.png()?));
        }
    }
    let images = contents.images.iter().enumerate().map(|(number, image)| (folder_name(number, &image.name), &*image.bytes));
    files.extend(contents.codes.files(&images.collect::<Vec<_>>(), contents.model.image_size())?);
    let mut names: Vec<PathBuf> = files.iter().map(|(name, _)| name.clone()).collect();
    names.push(NUMBERS.into());
    let numbers = Numbers { program: PROGRAM, title, network: contents.model.network().to_string(), files: &names, contents };
    let numbers = serde_json::to_string_pretty(&numbers).map_err(|error| Error::Unsupported(format!("the numbers as JSON: {error}")))?;
    files.push((NUMBERS.into(), numbers.into_bytes()));

    check(folder, &names)?;
    for (name, bytes) in &files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(Error::io(parent, "cannot make the folder"))?;
        write_whole(&path, bytes)?;
    }
    Ok(names)
}

/// The maps of an image, a picture for each layer; those with a scale for each map carry that of the first.
fn maps_of(image: &ImageContents, folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let picture = |(maps, scales): (&super::LayerMaps, &Vec<(Range, ColourMap)>)| {
        let sheet = large(&maps.sheet(scales, MOST)?)?;
        let same = scales.iter().all(|scale| *scale == scales[0]);
        let picture = if same { with_legend(&sheet, scales[0].0, scales[0].1)? } else { sheet };
        Ok((folder.join(format!("{}.png", maps.layer)), picture.png()?))
    };
    image.maps.par_iter().zip(&image.scales).map(picture).collect()
}

/// The map of a method with its legend.
fn attribution_of(attribution: &Attribution, size: [usize; 2]) -> Result<Raster> {
    let plane = attribution.over_image(size);
    let (range, colours) = attribution.method.plane().scale(plane.values());
    with_legend(&large(&Raster::plane(plane.values(), size, range, colours)?)?, range, colours)
}

/// Synthetic images side by side; `None` if there is none.
fn synthetic_of(images: &[Synthetic]) -> Result<Option<Raster>> {
    let seen = images.iter().map(Synthetic::seen).filter(|(_, bytes)| !bytes.is_empty());
    let tiles = seen.map(|(size, bytes)| Raster::image(&bytes, size)).collect::<Result<Vec<_>>>()?;
    if tiles.is_empty() { Ok(None) } else { Raster::sheet(&tiles, square(tiles.len()), 1).map(Some) }
}

/// The patches of a layer's first channels, a row for each; `None` if there is none.
fn patches_of(layer: &LayerPatches) -> Result<Option<Raster>> {
    rows_of(layer, 1, |patch| reduced(&patch.pixels, patch.size, PATCH))
}

/// The same patches in their images.
fn in_images(layer: &LayerPatches, split: &Split) -> Result<Option<Raster>> {
    let of = |patch: &Patch| placed(split.image(patch.image), split.size(), [&patch.rows, &patch.columns], patch.value, PATCH);
    rows_of(layer, PLACED_GAP, of)
}

/// A picture of each patch, those of a channel in a row.
fn rows_of(layer: &LayerPatches, gap: usize, of: impl Fn(&Patch) -> Result<Raster>) -> Result<Option<Raster>> {
    let columns = layer.channels.iter().map(|channel| channel.top.len()).max().unwrap_or(0);
    let mut tiles = Vec::new();
    for channel in layer.channels.iter().take(NEURONS) {
        for place in 0..columns {
            let patch = channel.top.get(place).filter(|patch| !patch.pixels.is_empty());
            tiles.push(patch.map_or_else(|| Raster::new(1, 1, [0; 4]), &of)?);
        }
    }
    if tiles.is_empty() { Ok(None) } else { Raster::sheet(&tiles, columns, gap).map(Some) }
}

fn large(picture: &Raster) -> Result<Raster> {
    picture.enlarged((WIDTH / picture.width()).max(1))
}

/// A folder's name for an image: its number, and what of its name every system takes.
fn folder_name(number: usize, name: &str) -> String {
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name);
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    format!("{number}-{}", stem.chars().map(letter).take(LETTERS).collect::<String>())
}

/// Refuses to write over what no earlier look has written, and through links that lead elsewhere.
fn check(folder: &Path, names: &[PathBuf]) -> Result<()> {
    let earlier = earlier(folder);
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_symlink());
    for name in names {
        let path = folder.join(name);
        let mut parents = name.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        if let Some(link) = parents.find(|parent| is_link(&folder.join(parent))) {
            return Err(Error::Argument(format!("{} is a link that may lead elsewhere; remove it", folder.join(link).display())));
        }
        match fs::symlink_metadata(&path) {
            Ok(_) if !earlier.contains(name) => {
                return Err(Error::Argument(format!(
                    "{} exists and was not written by an earlier look; choose another folder with --out, or move it away",
                    path.display()
                )));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(&path, "cannot look at")(error)),
            _ => {}
        }
    }
    Ok(())
}

/// The files that an earlier look has listed; none where there was none.
fn earlier(folder: &Path) -> BTreeSet<PathBuf> {
    let numbers = read_whole(&folder.join(NUMBERS), LIMIT).ok();
    let list = numbers.and_then(|bytes| serde_json::from_slice::<Earlier>(&bytes).ok());
    list.filter(|list| list.program == PROGRAM).map(|list| list.files).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_become_names_of_folders() {
        assert_eq!(folder_name(3, "../../etc/pass wd.png"), "3-pass-wd");
        assert_eq!(folder_name(0, "test:7"), "0-test-7");
        assert!(folder_name(0, &"한".repeat(90)).len() <= LETTERS + 2);
    }

    #[test]
    fn only_files_of_an_earlier_look_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let names = [PathBuf::from(REPORT), NUMBERS.into()];
        check(folder.path(), &names).unwrap();
        fs::write(folder.path().join(REPORT), "mine").unwrap();
        let error = check(folder.path(), &names).unwrap_err().to_string();
        assert!(error.contains(REPORT) && error.contains("--out"), "{error}");
        fs::write(folder.path().join(NUMBERS), r#"{"program": "convnet look", "files": ["look.html", "look.json"]}"#).unwrap();
        check(folder.path(), &names).unwrap();
        fs::write(folder.path().join(NUMBERS), r#"{"program": "another", "files": ["look.html", "look.json"]}"#).unwrap();
        assert!(check(folder.path(), &names).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_refused() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(other.path(), folder.path().join("filters")).unwrap();
        let error = check(folder.path(), &[PathBuf::from("filters/conv1.png")]).unwrap_err().to_string();
        assert!(error.contains("filters") && error.contains("link"), "{error}");
    }
}
