//! How alike what two layers make of the same images is: centred kernel alignment, CKA (Kornblith, Norouzi, Lee and Hinton,
//! "Similarity of neural network representations revisited", 2019). Neither the directions nor the scale of a layer's space
//! count, so layers of any sizes, and layers of two networks, can be compared.
//!
//! With K and L the scalar products of all pairs of n images at the two layers, once centred (K ← HKH, H = 1 − 11ᵀ/n):
//!
//! ```text
//! CKA = HSIC(K, L)/√(HSIC(K, K)·HSIC(L, L))
//! plain      HSIC(K, L) ∝ ⟨K, L⟩
//! debiased   HSIC(K, L) ∝ ⟨K, L⟩ − Σ kᵢlᵢ + Σkᵢ·Σlᵢ/((n−1)(n−2)) − 2/(n−2)·Σ kᵢlᵢ,   kᵢ = Kᵢᵢ
//! ```
//!
//! The plain one comes near 1 for any two layers with many more numbers than there are images, related or not. The debiased
//! one (Song, Smola, Gretton, Bedo and Borgwardt, "Feature selection via dependence maximization", 2012, equation 5, written
//! here for centred K) does not, and is about 0 for unrelated layers; it can be a little below.

use convnet_kernels::Machine;
use serde::Serialize;

use super::codes::chosen;
use super::gram::{Gram, centre};
use super::viewer::Viewer;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::layer::{Layer, LayerRules};
use crate::model::{Model, check_image};
use crate::network::{Network, NodeId};

/// The most bytes of activations that are held at a time.
const BUDGET: usize = 128 << 20;
/// The most bytes of the products of all layers.
const LIMIT: usize = 768 << 20;
/// The fewest images that the debiased estimate is defined for.
const FEWEST: usize = 4;

/// CKA of the layers of one network with each other, or with those of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Similarity {
    /// Names of the layers, the rows.
    pub rows: Vec<String>,
    /// Names of the layers of the other network, the columns; the same as the rows for one network.
    pub columns: Vec<String>,
    /// Images that were shown, evenly spread over the split.
    pub images: usize,
    /// Images that there are.
    pub of: usize,
    /// The plain estimate, rows × columns. Nothing for a layer whose numbers are the same for all images.
    pub plain: Vec<Option<f64>>,
    /// The debiased estimate, rows × columns.
    pub debiased: Vec<Option<f64>>,
}

/// What all images look like to one layer.
struct Kernel {
    /// n×n, centred.
    products: Vec<f64>,
}

/// CKA between layers of a model, over at most `samples` images of a split; fewer where the products of all layers would take
/// too much memory.
///
/// # Errors
/// There is no such layer, there are fewer than 4 images, or the images have another size than the network takes.
pub fn similarity(model: &Model, layers: &[String], split: &Split, samples: usize, machine: &Machine) -> Result<Similarity> {
    let images = fitting(split, samples, layers.len())?;
    let kernels = kernels(model, layers, split, &images, machine)?;
    Ok(table([layers, layers], [&kernels, &kernels], &images, split, machine))
}

/// CKA between layers of two models, which see the same images.
///
/// # Errors
/// As for [`similarity`], and the models take images of different sizes.
pub fn comparison(models: [&Model; 2], layers: [&[String]; 2], split: &Split, samples: usize, machine: &Machine) -> Result<Similarity> {
    let images = fitting(split, samples, layers[0].len() + layers[1].len())?;
    let first = kernels(models[0], layers[0], split, &images, machine)?;
    let second = kernels(models[1], layers[1], split, &images, machine)?;
    Ok(table(layers, [&first, &second], &images, split, machine))
}

/// The plain and the debiased CKA of two arrays of n rows each, which need not be equally long. Nothing where all rows of one
/// are alike.
///
/// # Errors
/// There are fewer than 4 rows, or the arrays are no n rows.
pub fn cka(x: &[f32], y: &[f32], rows: usize, machine: &Machine) -> Result<[Option<f64>; 2]> {
    if rows < FEWEST || !x.len().is_multiple_of(rows) || !y.len().is_multiple_of(rows) {
        return Err(Error::Argument(format!(
            "CKA of {rows} rows of {} and {} numbers; there are at least {FEWEST} rows, equally long in each",
            x.len(),
            y.len()
        )));
    }
    let [x, y] = [x, y].map(|values| Kernel::centred(Gram::of(rows, values, machine), rows));
    let (xy, xx, yy) = (hsic(&x, &y, rows), hsic(&x, &x, rows), hsic(&y, &y, rows));
    Ok([0, 1].map(|estimate| ratio(xy[estimate], xx[estimate], yy[estimate])))
}

/// The layers whose numbers are worth comparing: all but those that pass on what they read.
pub fn comparable(network: &Network) -> Vec<String> {
    network.nodes().iter().filter(|node| !passes_on(node.layer())).map(|node| node.name().to_owned()).collect()
}

/// Whether a layer passes on the numbers that it reads, when nothing is trained.
pub(super) fn passes_on(layer: &Layer) -> bool {
    matches!(layer, Layer::Dropout(_) | Layer::SpatialDropout(_)) || layer.kind() == "flatten"
}

/// Numbers of the images: as many as are asked for, if the products of so many layers fit.
fn fitting(split: &Split, samples: usize, layers: usize) -> Result<Vec<usize>> {
    let most = (LIMIT / 8 / layers.max(1)).isqrt().max(FEWEST);
    let images = chosen(split, samples.min(most))?;
    if images.len() < FEWEST {
        return Err(Error::Argument(format!("CKA over {} images; at least {FEWEST} are needed", images.len())));
    }
    Ok(images)
}

/// The kernels of layers. All images go through the network again and again, each time for as many numbers of the layers as
/// fit into the budget.
fn kernels(model: &Model, layers: &[String], split: &Split, images: &[usize], machine: &Machine) -> Result<Vec<Kernel>> {
    let network = model.network();
    check_image(network.input_shape(), split.image(0))?;
    let ids = layers.iter().map(|layer| network.find(layer)).collect::<Result<Vec<NodeId>>>()?;
    let n = images.len();
    let mut grams: Vec<Option<Gram>> = vec![None; ids.len()];
    let mut kernels: Vec<Kernel> = Vec::with_capacity(ids.len());
    let mut viewer = Viewer::new(model, n, machine)?;
    for pass in passes(&ids.iter().map(|id| network.shape(*id).image()).collect::<Vec<_>>(), BUDGET / 4 / n) {
        let mut pieces: Vec<Vec<f32>> = pass.iter().map(|piece| vec![0.0; n * piece.numbers.len()]).collect();
        let last = pass.iter().map(|piece| ids[piece.layer]).max_by_key(|id| id.index());
        let until = if pass.len() == 1 { last } else { None };
        let write = |number: usize, values: &mut [f32]| model.normalisation().apply(split.image(images[number]), values);
        viewer.show(n, until, write, |shown, plan| {
            for (piece, values) in pass.iter().zip(&mut pieces) {
                // Products do not depend on the order of the numbers, so they are taken as they lie.
                let Some(stored) = plan.stored_activation(ids[piece.layer]) else { continue };
                let rows = values.chunks_exact_mut(piece.numbers.len()).skip(shown.start);
                for (row, image) in rows.zip(stored.values.chunks_exact(stored.shape.image())).take(shown.len()) {
                    row.copy_from_slice(&image[piece.numbers.clone()]);
                }
            }
        });
        for (piece, values) in pass.iter().zip(&pieces) {
            let mut gram = grams[piece.layer].take().unwrap_or_else(|| Gram::new(n));
            gram.add(values, machine);
            if piece.last {
                kernels.push(Kernel::centred(gram.finish(), n));
            } else {
                grams[piece.layer] = Some(gram);
            }
        }
    }
    Ok(kernels)
}

/// Some numbers of a layer.
struct Piece {
    layer: usize,
    numbers: std::ops::Range<usize>,
    /// Whether they are the last of the layer.
    last: bool,
}

/// All numbers of all layers in order, cut so that each pass has at most `most`.
fn passes(lengths: &[usize], most: usize) -> Vec<Vec<Piece>> {
    let most = most.max(1);
    let (mut passes, mut pass, mut room) = (Vec::new(), Vec::new(), most);
    for (layer, &length) in lengths.iter().enumerate() {
        let mut start = 0;
        while start < length {
            let end = length.min(start + room);
            pass.push(Piece { layer, numbers: start..end, last: end == length });
            room -= end - start;
            start = end;
            if room == 0 {
                passes.push(std::mem::take(&mut pass));
                room = most;
            }
        }
    }
    if !pass.is_empty() {
        passes.push(pass);
    }
    passes
}

impl Kernel {
    fn centred(mut products: Vec<f64>, n: usize) -> Self {
        centre(&mut products, n);
        Self { products }
    }
}

/// The plain and the debiased HSIC, but for a factor that falls out of every CKA.
fn hsic(k: &Kernel, l: &Kernel, n: usize) -> [f64; 2] {
    let whole: f64 = k.products.chunks_exact(n).zip(l.products.chunks_exact(n)).map(|(k, l)| dot(k, l)).sum();
    let diagonal = |kernel: &Kernel| (0..n).map(|row| kernel.products[row * n + row]).collect::<Vec<f64>>();
    let (k, l) = (diagonal(k), diagonal(l));
    let (along, n) = (dot(&k, &l), n as f64);
    let sums = k.iter().sum::<f64>() * l.iter().sum::<f64>();
    [whole, whole - along + sums / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * along]
}

/// Four sums at a time, in an order that only the length decides.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (whole_a, whole_b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = whole_a.remainder().iter().zip(whole_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in whole_a.zip(whole_b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f64>() + rest
}

/// Below this share of the plain HSIC an estimate of a layer with itself is rounding.
const NOTHING: f64 = 1e-12;

fn ratio(xy: f64, xx: f64, yy: f64) -> Option<f64> {
    let product = xx * yy;
    (xx > 0.0 && yy > 0.0 && product.is_finite() && product > 0.0).then(|| xy / (xx.sqrt() * yy.sqrt())).filter(|value| value.is_finite())
}

fn table(layers: [&[String]; 2], [rows, columns]: [&[Kernel]; 2], images: &[usize], split: &Split, machine: &Machine) -> Similarity {
    let n = images.len();
    let own = |kernels: &[Kernel]| {
        let mut found = vec![[0.0; 2]; kernels.len()];
        machine.threads.chunks_mut(&mut found, 1, |number, found| {
            let [plain, debiased] = hsic(&kernels[number], &kernels[number], n);
            found[0] = [plain, if debiased > NOTHING * plain { debiased } else { 0.0 }];
        });
        found
    };
    let (of_rows, of_columns) = (own(rows), own(columns));
    let mut pairs = vec![[None; 2]; rows.len() * columns.len()];
    machine.threads.chunks_mut(&mut pairs, 1, |pair, found| {
        let (row, column) = (pair / columns.len(), pair % columns.len());
        let both = hsic(&rows[row], &columns[column], n);
        found[0] = [0, 1].map(|estimate| ratio(both[estimate], of_rows[row][estimate], of_columns[column][estimate]));
    });
    let estimate = |number: usize| pairs.iter().map(|pair| pair[number]).collect();
    Similarity {
        rows: layers[0].to_vec(),
        columns: layers[1].to_vec(),
        images: n,
        of: split.len(),
        plain: estimate(0),
        debiased: estimate(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Normalisation};
    use crate::initialise::{Initialisation, initial_parameters};
    use crate::random::{Address, Purpose};
    use convnet_kernels::Isa;

    fn machine(threads: usize) -> Machine {
        Machine::new(Isa::detect(), threads)
    }

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Address::new(seed, Purpose::Check).random();
        (0..count).map(|_| random.normal() as f32).collect()
    }

    #[test]
    fn a_layer_is_like_itself_turned_and_scaled() {
        let (rows, columns) = (20, 6);
        let x = random(rows * columns, 1);
        // Three turns in planes, 7 times as large, and moved.
        let mut turned: Vec<f64> = x.iter().map(|value| f64::from(*value)).collect();
        for (a, b, angle) in [(0, 1, 0.4), (2, 5, 1.3), (1, 4, -0.8)] {
            let (sin, cos) = (libm::sin(angle), libm::cos(angle));
            for row in turned.chunks_exact_mut(columns) {
                (row[a], row[b]) = (cos * row[a] - sin * row[b], sin * row[a] + cos * row[b]);
            }
        }
        let turned: Vec<f32> = turned.iter().enumerate().map(|(index, value)| (7.0 * value + (index % columns) as f64) as f32).collect();
        for (y, tolerance) in [(&x, 1e-14), (&turned, 1e-6)] {
            for found in cka(&x, y, rows, &machine(1)).unwrap() {
                assert!((found.unwrap() - 1.0).abs() < tolerance, "{found:?}");
            }
        }
    }

    #[test]
    fn the_debiased_estimate_sees_that_unrelated_layers_are_unrelated() {
        let (rows, columns) = (40, 400);
        let [plain, debiased] = cka(&random(rows * columns, 1), &random(rows * columns, 2), rows, &machine(2)).unwrap().map(Option::unwrap);
        assert!(plain > 0.85, "many numbers, few images: {plain}");
        assert!(debiased.abs() < 0.05, "{debiased}");
        assert_eq!(cka(&[3.0; 8], &random(8, 3), 4, &machine(1)).unwrap(), [None, None], "a layer that is the same for all images");
        assert!(cka(&[1.0; 6], &[1.0; 6], 3, &machine(1)).unwrap_err().to_string().contains("at least 4"));
    }

    fn model(text: &str, seed: u64) -> Model {
        let network = Network::parse(text).unwrap();
        let parameters = initial_parameters(&network, Initialisation::default(), seed).unwrap();
        Model::new(network, parameters, Dataset::embedded().classes, Normalisation::of(&Dataset::embedded().test)).unwrap()
    }

    const TEXT: &str = "input 1x28x28 -> conv 4 5x5 -> relu -> maxpool 2 -> add( conv 4 3x3 pad 1 | identity ) -> flatten -> fc 10";

    #[test]
    fn the_layers_of_networks_are_compared_the_same_for_any_threads() {
        let (one, other) = (model(TEXT, 1), model("input 1x28x28 -> conv 3 3x3 -> relu -> flatten -> fc 10", 2));
        let split = Dataset::embedded().test;
        let layers = comparable(one.network());
        assert_eq!(layers, ["conv1", "relu1", "maxpool1", "conv2", "add1", "fc1"]);
        let found = similarity(&one, &layers, &split, 50, &machine(1)).unwrap();
        assert_eq!((found.images, found.plain.len()), (50, 36));
        for estimate in [&found.plain, &found.debiased] {
            for (row, column) in (0..6).flat_map(|row| (0..6).map(move |column| (row, column))) {
                let value = estimate[row * 6 + column].unwrap();
                assert!((value - estimate[column * 6 + row].unwrap()).abs() < 1e-12, "symmetric");
                assert!(value < 1.0 + 1e-12 && (row != column || value > 1.0 - 1e-12), "{row} {column}: {value}");
            }
        }
        let both = comparison([&one, &other], [&layers, &comparable(other.network())], &split, 50, &machine(1)).unwrap();
        assert_eq!((both.columns.len(), both.plain.len()), (3, 18));
        let same = comparison([&one, &one], [&layers, &layers], &split, 50, &machine(1)).unwrap();
        assert_eq!((&same.plain, &same.debiased), (&found.plain, &found.debiased));
        for threads in [2, 3] {
            assert_eq!(similarity(&one, &layers, &split, 50, &machine(threads)).unwrap(), found);
        }
    }

    #[test]
    fn layers_in_pieces_are_all_there() {
        let found = passes(&[5, 1, 12, 3], 7);
        assert!(found.iter().all(|pass| pass.iter().map(|piece| piece.numbers.len()).sum::<usize>() <= 7));
        let all: Vec<&Piece> = found.iter().flatten().collect();
        for (layer, length) in [5, 1, 12, 3].into_iter().enumerate() {
            let pieces: Vec<&&Piece> = all.iter().filter(|piece| piece.layer == layer).collect();
            assert_eq!(pieces.iter().map(|piece| piece.numbers.len()).sum::<usize>(), length);
            assert!(pieces.iter().enumerate().all(|(place, piece)| piece.last == (place + 1 == pieces.len())));
        }
        let whole = kernels(&model(TEXT, 1), &["conv1".to_owned()], &Dataset::embedded().test, &[0, 9, 11, 20], &machine(1)).unwrap();
        assert_eq!(whole[0].products.len(), 16);
        assert!(fitting(&Dataset::embedded().test, 1000, 5000).unwrap().len() < 200, "the memory of all layers is bounded");
        assert!(fitting(&Dataset::embedded().test, 3, 2).unwrap_err().to_string().contains("at least 4"));
    }
}
