//! A folder of image files: listed, measured, decoded in parallel into memory.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::class_folders::{ImageFile, Listing, list};
use super::decode::{MOST_FILE_BYTES, decode_into, measure, read_regular_file};
use super::{BrokenImage, Dataset, OpenOptions, Split, names, room};
use crate::error::{Error, Result};

/// The longest side of images whose size was not asked for.
const LONGEST_SIDE_UNASKED: usize = 224;
/// So many broken images are always tolerated, unless none is.
const ALWAYS_TOLERATED: usize = 10;
/// So many broken images are named in a message.
const NAMED: usize = 5;

/// Opens the folder.
pub(super) fn open(folder: &Path, options: &OpenOptions) -> Result<Dataset> {
    let Listing { train, test, classes, mut notes } = list(folder, options)?;
    if classes.len() < 2 {
        return Err(Error::format(
            folder,
            format!("has images of one class only, {}; put those of another class into a folder beside it", names(&classes)),
        ));
    }
    let files: Vec<&ImageFile> = train.iter().chain(&test).collect();
    let size = match options.size {
        Some(size) => size,
        None => usual_size(folder, &files, &mut notes)?,
    };
    options.check_memory(folder, files.len(), size)?;
    let mut broken = Vec::new();
    let train_split = decode(folder, &train, size, &mut broken)?;
    let test_split = decode(folder, &test, size, &mut broken)?;
    check_broken(folder, &broken, files.len(), options.broken_share)?;
    check_classes(folder, &files, &classes, [&train_split, &test_split], &broken)?;
    let mut dataset = Dataset::new(train_split, test_split, classes)?;
    dataset.broken = broken;
    dataset.notes = notes;
    Ok(dataset)
}

/// The size `[C, H, W]` that most images have (of equally frequent ones the largest), reduced to the longest side that is
/// taken unasked; in colour if one of the images has colour.
fn usual_size(folder: &Path, files: &[&ImageFile], notes: &mut Vec<String>) -> Result<[usize; 3]> {
    let measured: Vec<Result<[usize; 3], String>> = files.par_iter().map(|file| content(file).and_then(|bytes| measure(&bytes))).collect();
    let mut counts: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    let mut channels = 1;
    for &[c, h, w] in measured.iter().flatten() {
        channels = channels.max(c);
        *counts.entry([h, w]).or_default() += 1;
    }
    let Some((&[h, w], &count)) = counts.iter().max_by_key(|&(&[h, w], &count)| (count, h.saturating_mul(w), h)) else {
        let broken: Vec<BrokenImage> = files
            .iter()
            .zip(measured)
            .filter_map(|(file, result)| Some(BrokenImage { path: file.relative.clone(), reason: result.err()? }))
            .collect();
        return Err(Error::format(folder, format!("none of the {} images can be read; {}", files.len(), first_of(&broken))));
    };
    let size = match h.max(w) {
        ..=LONGEST_SIDE_UNASKED => [channels, h, w],
        longest => {
            let reduced = |side: usize| (side * LONGEST_SIDE_UNASKED + longest / 2) / longest;
            [channels, reduced(h).max(1), reduced(w).max(1)]
        }
    };
    if counts.len() > 1 || size[1..] != [h, w] {
        notes.push(format!(
            "all images are brought to {}x{}x{} (C×H×W); {count} of {} have {h}×{w} pixels; another size can be asked for",
            size[0],
            size[1],
            size[2],
            files.len()
        ));
    }
    Ok(size)
}

/// The content of a file that was not refused when it was listed.
fn content(file: &ImageFile) -> Result<Vec<u8>, String> {
    match &file.refused {
        Some(reason) => Err(reason.clone()),
        None => read_regular_file(&file.path, MOST_FILE_BYTES).map_err(|error| error.to_string()),
    }
}

/// Decodes the files in parallel, each into its place; those that fail are taken out and named.
fn decode(folder: &Path, files: &[ImageFile], size: [usize; 3], broken: &mut Vec<BrokenImage>) -> Result<Split> {
    let length: usize = size.iter().product();
    let mut pixels = room(folder, files.len(), size)?;
    let failures: Vec<Option<String>> = pixels
        .par_chunks_exact_mut(length)
        .zip(files)
        .map(|(pixels, file)| content(file).and_then(|bytes| decode_into(&bytes, size, pixels)).err())
        .collect();
    let (mut labels, mut paths) = (Vec::new(), Vec::new());
    for (index, (file, failure)) in files.iter().zip(failures).enumerate() {
        if let Some(reason) = failure {
            broken.push(BrokenImage { path: file.relative.clone(), reason });
            continue;
        }
        pixels.copy_within(index * length..(index + 1) * length, labels.len() * length);
        labels.push(file.label);
        paths.push(file.relative.clone());
    }
    pixels.truncate(labels.len() * length);
    Ok(Split::new(size, pixels, labels)?.with_paths(paths))
}

/// Refuses more broken images than are tolerated.
fn check_broken(folder: &Path, broken: &[BrokenImage], files: usize, share: f64) -> Result<()> {
    let tolerated = if share == 0.0 { 0 } else { ((files as f64 * share) as usize).max(ALWAYS_TOLERATED) };
    if broken.len() <= tolerated {
        return Ok(());
    }
    Err(Error::format(
        folder,
        format!(
            "{} of {files} images cannot be read, {tolerated} are tolerated; {}; repair or remove them, or tolerate a larger share",
            broken.len(),
            first_of(broken)
        ),
    ))
}

/// Refuses a class that had images and has none left.
fn check_classes(folder: &Path, files: &[&ImageFile], classes: &[String], splits: [&Split; 2], broken: &[BrokenImage]) -> Result<()> {
    let [train, test] = splits.map(|split| split.count_by_class(classes.len()));
    let lost: Vec<&String> = (0..classes.len())
        .filter(|&label| train[label] + test[label] == 0 && files.iter().any(|file| file.label == label))
        .map(|label| &classes[label])
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::format(folder, format!("no image of the class {} can be read; {}", names(&lost), first_of(broken))))
}

/// The first broken images and their faults, for a message.
fn first_of(broken: &[BrokenImage]) -> String {
    let named: Vec<String> = broken.iter().take(NAMED).map(|image| format!("{}: {}", image.path.display(), image.reason)).collect();
    format!("the first: {}", named.join("; "))
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage};
    use tempfile::TempDir;

    use super::*;

    fn grey(width: u32, height: u32, value: u8) -> GrayImage {
        GrayImage::from_pixel(width, height, Luma([value]))
    }

    fn at(folder: &TempDir, name: &str) -> std::path::PathBuf {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// `count` images of 6×4 in each of the folders, their value being 10·folder + number.
    fn folder(folders: &[&str], count: u8) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (class, name) in folders.iter().enumerate() {
            for number in 0..count {
                grey(6, 4, class as u8 * 10 + number).save(at(&folder, &format!("{name}/{number:02}.png"))).unwrap();
            }
        }
        folder
    }

    fn opened(folder: &TempDir) -> Dataset {
        Dataset::open(folder.path()).unwrap()
    }

    fn message(folder: &TempDir) -> String {
        Dataset::open(folder.path()).unwrap_err().to_string()
    }

    const FOLDERS: [&str; 4] = ["train/a", "train/b", "test/a", "test/b"];

    #[test]
    fn every_image_has_its_pixels_its_label_and_its_path() {
        let data = opened(&folder(&FOLDERS, 3));
        assert_eq!((data.size(), data.classes.clone()), ([1, 4, 6], vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(data.train.labels(), [0, 0, 0, 1, 1, 1]);
        for (split, first) in [(&data.train, 0), (&data.test, 20)] {
            for index in 0..6 {
                let value = first + (index / 3 * 10 + index % 3) as u8;
                assert_eq!(split.image(index), [value; 24]);
            }
        }
        assert_eq!(data.test.name(4), "test/b/01.png");
        assert!(data.broken.is_empty() && data.notes.is_empty(), "{:?}", data.notes);
    }

    #[test]
    fn the_usual_size_is_that_of_most_images_and_is_told() {
        let folder = folder(&FOLDERS, 3);
        grey(50, 40, 9).save(at(&folder, "train/a/large.png")).unwrap();
        RgbImage::from_pixel(6, 4, Rgb([200, 0, 0])).save(at(&folder, "train/b/colour.png")).unwrap();
        let data = opened(&folder);
        assert_eq!(data.size(), [3, 4, 6]);
        assert!(data.notes[0].contains("brought to 3x4x6 (C×H×W); 13 of 14 have 4×6 pixels"), "{:?}", data.notes);
        assert_eq!(data.train.image(3), [9; 72], "the large image is reduced");
        assert_eq!(data.train.image(7)[..24], [200; 24], "red");
        assert_eq!(data.train.image(7)[24..], [0; 48]);
    }

    #[test]
    fn large_images_are_reduced_unless_a_size_is_asked_for() {
        let folder = TempDir::new().unwrap();
        for name in ["a/1.png", "a/2.png", "b/1.png", "b/2.png"] {
            grey(640, 480, 5).save(at(&folder, name)).unwrap();
        }
        let data = opened(&folder);
        assert_eq!(data.size(), [1, 168, 224]);
        assert!(data.notes.iter().any(|note| note.contains("4 of 4 have 480×640 pixels")), "{:?}", data.notes);
        let options = OpenOptions { size: Some([3, 32, 32]), ..OpenOptions::default() };
        assert_eq!(Dataset::open_with(folder.path(), &options).unwrap().size(), [3, 32, 32]);
    }

    #[test]
    fn broken_images_are_named_and_left_out() {
        let folder = folder(&FOLDERS, 4);
        std::fs::write(at(&folder, "train/a/01.png"), b"no image at all").unwrap();
        let whole = std::fs::read(at(&folder, "test/b/02.png")).unwrap();
        std::fs::write(at(&folder, "test/b/02.png"), &whole[..whole.len() / 2]).unwrap();
        std::fs::write(at(&folder, "train/b/00.png"), b"").unwrap();
        let data = opened(&folder);
        let paths: Vec<String> = data.broken.iter().map(|image| image.path.display().to_string()).collect();
        assert_eq!(paths, ["train/a/01.png", "train/b/00.png", "test/b/02.png"]);
        assert!(data.broken[0].reason.contains("a text that begins with \"no image\""), "{:?}", data.broken);
        assert!(data.broken[1].reason.contains("an empty file"), "{:?}", data.broken);
        assert_eq!(data.train.labels(), [0, 0, 0, 1, 1, 1]);
        let values: Vec<u8> = (0..6).map(|index| data.train.image(index)[0]).collect();
        assert_eq!(values, [0, 2, 3, 11, 12, 13], "the others keep their pixels");
        assert_eq!(data.train.name(1), "train/a/02.png");
        assert_eq!(data.test.len(), 7);
    }

    #[test]
    fn more_broken_images_than_tolerated_are_an_error() {
        let folder = folder(&FOLDERS, 9);
        let damage = |count: usize| {
            for number in 0..count {
                let class = ["train/a", "train/b"][number % 2];
                std::fs::write(at(&folder, &format!("{class}/{:02}.png", number / 2)), b"broken").unwrap();
            }
        };
        let open = |broken_share| Dataset::open_with(folder.path(), &OpenOptions { broken_share, ..OpenOptions::default() });
        assert!(open(0.0).is_ok());
        damage(1);
        assert!(open(0.0).unwrap_err().to_string().contains("1 of 36 images cannot be read, 0 are tolerated"));
        damage(10);
        assert_eq!(open(0.01).unwrap().broken.len(), 10, "ten are always tolerated");
        damage(11);
        let error = open(0.01).unwrap_err().to_string();
        assert!(error.contains("11 of 36 images cannot be read, 10 are tolerated; the first: train/a/00.png: is a text"), "{error}");
        assert!(error.contains("tolerate a larger share"), "{error}");
        assert_eq!(open(0.5).unwrap().broken.len(), 11);
    }

    #[test]
    fn a_class_that_lost_all_its_images_is_an_error() {
        let folder = folder(&["a", "b"], 3);
        for number in 0..3 {
            std::fs::write(at(&folder, &format!("b/{number:02}.png")), b"broken").unwrap();
        }
        let error = message(&folder);
        assert!(error.contains("no image of the class 'b' can be read; the first: b/0"), "{error}");
        for number in 0..3 {
            std::fs::write(at(&folder, &format!("a/{number:02}.png")), b"broken").unwrap();
        }
        assert!(message(&folder).contains("none of the 6 images can be read"), "{}", message(&folder));
    }

    #[test]
    fn one_class_and_no_image_are_errors() {
        assert!(message(&folder(&["a"], 3)).contains("has images of one class only, 'a'"));
        assert!(message(&folder(&["train/a", "test/a"], 3)).contains("one class only"));
        assert!(message(&TempDir::new().unwrap()).contains("has no images; expected train/CLASS/*.png"));
    }

    #[test]
    fn a_folder_that_would_not_fit_into_memory_is_refused_before_it_is_decoded() {
        let folder = folder(&FOLDERS, 3);
        let open =
            |memory_limit| Dataset::open_with(folder.path(), &OpenOptions { memory_limit: Some(memory_limit), ..OpenOptions::default() });
        assert!(open(12 * 24).is_ok());
        let error = open(12 * 24 - 1).unwrap_err().to_string();
        assert!(error.contains("12 images of 1x4x6") && error.contains("1x3x5 would fit"), "{error}");
    }

    #[test]
    fn the_same_folder_gives_the_same_images_for_any_number_of_threads() {
        let folder = folder(&["a", "b", "c"], 9);
        grey(61, 47, 130).save(at(&folder, "a/odd.png")).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let data = pool.install(|| opened(&folder));
            (data.train, data.test, data.notes)
        };
        assert!(run(1) == run(3));
    }
}
