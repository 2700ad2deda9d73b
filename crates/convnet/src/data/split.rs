//! The images of one purpose, training or testing, as bytes in memory.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Images of one size with their labels.
///
/// The bytes are N×C×H×W, 0 to 255. Where the images come from files, each has its path; where they come from one file,
/// its number in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    size: [usize; 3],
    pixels: Vec<u8>,
    labels: Vec<usize>,
    /// Relative to the folder that was opened; as many as labels, or none.
    paths: Vec<PathBuf>,
}

impl Split {
    /// Images of the size `[C, H, W]`, as many as there are labels. A label is the index of a class.
    ///
    /// # Errors
    /// [`Error::Argument`] when an axis is empty or when the number of pixels does not fit the labels.
    ///
    /// ```
    /// use convnet::data::Split;
    ///
    /// let split = Split::new([1, 1, 2], vec![0, 255, 10, 20], vec![0, 1])?;
    /// assert_eq!(split.image(1), [10, 20]);
    /// # Ok::<(), convnet::Error>(())
    /// ```
    pub fn new(size: [usize; 3], pixels: Vec<u8>, labels: Vec<usize>) -> Result<Self> {
        let [c, h, w] = size;
        let expected = [c, h, w, labels.len()].iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor));
        if size.contains(&0) || expected != Some(pixels.len()) {
            return Err(Error::Argument(format!(
                "{} labels need as many images of {c}x{h}x{w} bytes, with no empty axis; there are {} bytes",
                labels.len(),
                pixels.len()
            )));
        }
        Ok(Split { size, pixels, labels, paths: Vec::new() })
    }

    /// The same images with the paths they come from.
    pub(super) fn with_paths(self, paths: Vec<PathBuf>) -> Self {
        debug_assert_eq!(paths.len(), self.labels.len());
        Split { paths, ..self }
    }

    /// The size of each image, `[C, H, W]`.
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    /// The number of images, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Numbers of at most so many images, evenly spread over the split; all if there are not more.
    pub fn spread(&self, images: usize) -> Vec<usize> {
        let count = images.min(self.len());
        (0..count).map(|number| number * self.len() / count).collect()
    }

    /// The bytes of one image, C×H×W.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let length = self.image_bytes();
        &self.pixels[index * length..][..length]
    }

    /// The class of each image.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The bytes of all images, N×C×H×W.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Where an image comes from, relative to the folder that was opened, if it has a file of its own.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.paths.get(index).map(PathBuf::as_path)
    }

    /// An image in words: its path, or its number.
    pub fn name(&self, index: usize) -> String {
        match self.path(index) {
            Some(path) => path.display().to_string(),
            None => format!("image {index}"),
        }
    }

    /// How many images each of `classes` classes has.
    pub fn count_by_class(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(label) {
                *count += 1;
            }
        }
        counts
    }

    /// Bytes of one image, C·H·W.
    pub fn image_bytes(&self) -> usize {
        self.size.iter().product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_whose_numbers_do_not_fit_is_refused_with_both() {
        let error = Split::new([1, 2, 2], vec![0; 9], vec![0, 1]).unwrap_err().to_string();
        assert!(error.contains("2 labels") && error.contains("1x2x2") && error.contains("9 bytes"), "{error}");
        assert!(Split::new([1, 0, 2], vec![], vec![0]).is_err());
        assert!(Split::new([usize::MAX, 2, 1], vec![], vec![0]).is_err());
        assert!(Split::new([3, 2, 2], vec![], vec![]).unwrap().is_empty());
    }

    #[test]
    fn images_have_a_name_with_and_without_a_file() {
        let split = Split::new([1, 1, 1], vec![7, 8], vec![1, 1]).unwrap();
        assert_eq!((split.name(1), split.path(1)), ("image 1".to_owned(), None));
        let split = split.with_paths(vec!["a/x.png".into(), "b/y.png".into()]);
        assert_eq!(split.name(1), "b/y.png");
        assert_eq!(split.count_by_class(3), [0, 2, 0]);
    }
}
