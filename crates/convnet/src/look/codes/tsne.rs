//! t-SNE: a map of codes on which near codes lie near each other (van der Maaten and Hinton, "Visualizing data using t-SNE",
//! 2008), computed exactly, over all pairs.
//!
//! ```text
//! p(j|i) ∝ exp(−βᵢ·‖xᵢ − xⱼ‖²), βᵢ such that 2^entropy is the perplexity;   pᵢⱼ = (p(j|i) + p(i|j))/2N
//! qᵢⱼ ∝ 1/(1 + ‖yᵢ − yⱼ‖²);   minimised is KL = Σ pᵢⱼ·ln(pᵢⱼ/qᵢⱼ)
//! ```
//!
//! Steps, momentum, gains and the learning rate are those of scikit-learn 1.9. The start is the first two principal
//! components, small: nothing is random, and the places on the large are kept as far as possible (Kobak and Berens, "The art
//! of using t-SNE for single-cell transcriptomics", 2019).

use convnet_kernels::Machine;

use super::{Codes, pca};
use crate::error::{Error, Result};

/// The most images of a map.
const MOST: usize = 2048;
/// How much stronger neighbours attract each other at first, for so many steps.
const EXAGGERATION: f64 = 12.0;
const EXAGGERATED: usize = 250;
/// Standard deviation of the first coordinate at the start.
const START: f64 = 1e-4;
/// Halvings for a β, and how near to the entropy it ends.
const SEARCH: usize = 100;
const NEAR: f64 = 1e-5;
/// Numbers that are worked on together.
const LANES: usize = 4;
/// Rows that a thread takes at a time.
const ROWS: usize = 16;

/// How a map is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tsne {
    /// About how many neighbours an image has; at most a third of the images.
    pub perplexity: f64,
    /// Steps of descent.
    pub steps: usize,
}

impl Default for Tsne {
    fn default() -> Self {
        Self { perplexity: 30.0, steps: 1000 }
    }
}

/// A map.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The place of each image.
    pub points: Vec<[f64; 2]>,
    /// What was minimised: KL at the end.
    pub divergence: f64,
    /// The perplexity that was used.
    pub perplexity: f64,
}

/// Makes a map of codes.
///
/// # Errors
/// There are fewer than 4 images or more than 2048, the perplexity is not above 1, or a number is not finite.
pub fn tsne(codes: &Codes, settings: &Tsne, machine: &Machine) -> Result<Embedding> {
    let n = codes.images.len();
    if !(4..=MOST).contains(&n) {
        return Err(Error::Argument(format!("a t-SNE of {n} images; it takes from 4 to {MOST}")));
    }
    if !(settings.perplexity > 1.0 && settings.perplexity.is_finite()) {
        return Err(Error::Argument(format!("a t-SNE with the perplexity {}; it is above 1, and usually 5 to 50", settings.perplexity)));
    }
    let start = start(codes, machine)?;
    let perplexity = settings.perplexity.min((n - 1) as f64 / 3.0).max(1.0);
    let joint = joint(&codes.square_distances(machine)?, n, perplexity, machine);
    let mut descent = Descent::new(&joint, start);
    for step in 0..settings.steps {
        descent.step(step, machine);
    }
    let divergence = descent.divergence(machine);
    Ok(Embedding { points: descent.points(), divergence, perplexity })
}

/// The first two principal components, so small that all begin near each other.
fn start(codes: &Codes, machine: &Machine) -> Result<[Vec<f64>; 2]> {
    let n = codes.images.len();
    let found = pca(codes, 2, machine)?;
    let count = found.shares.len();
    let coordinate = |axis: usize| (0..n).map(move |row| (row, axis)).collect::<Vec<_>>();
    let read = |(row, axis): (usize, usize)| if axis < count { found.coordinates[row * count + axis] } else { 0.0 };
    let axes = [0, 1].map(|axis| coordinate(axis).into_iter().map(read).collect::<Vec<f64>>());
    let spread = (axes[0].iter().map(|value| value * value).sum::<f64>() / n as f64).sqrt();
    let factor = if spread > 0.0 { START / spread } else { 0.0 };
    Ok(axes.map(|axis| axis.into_iter().map(|value| factor * value).collect()))
}

/// pᵢⱼ, N×N, from squared distances.
pub(super) fn joint(squares: &[f64], n: usize, perplexity: f64, machine: &Machine) -> Vec<f64> {
    let mut conditional = squares.to_vec();
    let entropy = libm::log(perplexity);
    machine.threads.chunks_mut(&mut conditional, n, |row, distances| spread(distances, row, entropy));
    let total = 2.0 * n as f64;
    (0..n * n).map(|index| (conditional[index] + conditional[index % n * n + index / n]) / total).collect()
}

/// Turns a row of squared distances into probabilities of this entropy, in nats.
fn spread(row: &mut [f64], own: usize, entropy: f64) {
    let (mut beta, mut low, mut high) = (1.0, f64::NEG_INFINITY, f64::INFINITY);
    let others = |row: &[f64]| (0..row.len()).filter(|other| *other != own).map(|other| row[other]).collect::<Vec<f64>>();
    let distances = others(row);
    // Distances count from the nearest: the same probabilities, and no exponential falls below what a number can be.
    let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
    let mut weights = vec![0.0; distances.len()];
    for _ in 0..SEARCH {
        let (mut sum, mut moment) = (0.0, 0.0);
        for (weight, distance) in weights.iter_mut().zip(&distances) {
            let distance = distance - nearest;
            *weight = libm::exp(-beta * distance);
            sum += *weight;
            moment += *weight * distance;
        }
        weights.iter_mut().for_each(|weight| *weight /= sum);
        let off = libm::log(sum) + beta * moment / sum - entropy;
        if off.abs() <= NEAR {
            break;
        }
        if off > 0.0 {
            low = beta;
            beta = if high.is_finite() { (beta + high) / 2.0 } else { 2.0 * beta };
        } else {
            high = beta;
            beta = if low.is_finite() { (beta + low) / 2.0 } else { beta / 2.0 };
        }
    }
    row[own] = 0.0;
    let places = (0..row.len()).filter(|other| *other != own).collect::<Vec<usize>>();
    places.into_iter().zip(weights).for_each(|(place, weight)| row[place] = weight);
}

/// What one image feels of all others.
#[derive(Clone, Copy, Debug, Default)]
struct Forces {
    attraction: [f64; 2],
    repulsion: [f64; 2],
    /// Σ over the others of 1/(1 + ‖yᵢ − yⱼ‖²).
    weight: f64,
}

/// A map under way.
pub(super) struct Descent<'a> {
    joint: &'a [f64],
    places: [Vec<f64>; 2],
    moves: [Vec<f64>; 2],
    gains: [Vec<f64>; 2],
    forces: Vec<Forces>,
}

impl<'a> Descent<'a> {
    pub fn new(joint: &'a [f64], places: [Vec<f64>; 2]) -> Self {
        let n = places[0].len();
        let moves = [vec![0.0; n], vec![0.0; n]];
        Self { joint, places, moves, gains: [vec![1.0; n], vec![1.0; n]], forces: vec![Forces::default(); n] }
    }

    fn points(&self) -> Vec<[f64; 2]> {
        self.places[0].iter().zip(&self.places[1]).map(|(x, y)| [*x, *y]).collect()
    }

    /// The gradient of KL for each image, its attraction so many times as strong.
    pub fn gradient(&mut self, exaggeration: f64, machine: &Machine) -> [Vec<f64>; 2] {
        let (joint, [x, y]) = (self.joint, &self.places);
        machine.threads.chunks_mut(&mut self.forces, ROWS, |piece, forces| {
            for (row, forces) in forces.iter_mut().enumerate() {
                *forces = forces_on(piece * ROWS + row, joint, x, y);
            }
        });
        let total: f64 = self.forces.iter().map(|forces| forces.weight).sum();
        [0, 1].map(|axis| {
            let of = |forces: &Forces| 4.0 * (exaggeration * forces.attraction[axis] - forces.repulsion[axis] / total);
            self.forces.iter().map(of).collect()
        })
    }

    fn step(&mut self, step: usize, machine: &Machine) {
        let n = self.places[0].len() as f64;
        if step == EXAGGERATED {
            self.moves.iter_mut().for_each(|moves| moves.fill(0.0));
            self.gains.iter_mut().for_each(|gains| gains.fill(1.0));
        }
        let (exaggeration, momentum) = if step < EXAGGERATED { (EXAGGERATION, 0.5) } else { (1.0, 0.8) };
        let rate = (n / EXAGGERATION / 4.0).max(50.0);
        let gradients = self.gradient(exaggeration, machine);
        for (axis, gradient) in gradients.iter().enumerate() {
            for (number, gradient) in gradient.iter().enumerate() {
                let (moved, gain) = (&mut self.moves[axis][number], &mut self.gains[axis][number]);
                *gain = if *moved * gradient < 0.0 { *gain + 0.2 } else { *gain * 0.8 }.max(0.01);
                *moved = momentum * *moved - rate * *gain * gradient;
                self.places[axis][number] += *moved;
            }
        }
    }

    /// KL.
    pub fn divergence(&mut self, machine: &Machine) -> f64 {
        let n = self.places[0].len();
        self.gradient(1.0, machine);
        let total: f64 = self.forces.iter().map(|forces| forces.weight).sum();
        let [x, y] = &self.places;
        let mut rows = vec![0.0; n];
        machine.threads.chunks_mut(&mut rows, 1, |row, sum| {
            for other in (0..n).filter(|other| *other != row) {
                let square = (x[row] - x[other]).powi(2) + (y[row] - y[other]).powi(2);
                let (p, q) = (self.joint[row * n + other], 1.0 / (1.0 + square) / total);
                if p > 0.0 {
                    sum[0] += p * libm::log(p / q.max(f64::MIN_POSITIVE));
                }
            }
        });
        rows.iter().sum()
    }
}

/// All others on one image; several at a time, in an order that only the number of images decides.
fn forces_on(row: usize, joint: &[f64], x: &[f64], y: &[f64]) -> Forces {
    let n = x.len();
    let own = [x[row], y[row]];
    let joint = &joint[row * n..][..n];
    let mut sums = [[0.0; LANES]; 5];
    let mut add = |lane: usize, other: usize| {
        let (across, down) = (own[0] - x[other], own[1] - y[other]);
        let weight = 1.0 / (1.0 + across * across + down * down);
        let (pull, push) = (joint[other] * weight, weight * weight);
        sums[0][lane] += pull * across;
        sums[1][lane] += pull * down;
        sums[2][lane] += push * across;
        sums[3][lane] += push * down;
        sums[4][lane] += weight;
    };
    let whole = n / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        (0..LANES).for_each(|lane| add(lane, first + lane));
    }
    (whole..n).for_each(|other| add(other - whole, other));
    let [ax, ay, rx, ry, weight] = sums.map(|lanes| lanes.iter().sum::<f64>());
    // The image itself has the distance 0, so it pulls nowhere and weighs 1.
    Forces { attraction: [ax, ay], repulsion: [rx, ry], weight: weight - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{machine, of_values};
    use super::*;

    /// Three clouds of points in five dimensions.
    fn clouds() -> Codes {
        let value = |index: usize| {
            let (row, k) = (index / 5, index % 5);
            let centre = if row % 3 == k { 10.0 } else { 0.0 };
            centre + ((index * 53 % 89) as f32).sin()
        };
        of_values(&(0..90 * 5).map(value).collect::<Vec<_>>(), 90)
    }

    #[test]
    fn clouds_stay_apart_and_any_threads_give_the_same_bits() {
        let settings = Tsne { perplexity: 10.0, steps: 600 };
        let found = tsne(&clouds(), &settings, &machine(1)).unwrap();
        let square = |a: usize, b: usize| (0..2).map(|axis| (found.points[a][axis] - found.points[b][axis]).powi(2)).sum::<f64>();
        for a in 0..90 {
            let nearest = (0..90).filter(|b| *b != a).min_by(|b, c| square(a, *b).total_cmp(&square(a, *c))).unwrap();
            assert_eq!(nearest % 3, a % 3, "the neighbour of {a} is {nearest}");
        }
        assert!(found.divergence > 0.0 && found.divergence < 1.0, "{}", found.divergence);
        for threads in [2, 3] {
            assert_eq!(tsne(&clouds(), &settings, &machine(threads)).unwrap(), found);
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_divergence() {
        let codes = clouds();
        let joint = joint(&codes.square_distances(&machine(1)).unwrap(), 90, 12.0, &machine(2));
        assert!((joint.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let places = [0, 1].map(|axis| (0..90).map(|number| ((number * 7 + axis * 3) as f64).sin()).collect::<Vec<f64>>());
        let gradient = Descent::new(&joint, places.clone()).gradient(1.0, &machine(1));
        for (axis, number) in [(0, 0), (1, 17), (0, 44), (1, 89)] {
            let at = |change: f64| {
                let mut places = places.clone();
                places[axis][number] += change;
                Descent::new(&joint, places).divergence(&machine(1))
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((difference - gradient[axis][number]).abs() < 1e-9, "{difference} {}", gradient[axis][number]);
        }
    }

    #[test]
    fn every_row_has_the_perplexity_that_was_asked_for() {
        let codes = clouds();
        let squares = codes.square_distances(&machine(1)).unwrap();
        let mut row = squares[7 * 90..][..90].to_vec();
        spread(&mut row, 7, libm::log(15.0));
        let entropy: f64 = row.iter().filter(|p| **p > 0.0).map(|p| -p * libm::log(*p)).sum();
        assert!((libm::exp(entropy) - 15.0).abs() < 1e-3 && row[7] == 0.0);
        // Far away distances, at which every exponential of the plain formula is 0.
        let mut far = vec![1e6, 0.0, 1e6 + 1.0, 1e6 + 2.0, 1e6 + 1.0];
        spread(&mut far, 1, libm::log(2.0));
        assert!((far.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn codes_that_are_alike_lie_in_one_place_and_wrong_numbers_are_told() {
        let same = tsne(&of_values(&[1.0; 40], 10), &Tsne { steps: 20, ..Tsne::default() }, &machine(1)).unwrap();
        assert!(same.points.iter().all(|point| *point == [0.0, 0.0]));
        let told =
            |settings: Tsne, count: usize| tsne(&of_values(&vec![0.5; count], count), &settings, &machine(1)).unwrap_err().to_string();
        assert!(told(Tsne::default(), 3).contains("from 4 to 2048"));
        assert!(told(Tsne { perplexity: 1.0, ..Tsne::default() }, 9).contains("above 1"));
    }
}
