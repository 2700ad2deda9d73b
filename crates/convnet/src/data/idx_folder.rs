//! A folder of IDX files under upstream's names, as MNIST and its kin come.

use std::path::{Path, PathBuf};

use convnet_formats::Fault;
use convnet_formats::idx::{Idx, read_idx};
use rayon::prelude::*;

use super::decode::{fit, read_regular_file};
use super::{Dataset, OpenOptions, Split, names, room};
use crate::error::{Error, Result};

/// The four files: images and labels of the training, then of the test split. Some mirrors have a dot for the second dash.
const STEMS: [&str; 4] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
const CLASS_NAMES: &str = "classes.txt";
const MOST_NAMES_BYTES: u64 = 16 << 20;
/// The most bytes of a file before its values.
const MOST_HEADER_BYTES: u64 = 1024;

/// Whether a folder has IDX files under upstream's names, so that [`Dataset::open`] takes it for such a folder.
pub fn is_one(folder: &Path) -> bool {
    STEMS.iter().any(|stem| find(folder, stem).is_some())
}

fn find(folder: &Path, stem: &str) -> Option<PathBuf> {
    let with_dot = stem.replace("-idx", ".idx");
    [stem.to_owned(), format!("{stem}.gz"), with_dot.clone(), format!("{with_dot}.gz")]
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.exists())
}

/// Opens the folder.
pub(super) fn open(folder: &Path, options: &OpenOptions) -> Result<Dataset> {
    let files: Vec<Option<PathBuf>> = STEMS.iter().map(|stem| find(folder, stem)).collect();
    let missing: Vec<&str> = STEMS.iter().zip(&files).filter(|(_, file)| file.is_none()).map(|(stem, _)| *stem).collect();
    let [Some(train_images), Some(train_labels), Some(test_images), Some(test_labels)] = &files[..] else {
        return Err(Error::format(
            folder,
            format!("has some of the four IDX files, but neither {} nor the same with .gz; put all four there", missing.join(" nor ")),
        ));
    };
    let train = Source::read(train_images, train_labels, options)?;
    let test = Source::read(test_images, test_labels, options)?;
    if train.size != test.size {
        let [[_, h, w], [_, test_h, test_w]] = [train.size, test.size];
        return Err(Error::format(test_images, format!("has images of {test_h}×{test_w}, those of the training are {h}×{w}")));
    }
    let size = options.size.unwrap_or(train.size);
    options.check_memory(folder, train.labels.len() + test.labels.len(), size)?;
    let mut notes = Vec::new();
    let labels = train.labels.iter().chain(&test.labels);
    let count = labels.max().map_or(0, |&label| label + 1);
    let classes = classes(folder, options, count, &mut notes)?;
    let (train, test) = (train.split(folder, size)?, test.split(folder, size)?);
    let counts = train.count_by_class(classes.len());
    let without: Vec<&String> = classes.iter().zip(counts).filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    if !without.is_empty() {
        notes.push(format!("no training image has the class {}", names(&without)));
    }
    let mut dataset = Dataset::new(train, test, classes).map_err(|error| Error::format(folder, error))?;
    dataset.notes = notes;
    Ok(dataset)
}

/// Images and labels as the files have them.
struct Source {
    /// `[1, H, W]`.
    size: [usize; 3],
    pixels: Vec<u8>,
    labels: Vec<usize>,
}

impl Source {
    fn read(images: &Path, labels: &Path, options: &OpenOptions) -> Result<Source> {
        let limit = options.memory_limit();
        let Idx { dims, data: pixels } = read(images, limit)?;
        let [count, height, width] = dims[..] else {
            return Err(Error::format(images, format!("has {} dimensions, images have 3: N×H×W", dims.len())));
        };
        if count == 0 || height == 0 || width == 0 {
            return Err(Error::format(images, format!("has no images: its dimensions are {count}×{height}×{width}")));
        }
        let Idx { dims, data } = read(labels, limit)?;
        if dims.len() != 1 {
            return Err(Error::format(labels, format!("has {} dimensions, labels have 1: N", dims.len())));
        }
        if data.len() != count {
            let name = images.file_name().unwrap_or_default().display();
            return Err(Error::format(labels, format!("has {} labels for the {count} images of {name}; both must be as many", data.len())));
        }
        Ok(Source { size: [1, height, width], pixels, labels: data.into_iter().map(usize::from).collect() })
    }

    /// The images at the wanted size.
    fn split(self, folder: &Path, size: [usize; 3]) -> Result<Split> {
        if size == self.size {
            return Split::new(size, self.pixels, self.labels);
        }
        let mut pixels = room(folder, self.labels.len(), size)?;
        let (from, to): (usize, usize) = (self.size.iter().product(), size.iter().product());
        self.pixels
            .par_chunks_exact(from)
            .zip(pixels.par_chunks_exact_mut(to))
            .try_for_each(|(source, target)| fit(source, self.size, size, target))
            .map_err(|reason| Error::format(folder, reason))?;
        Split::new(size, pixels, self.labels)
    }
}

fn read(path: &Path, limit: usize) -> Result<Idx> {
    let most = (limit as u64).saturating_add(MOST_HEADER_BYTES);
    let bytes = read_regular_file(path, most).map_err(Error::io(path, "cannot read the images"))?;
    read_idx(&bytes, limit).map_err(|error| match error.fault {
        Fault::Unsupported => Error::Unsupported(format!("{}: {error}", path.display())),
        _ => Error::format(path, error),
    })
}

/// The names of the classes: those of `classes.txt`, else those that are expected, else numbers.
fn classes(folder: &Path, options: &OpenOptions, count: usize, notes: &mut Vec<String>) -> Result<Vec<String>> {
    let file = folder.join(CLASS_NAMES);
    let named = if file.exists() { Some(read_names(&file)?) } else { None };
    if let Some(named) = &named
        && named.len() < count
    {
        return Err(Error::format(&file, format!("names {} classes, the labels go up to {}", named.len(), count - 1)));
    }
    match (named, &options.classes) {
        (Some(named), Some(expected)) if named != *expected => {
            let missing: Vec<&String> = expected.iter().filter(|name| !named.contains(name)).collect();
            let unknown: Vec<&String> = named.iter().filter(|name| !expected.contains(name)).collect();
            let difference = if missing.is_empty() && unknown.is_empty() {
                "has the classes of the model in another order".to_owned()
            } else {
                format!("has not the classes of the model: missing {}; unknown to the model {}", names(&missing), names(&unknown))
            };
            Err(Error::Argument(format!("{}: {difference}", file.display())))
        }
        (Some(named), _) => Ok(named),
        (None, Some(expected)) if expected.len() < count => Err(Error::Argument(format!(
            "{}: the labels go up to {}, the model knows {} classes: {}",
            folder.display(),
            count - 1,
            expected.len(),
            names(expected)
        ))),
        (None, Some(expected)) => {
            notes.push(format!("the labels have no names; they are taken as the classes of the model in its order: {}", names(expected)));
            Ok(expected.clone())
        }
        (None, None) => Ok((0..count).map(|class| class.to_string()).collect()),
    }
}

fn read_names(file: &Path) -> Result<Vec<String>> {
    let bytes = read_regular_file(file, MOST_NAMES_BYTES).map_err(Error::io(file, "cannot read the names of the classes"))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::format(file, "is not a text in UTF-8, a name a line was expected"))?;
    let named: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    let mut sorted = named.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::format(file, format!("names '{}' twice, each class has a name of its own", pair[0]))),
        None => Ok(named),
    }
}

#[cfg(test)]
mod tests {
    use convnet_formats::idx::{Packing, write_idx};
    use tempfile::TempDir;

    use super::*;

    const GZIP: Packing = Packing::Gzip;

    fn write(folder: &TempDir, name: &str, dims: &[usize], data: &[u8], packing: Packing) {
        std::fs::write(folder.path().join(name), write_idx(dims, data, packing).unwrap()).unwrap();
    }

    /// Four images of 2×3 for training and two for testing, of three classes.
    fn folder() -> TempDir {
        let folder = TempDir::new().unwrap();
        let pixels: Vec<u8> = (0..24).collect();
        write(&folder, "train-images-idx3-ubyte.gz", &[4, 2, 3], &pixels, GZIP);
        write(&folder, "train-labels-idx1-ubyte", &[4], &[2, 0, 1, 2], Packing::Plain);
        write(&folder, "t10k-images-idx3-ubyte", &[2, 2, 3], &pixels[..12], Packing::Plain);
        write(&folder, "t10k-labels-idx1-ubyte.gz", &[2], &[1, 0], GZIP);
        folder
    }

    fn refused(folder: &TempDir) -> Error {
        Dataset::open(folder.path()).unwrap_err()
    }

    #[test]
    fn a_folder_of_plain_and_packed_files_is_read_as_it_is() {
        let folder = folder();
        let data = Dataset::open(folder.path()).unwrap();
        assert_eq!(data.size(), [1, 2, 3]);
        assert_eq!(data.train.labels(), [2, 0, 1, 2]);
        assert_eq!(data.train.image(1), [6, 7, 8, 9, 10, 11]);
        assert_eq!(data.test.labels(), [1, 0]);
        assert_eq!(data.classes, ["0", "1", "2"]);
        assert!(data.broken.is_empty() && data.notes.is_empty());
        assert_eq!(data.train.name(3), "image 3");
    }

    #[test]
    fn names_with_a_dot_are_found() {
        let folder = folder();
        std::fs::rename(folder.path().join("train-labels-idx1-ubyte"), folder.path().join("train-labels.idx1-ubyte")).unwrap();
        assert_eq!(Dataset::open(folder.path()).unwrap().train.len(), 4);
    }

    #[test]
    fn images_are_brought_to_another_size_when_asked() {
        let folder = folder();
        let options = OpenOptions { size: Some([3, 4, 6]), ..OpenOptions::default() };
        let data = Dataset::open_with(folder.path(), &options).unwrap();
        assert_eq!((data.size(), data.train.len()), ([3, 4, 6], 4));
        let image = data.train.image(0);
        assert_eq!(image[..24], image[24..48], "grey stands in all channels");
        assert!(image[0] <= image[5] && image[5] < image[23], "the ramp stays a ramp: {image:?}");
    }

    #[test]
    fn names_beside_the_files_are_used() {
        let folder = folder();
        let names = folder.path().join("classes.txt");
        std::fs::write(&names, "shirt\n  shoe \n\nhat\n").unwrap();
        assert_eq!(Dataset::open(folder.path()).unwrap().classes, ["shirt", "shoe", "hat"]);
        std::fs::write(&names, "shirt\nshoe\n").unwrap();
        assert!(refused(&folder).to_string().contains("names 2 classes, the labels go up to 2"));
        std::fs::write(&names, "shirt\nshoe\nshirt\n").unwrap();
        assert!(refused(&folder).to_string().contains("names 'shirt' twice"));
        std::fs::write(&names, [0xff, 0xfe]).unwrap();
        assert!(refused(&folder).to_string().contains("not a text in UTF-8"));
    }

    #[test]
    fn the_classes_of_a_model_are_taken_for_numbers_but_never_for_other_names() {
        let folder = folder();
        let expecting = |classes: &[&str]| {
            let classes = Some(classes.iter().map(|&name| name.to_owned()).collect());
            Dataset::open_with(folder.path(), &OpenOptions { classes, ..OpenOptions::default() })
        };
        let data = expecting(&["a", "b", "c", "d"]).unwrap();
        assert_eq!(data.classes, ["a", "b", "c", "d"]);
        assert!(data.notes[0].contains("taken as the classes of the model"), "{:?}", data.notes);
        assert!(data.notes[1].contains("no training image has the class 'd'"), "{:?}", data.notes);
        let error = expecting(&["a", "b"]).unwrap_err().to_string();
        assert!(error.contains("go up to 2") && error.contains("knows 2 classes: 'a', 'b'"), "{error}");

        std::fs::write(folder.path().join("classes.txt"), "a\nb\nx\n").unwrap();
        assert!(expecting(&["a", "b", "x"]).is_ok());
        let error = expecting(&["a", "b", "c"]).unwrap_err().to_string();
        assert!(error.contains("missing 'c'; unknown to the model 'x'"), "{error}");
        let error = expecting(&["b", "a", "x"]).unwrap_err().to_string();
        assert!(error.contains("in another order"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = folder();
        std::fs::remove_file(folder.path().join("t10k-images-idx3-ubyte")).unwrap();
        let error = refused(&folder).to_string();
        assert!(error.contains("neither t10k-images-idx3-ubyte nor the same with .gz"), "{error}");
    }

    #[test]
    fn a_truncated_or_foreign_file_is_named_with_its_fault() {
        let folder = folder();
        let path = folder.path().join("train-images-idx3-ubyte.gz");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = refused(&folder);
        assert!(matches!(&error, Error::Format { path: named, .. } if *named == path), "{error}");
        assert!(error.to_string().contains("the file is cut off"), "{error}");
        std::fs::write(&path, b"\x89PNG\r\n\x1a\n............").unwrap();
        assert!(refused(&folder).to_string().contains("found a PNG image, expected an IDX file"));
        std::fs::write(&path, b"").unwrap();
        assert!(refused(&folder).to_string().contains("found an empty file"));
        std::fs::write(&path, [0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
        assert!(matches!(refused(&folder), Error::Unsupported(_)));
    }

    #[test]
    fn numbers_that_do_not_fit_are_named_with_both() {
        let images = "train-images-idx3-ubyte.gz";
        let with = |name: &str, dims: &[usize], data: &[u8]| {
            let folder = folder();
            write(&folder, name, dims, data, GZIP);
            refused(&folder).to_string()
        };
        assert!(with(images, &[0, 28, 28], &[]).contains("has no images: its dimensions are 0×28×28"));
        assert!(with(images, &[24], &[0; 24]).contains("has 1 dimensions, images have 3"));
        assert!(with(images, &[3, 2, 3], &[0; 18]).contains("has 4 labels for the 3 images of train-images-idx3-ubyte.gz"));
        assert!(with(images, &[4, 3, 2], &[0; 24]).contains("has images of 2×3, those of the training are 3×2"));
        assert!(with("t10k-labels-idx1-ubyte.gz", &[2, 1], &[0; 2]).contains("has 2 dimensions, labels have 1"));

        let folder = folder();
        write(&folder, "train-labels-idx1-ubyte", &[4], &[0; 4], Packing::Plain);
        write(&folder, "t10k-labels-idx1-ubyte.gz", &[2], &[0; 2], GZIP);
        assert!(refused(&folder).to_string().contains("1 class was found, two are needed"));
    }

    #[test]
    fn more_than_the_memory_is_refused() {
        let folder = folder();
        let options = OpenOptions { memory_limit: Some(23), ..OpenOptions::default() };
        let error = Dataset::open_with(folder.path(), &options).unwrap_err().to_string();
        assert!(error.contains("expected at most 23"), "{error}");
        let options = OpenOptions { memory_limit: Some(30), ..OpenOptions::default() };
        let error = Dataset::open_with(folder.path(), &options).unwrap_err().to_string();
        assert!(error.contains("6 images of 1x2x3"), "{error}");
    }
}
