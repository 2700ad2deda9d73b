//! Labelled images: from files to bytes in memory to normalised, randomly changed batches.
//!
//! | source | layout |
//! |---|---|
//! | embedded | 6,000 images of Fashion-MNIST inside the program, [`Dataset::embedded`] |
//! | IDX folder | `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, each plain or `.gz`; `classes.txt`, a name a line, if the classes have names |
//! | image folder | `train/CLASS/*.png` (or jpg, jpeg, webp, bmp) and `test/CLASS/*` (or `val`, `valid`, `validation`) |
//! | one level of classes | `CLASS/*.png`; a share of each class, drawn by the seed, becomes the test images |
//!
//! [`Dataset::open`] finds out which one a folder is. All images are decoded once, to one size, and stay in memory as
//! bytes; [`Batches`] makes the numbers out of them that a network takes.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

mod augment;
mod batches;
mod class_folders;
pub mod decode;
mod embedded;
mod idx_folder;
mod image_folder;
mod normalise;
mod placing;
mod split;

pub use augment::{Augmentation, Fill, SampleAddress};
pub use batches::Batches;
pub use decode::read_image;
pub use idx_folder::is_one as is_idx_folder;
pub use normalise::Normalisation;
pub use split::Split;

/// Images for training and for testing, all of one size, and the names of their classes.
///
/// ```
/// use convnet::data::Dataset;
///
/// let data = Dataset::embedded();
/// assert_eq!((data.train.len(), data.test.len()), (5_000, 1_000));
/// assert_eq!(data.size(), [1, 28, 28]);
/// assert_eq!(data.classes[data.train.labels()[0]], "Bag");
/// ```
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The images to learn from.
    pub train: Split,
    /// The images to judge by.
    pub test: Split,
    /// The name of each class; a label is an index into it.
    pub classes: Vec<String>,
    /// The files that could not be read as images and were left out.
    pub broken: Vec<BrokenImage>,
    /// What was decided or left out while opening, a sentence each, for the user to read.
    pub notes: Vec<String>,
}

/// A file that could not be read as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenImage {
    /// Relative to the folder that was opened.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
}

/// How [`Dataset::open_with`] opens a folder.
///
/// ```no_run
/// use convnet::data::{Dataset, OpenOptions};
///
/// let options = OpenOptions { size: Some([3, 64, 64]), seed: 7, ..OpenOptions::default() };
/// let data = Dataset::open_with("photos", &options)?;
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The size `[C, H, W]` that all images are brought to. By default IDX images stay as they are, and the images of a
    /// folder get the size that most of them have, reduced to at most 224 pixels on a side, in colour if one of them has
    /// colour.
    pub size: Option<[usize; 3]>,
    /// The share of each class that becomes test images where the folder has none of its own: 0.2. With 0 there are no
    /// test images, with 1 no training images.
    pub test_share: f64,
    /// Draws the test images: 0.
    pub seed: u64,
    /// The share of the files that may be broken: 0.01. Ten files are always tolerated, except with 0, when none is.
    pub broken_share: f64,
    /// The classes of a model that the images are for, in its order. A folder of another name is an error, never a silent
    /// change of labels. By default the classes are those found, sorted by name.
    pub classes: Option<Vec<String>>,
    /// The most bytes that the decoded images may take: half of the memory that is free when opening.
    pub memory_limit: Option<usize>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { size: None, test_share: 0.2, seed: 0, broken_share: 0.01, classes: None, memory_limit: None }
    }
}

impl Dataset {
    /// A set of these images.
    ///
    /// # Errors
    /// [`Error::Argument`] when the splits differ in size, when there are fewer than two classes, or when a label is not
    /// below their number.
    pub fn new(train: Split, test: Split, classes: Vec<String>) -> Result<Self> {
        let text = |[c, h, w]: [usize; 3]| format!("{c}x{h}x{w}");
        if train.size() != test.size() {
            return Err(Error::Argument(format!(
                "the training images are {}, the test images {}; all must have one size",
                text(train.size()),
                text(test.size())
            )));
        }
        if classes.len() < 2 {
            return Err(Error::Argument(format!(
                "there is nothing to tell apart: {} class was found, two are needed at least",
                classes.len()
            )));
        }
        if let Some(label) = train.labels().iter().chain(test.labels()).find(|&&label| label >= classes.len()) {
            return Err(Error::Argument(format!("label {label} stands for no class, the {} classes are numbered from 0", classes.len())));
        }
        Ok(Dataset { train, test, classes, broken: Vec::new(), notes: Vec::new() })
    }

    /// The images inside the program: 5,000 for training and 1,000 for testing, of 10 kinds of clothing, 1×28×28. They are
    /// a selection from Fashion-MNIST, © 2017 Zalando SE, MIT licence.
    pub fn embedded() -> Self {
        embedded::dataset()
    }

    /// Opens a folder of images; which layouts there are is told in the [module](self).
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder, &OpenOptions::default())
    }

    /// Opens a folder of images with options.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses, [`Error::Format`] for damaged or foreign files (more broken images than are
    /// tolerated, no images at all, folders that fit no layout), [`Error::Argument`] for options that cannot be used and
    /// for classes that are not those expected.
    pub fn open_with(folder: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let folder = folder.as_ref();
        options.check()?;
        let metadata = std::fs::metadata(folder).map_err(Error::io(folder, "cannot open the images"))?;
        if !metadata.is_dir() {
            return Err(Error::format(folder, format!("is a file, a folder of images was expected: {LAYOUTS}")));
        }
        if idx_folder::is_one(folder) { idx_folder::open(folder, options) } else { image_folder::open(folder, options) }
    }

    /// The size of each image, `[C, H, W]`.
    pub fn size(&self) -> [usize; 3] {
        self.train.size()
    }
}

/// What a folder may look like, for messages.
const LAYOUTS: &str = "train/CLASS/*.png and test/CLASS/*.png (or jpg, jpeg, webp, bmp), CLASS/*.png, \
     or the IDX files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz)";

impl OpenOptions {
    fn check(&self) -> Result<()> {
        if let Some(size) = self.size {
            decode::check_size(size)?;
        }
        for (name, share) in [("share of test images", self.test_share), ("share of broken images", self.broken_share)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::Argument(format!("the {name} is {share}, 0 to 1 is possible")));
            }
        }
        Ok(())
    }

    fn memory_limit(&self) -> usize {
        const WHERE_UNKNOWN: usize = 4 << 30;
        self.memory_limit.unwrap_or_else(|| free_memory().map_or(WHERE_UNKNOWN, |bytes| bytes / 2))
    }

    /// Refuses more images than fit into the memory, and says which size would fit.
    fn check_memory(&self, folder: &Path, images: usize, [c, h, w]: [usize; 3]) -> Result<()> {
        let limit = self.memory_limit();
        let needed = [images, c, h, w].iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor));
        if needed.is_some_and(|needed| needed <= limit) {
            return Ok(());
        }
        let mebibytes = |bytes: f64| format!("{:.1} MiB", bytes / (1 << 20) as f64);
        let bytes = images as f64 * (c * h * w) as f64;
        let scale = (limit as f64 / bytes).sqrt();
        let (fitting_h, fitting_w) = ((h as f64 * scale) as usize, (w as f64 * scale) as usize);
        let remedy = if fitting_h == 0 || fitting_w == 0 {
            "take fewer images".to_owned()
        } else {
            format!("{c}x{fitting_h}x{fitting_w} would fit: ask for that size, or take fewer images")
        };
        Err(Error::format(
            folder,
            format!(
                "{images} images of {c}x{h}x{w} take {} of memory, {} may be used; {remedy}",
                mebibytes(bytes),
                mebibytes(limit as f64)
            ),
        ))
    }
}

/// The bytes that the system says it could give to a program now, where it says so.
fn free_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Room for the bytes of so many images, or an error instead of an abort.
fn room(folder: &Path, images: usize, size: [usize; 3]) -> Result<Vec<u8>> {
    let length = images * size.iter().product::<usize>();
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(length).map_err(|_| {
        Error::format(folder, format!("the memory for {length} bytes of images is not to be had; take fewer or smaller images"))
    })?;
    pixels.resize(length, 0);
    Ok(pixels)
}

/// Names of classes in a message: all of a few, the first of many.
fn names(classes: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 12;
    let mut text: Vec<String> = classes.iter().take(SHOWN).map(|name| format!("'{}'", name.as_ref())).collect();
    if classes.len() > SHOWN {
        text.push(format!("and {} more", classes.len() - SHOWN));
    }
    if text.is_empty() { "none".to_owned() } else { text.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(size: [usize; 3], labels: &[usize]) -> Split {
        Split::new(size, vec![0; size.iter().product::<usize>() * labels.len()], labels.to_vec()).unwrap()
    }

    fn classes(count: usize) -> Vec<String> {
        (0..count).map(|class| class.to_string()).collect()
    }

    #[test]
    fn images_that_do_not_fit_together_are_refused() {
        let size = [1, 2, 2];
        assert!(Dataset::new(split(size, &[0, 1]), split(size, &[1]), classes(2)).is_ok());
        let refused = |train, test, count| Dataset::new(train, test, classes(count)).unwrap_err().to_string();
        let error = refused(split(size, &[0]), split([1, 2, 3], &[1]), 2);
        assert!(error.contains("1x2x2") && error.contains("1x2x3"), "{error}");
        let error = refused(split(size, &[0]), split(size, &[2]), 2);
        assert!(error.contains("label 2") && error.contains("2 classes"), "{error}");
        let error = refused(split(size, &[0]), split(size, &[0]), 1);
        assert!(error.contains("1 class was found, two are needed"), "{error}");
    }

    #[test]
    fn the_embedded_images_are_those_of_the_script() {
        let data = Dataset::embedded();
        assert_eq!(data.size(), [1, 28, 28]);
        assert_eq!(data.train.count_by_class(10), [500; 10]);
        assert_eq!(data.test.count_by_class(10), [100; 10]);
        assert_eq!(data.classes.len(), 10);
        assert_eq!(data.train.labels()[..8], [8, 0, 4, 5, 9, 8, 3, 0]);
        // Upstream's figures over all 60,000 are 0.2860 and 0.3530; a draw of 5,000 is near.
        let normalisation = Normalisation::of(&data.train);
        assert!((normalisation.mean[0] - 0.2860).abs() < 0.005 && (normalisation.std[0] - 0.3530).abs() < 0.005, "{normalisation:?}");
    }

    #[test]
    fn too_many_images_are_refused_with_a_size_that_fits() {
        let options = OpenOptions { memory_limit: Some(1 << 20), ..OpenOptions::default() };
        assert!(options.check_memory(Path::new("x"), 1024, [1, 32, 32]).is_ok());
        let error = options.check_memory(Path::new("x"), 1025, [1, 32, 32]).unwrap_err().to_string();
        assert!(error.contains("1025 images of 1x32x32 take 1.0 MiB") && error.contains("1x31x31 would fit"), "{error}");
        assert!(options.check_memory(Path::new("x"), 1025, [1, 31, 31]).is_ok(), "what is said to fit fits");
        let error = options.check_memory(Path::new("x"), usize::MAX, [3, 16_000, 16_000]).unwrap_err().to_string();
        assert!(error.contains("take fewer images"), "{error}");
    }

    #[test]
    fn options_that_cannot_be_used_are_refused() {
        for options in [
            OpenOptions { test_share: 1.5, ..OpenOptions::default() },
            OpenOptions { test_share: f64::NAN, ..OpenOptions::default() },
            OpenOptions { broken_share: -0.1, ..OpenOptions::default() },
            OpenOptions { size: Some([4, 8, 8]), ..OpenOptions::default() },
        ] {
            assert!(matches!(Dataset::open_with("/", &options), Err(Error::Argument(_))), "{options:?}");
        }
    }

    #[test]
    fn a_path_that_is_no_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(matches!(Dataset::open(&missing), Err(Error::Io { .. })));
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = Dataset::open(&file).unwrap_err().to_string();
        assert!(error.contains("is a file, a folder of images was expected"), "{error}");
    }
}
