//! The images inside the program, drawn from Fashion-MNIST by `tools/embedded_images.py`.

use convnet_formats::idx::read_idx;

use super::{Dataset, Split};

const CLASSES: [&str; 10] = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

const TRAIN_IMAGES: &[u8] = include_bytes!("embedded/train-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("embedded/train-labels-idx1-ubyte.gz");
const TEST_IMAGES: &[u8] = include_bytes!("embedded/t10k-images-idx3-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("embedded/t10k-labels-idx1-ubyte.gz");

pub(super) fn dataset() -> Dataset {
    let train = split(TRAIN_IMAGES, TRAIN_LABELS);
    let test = split(TEST_IMAGES, TEST_LABELS);
    let classes = CLASSES.map(str::to_owned).to_vec();
    Dataset { train, test, classes, broken: Vec::new(), notes: Vec::new() }
}

/// The files are part of the program, and a test reads them: they are never wrong at run time.
fn split(images: &[u8], labels: &[u8]) -> Split {
    let values = |bytes| match read_idx(bytes, 1 << 30) {
        Ok(idx) => idx.data,
        Err(error) => unreachable!("the embedded images: {error}"),
    };
    let labels = values(labels).into_iter().map(usize::from).collect();
    match Split::new([1, 28, 28], values(images), labels) {
        Ok(split) => split,
        Err(error) => unreachable!("the embedded images: {error}"),
    }
}
