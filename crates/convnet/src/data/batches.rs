//! Images in batches, N×C×H×W, ready for a network.
//!
//! Training takes the images in another order in every epoch and leaves out the last images when they do not fill a
//! batch; as the order changes, no image is left out for good. Evaluation takes every image once, in order, so its last
//! batch may be smaller. A batch is a function of (seed, epoch, number): any of them can be made alone, by any number of
//! threads, with the same bits.

use rayon::prelude::*;

use super::augment::{Augmentation, SampleAddress};
use super::normalise::Normalisation;
use super::split::Split;
use crate::error::{Error, Result};
use crate::random::{Address, Purpose};

/// So many bytes of images are worth handing to another thread.
const BYTES_OF_A_PIECE: usize = 16 << 10;

/// The batches of one epoch after the other, or of one evaluation.
///
/// ```
/// use convnet::data::{Augmentation, Batches, Dataset, Normalisation};
///
/// let data = Dataset::embedded();
/// let normalisation = Normalisation::of(&data.train);
/// let augmentation = Augmentation { shift: 2, flip: true, ..Augmentation::default() };
/// let mut batches = Batches::training(&data.train, 128, 7, &normalisation, &augmentation)?;
/// let mut images = vec![0.0; 128 * 28 * 28];
/// let mut labels = vec![0; 128];
/// for epoch in 0..2 {
///     batches.start(epoch);
///     for number in 0..batches.count() {
///         batches.fill(number, &mut images, &mut labels)?;
///     }
/// }
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    split: &'a Split,
    size: usize,
    normalisation: &'a Normalisation,
    training: Option<Training<'a>>,
}

#[derive(Clone, Debug)]
struct Training<'a> {
    seed: u64,
    epoch: u64,
    augmentation: &'a Augmentation,
    /// The images of the epoch in their order.
    order: Vec<usize>,
}

impl<'a> Batches<'a> {
    /// Batches of `size` images for training, standing at the start of epoch 0.
    ///
    /// # Errors
    /// [`Error::Argument`] when there are fewer images than a batch takes, and what [`Normalisation::check`] and
    /// [`Augmentation::check`] refuse.
    pub fn training(
        split: &'a Split,
        size: usize,
        seed: u64,
        normalisation: &'a Normalisation,
        augmentation: &'a Augmentation,
    ) -> Result<Self> {
        augmentation.check(split.size())?;
        if split.len() < size {
            return Err(Error::Argument(format!(
                "there are {} training images, a batch of {size} needs as many at least; take a smaller batch or more images",
                split.len()
            )));
        }
        let order = (0..split.len()).collect();
        let mut batches = Self::evaluation(split, size, normalisation)?;
        batches.training = Some(Training { seed, epoch: 0, augmentation, order });
        batches.start(0);
        Ok(batches)
    }

    /// Batches of at most `size` images for evaluation: all images, unchanged, in order.
    ///
    /// # Errors
    /// [`Error::Argument`] for a batch of 0 images, for no images, and what [`Normalisation::check`] refuses.
    pub fn evaluation(split: &'a Split, size: usize, normalisation: &'a Normalisation) -> Result<Self> {
        if size == 0 {
            return Err(Error::Argument("a batch of 0 images is empty; take 1 at least".to_owned()));
        }
        if split.is_empty() {
            return Err(Error::Argument("there are no images to take batches from".to_owned()));
        }
        normalisation.check(split.size()[0])?;
        Ok(Batches { split, size, normalisation, training: None })
    }

    /// Goes to the start of an epoch: the images get the order of that epoch. Evaluation has the same order in all.
    pub fn start(&mut self, epoch: u64) {
        if let Some(training) = &mut self.training {
            training.epoch = epoch;
            for (index, image) in training.order.iter_mut().enumerate() {
                *image = index;
            }
            Address::new(training.seed, Purpose::Shuffle).then(epoch).random().shuffle(&mut training.order);
        }
    }

    /// How many batches an epoch has.
    pub fn count(&self) -> usize {
        match self.training {
            Some(_) => self.split.len() / self.size,
            None => self.split.len().div_ceil(self.size),
        }
    }

    /// How many images batch `number` has: the size, less in the last batch of an evaluation, 0 beyond the last.
    pub fn len_of(&self, number: usize) -> usize {
        if number >= self.count() {
            return 0;
        }
        self.size.min(self.split.len() - number * self.size)
    }

    /// The images of batch `number`, as indices into the split, in their order.
    pub fn samples(&self, number: usize) -> impl Iterator<Item = usize> + '_ {
        let first = number.saturating_mul(self.size);
        (first..first + self.len_of(number)).map(|place| self.sample_at(place))
    }

    fn sample_at(&self, place: usize) -> usize {
        match &self.training {
            Some(training) => training.order[place],
            None => place,
        }
    }

    /// Writes batch `number` of the epoch: `images` N×C×H×W normalised (and changed at random, in training), `labels` the
    /// classes. Returns N, the number of images written; what follows them stays as it was.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such batch or when it does not fit into `images` or `labels`.
    pub fn fill(&self, number: usize, images: &mut [f32], labels: &mut [usize]) -> Result<usize> {
        let count = self.len_of(number);
        if count == 0 {
            return Err(Error::Argument(format!("there is no batch {number}, they are numbered from 0 to {}", self.count() - 1)));
        }
        let length = self.split.image_bytes();
        if images.len() < count * length || labels.len() < count {
            return Err(Error::Argument(format!(
                "batch {number} has {count} images of {length} numbers, there is room for {} numbers and {} labels",
                images.len(),
                labels.len()
            )));
        }
        for (label, sample) in labels.iter_mut().zip(self.samples(number)) {
            *label = self.split.labels()[sample];
        }
        let first = number * self.size;
        images[..count * length]
            .par_chunks_exact_mut(length)
            .with_min_len(BYTES_OF_A_PIECE.div_ceil(length))
            .enumerate()
            .for_each(|(index, values)| self.write(self.sample_at(first + index), values));
        Ok(count)
    }

    fn write(&self, sample: usize, values: &mut [f32]) {
        let image = self.split.image(sample);
        match &self.training {
            Some(training) => {
                let at = SampleAddress::new(training.seed, training.epoch, sample);
                training.augmentation.apply(image, self.split.size(), self.normalisation, at, values);
            }
            None => self.normalisation.apply(image, values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::permutation;

    const SIZE: [usize; 3] = [2, 6, 5];

    fn split(images: usize) -> Split {
        let pixels = (0..images * 60).map(|index| (index * 31 % 256) as u8).collect();
        Split::new(SIZE, pixels, (0..images).map(|index| index % 7).collect()).unwrap()
    }

    fn normalisation() -> Normalisation {
        Normalisation { mean: vec![0.4, 0.5], std: vec![0.2, 0.3] }
    }

    fn lively() -> Augmentation {
        Augmentation { shift: 1, flip: true, rotate: 10.0, brightness: 0.2, erase: 0.5, ..Augmentation::default() }
    }

    #[test]
    fn an_epoch_has_every_image_once_but_the_last_that_fill_no_batch() {
        let (split, normalisation, augmentation) = (split(23), normalisation(), Augmentation::default());
        let mut batches = Batches::training(&split, 5, 1, &normalisation, &augmentation).unwrap();
        assert_eq!(batches.count(), 4);
        let mut left_out = std::collections::BTreeSet::new();
        for epoch in 0..20 {
            batches.start(epoch);
            let taken: Vec<usize> = (0..4).flat_map(|number| batches.samples(number)).collect();
            assert_eq!(taken, permutation(1, epoch, 23)[..20], "the order is the permutation of the epoch");
            left_out.extend((0..23).filter(|image| !taken.contains(image)));
        }
        assert!(left_out.len() > 15, "other images are left out in other epochs: {left_out:?}");
    }

    #[test]
    fn an_evaluation_has_every_image_once_in_order() {
        let (split, normalisation) = (split(23), normalisation());
        let batches = Batches::evaluation(&split, 5, &normalisation).unwrap();
        assert_eq!(batches.count(), 5);
        let (mut images, mut labels) = (vec![0.0; 300], vec![0; 5]);
        let mut index = 0;
        for number in 0..5 {
            let count = batches.fill(number, &mut images, &mut labels).unwrap();
            assert_eq!(count, if number == 4 { 3 } else { 5 });
            for place in 0..count {
                let mut expected = vec![0.0; 60];
                normalisation.apply(split.image(index), &mut expected);
                assert_eq!(images[place * 60..][..60], expected);
                assert_eq!(labels[place], index % 7);
                index += 1;
            }
        }
        assert_eq!(index, 23);
    }

    #[test]
    fn a_short_last_batch_leaves_the_rest_of_the_buffer_alone() {
        let (split, normalisation) = (split(3), normalisation());
        let batches = Batches::evaluation(&split, 5, &normalisation).unwrap();
        let (mut images, mut labels) = (vec![9.0; 300], vec![9; 5]);
        batches.fill(0, &mut images, &mut labels).unwrap();
        assert!(images[180..].iter().all(|&value| value == 9.0) && labels[3..] == [9, 9]);
    }

    #[test]
    fn batches_have_the_same_bits_for_any_number_of_threads() {
        let (split, normalisation, augmentation) = (split(400), normalisation(), lively());
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut batches = Batches::training(&split, 390, 3, &normalisation, &augmentation).unwrap();
                batches.start(2);
                let (mut images, mut labels) = (vec![0.0; 390 * 60], vec![0; 390]);
                batches.fill(0, &mut images, &mut labels).unwrap();
                (images.into_iter().map(f32::to_bits).collect::<Vec<_>>(), labels)
            })
        };
        let alone = run(1);
        for threads in [2, 3, 8] {
            assert!(run(threads) == alone, "{threads} threads");
        }
    }

    #[test]
    fn a_batch_can_be_made_again_without_those_before_it() {
        let (split, normalisation, augmentation) = (split(40), normalisation(), lively());
        let fill = |batches: &Batches, number| {
            let (mut images, mut labels) = (vec![0.0; 480], vec![0; 8]);
            batches.fill(number, &mut images, &mut labels).unwrap();
            (images, labels)
        };
        let mut through = Batches::training(&split, 8, 5, &normalisation, &augmentation).unwrap();
        let mut last = None;
        for epoch in 0..3 {
            through.start(epoch);
            for number in 0..through.count() {
                let batch = fill(&through, number);
                assert_ne!(Some(&batch), last.as_ref(), "batches differ");
                last = Some(batch);
            }
        }
        let mut resumed = Batches::training(&split, 8, 5, &normalisation, &augmentation).unwrap();
        resumed.start(2);
        assert_eq!(Some(fill(&resumed, 4)), last);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let (few, normalisation, augmentation) = (split(4), normalisation(), Augmentation::default());
        let refused = |result: Result<Batches>| result.unwrap_err().to_string();
        let error = refused(Batches::training(&few, 5, 1, &normalisation, &augmentation));
        assert!(error.contains("4 training images") && error.contains("batch of 5"), "{error}");
        assert!(refused(Batches::training(&few, 0, 1, &normalisation, &augmentation)).contains("a batch of 0"));
        let none = Split::new(SIZE, vec![], vec![]).unwrap();
        assert!(refused(Batches::evaluation(&none, 5, &normalisation)).contains("no images"));
        let grey = Normalisation { mean: vec![0.5], std: vec![0.5] };
        assert!(refused(Batches::evaluation(&few, 2, &grey)).contains("2 channels"));
        let far = Augmentation { shift: 5, ..Augmentation::default() };
        assert!(refused(Batches::training(&few, 2, 1, &normalisation, &far)).contains("shift"));

        let batches = Batches::evaluation(&few, 2, &normalisation).unwrap();
        let (mut images, mut labels) = (vec![0.0; 120], vec![0; 2]);
        assert!(batches.fill(2, &mut images, &mut labels).unwrap_err().to_string().contains("no batch 2"));
        assert!(batches.fill(usize::MAX, &mut images, &mut labels).is_err());
        let error = batches.fill(0, &mut images[..119], &mut labels).unwrap_err().to_string();
        assert!(error.contains("2 images of 60 numbers") && error.contains("119"), "{error}");
        assert!(batches.fill(0, &mut images, &mut labels[..1]).is_err());
    }
}
