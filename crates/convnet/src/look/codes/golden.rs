//! Maps, similarities and assignments against those of scikit-learn, numpy and scipy: all cases of `golden/codes.safetensors`.

use std::path::Path;

use convnet_formats::safetensors::{self, TensorFile};
use convnet_kernels::{Isa, Machine};

use super::tsne::{Descent, joint};
use super::{Codes, Tsne, assign, pca, trustworthiness, tsne};
use crate::look::similarity::cka;

fn golden_file() -> TensorFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/codes.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    safetensors::read(&bytes).unwrap()
}

fn machine() -> Machine {
    Machine::new(Isa::detect(), 2)
}

struct Golden {
    file: TensorFile,
}

impl Golden {
    fn values(&self, name: &str) -> Vec<f32> {
        self.file.tensors.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_f32().into_owned()
    }

    fn codes(&self, case: &str) -> Codes {
        let values = self.values(&format!("{case}/values"));
        let rows = self.file.tensors[&format!("{case}/values")].dims[0];
        Codes::of_rows("fc1", vec![0; rows], values).unwrap()
    }

    fn told(&self, case: &str) -> serde_json::Value {
        serde_json::from_str(&self.file.metadata[case]).unwrap()
    }

    /// Golden numbers are rounded once to f32; `tolerance` is what the computation adds, as a share of the largest.
    fn compare(&self, name: &str, found: impl IntoIterator<Item = f64>, tolerance: f64) {
        let found: Vec<f64> = found.into_iter().collect();
        let golden = self.values(name);
        assert_eq!(found.len(), golden.len(), "{name}: as many numbers");
        let largest = golden.iter().fold(0.0_f64, |largest, value| largest.max(f64::from(value.abs())));
        let bound = (f64::from(f32::EPSILON) / 2.0 + tolerance) * largest;
        for (place, (found, golden)) in found.iter().zip(&golden).enumerate() {
            assert!((found - f64::from(*golden)).abs() <= bound, "{name} {place}: {found} instead of {golden}");
        }
    }
}

const CASES: [&str; 2] = ["tall", "wide"];

#[test]
fn principal_components_are_those_of_scikit_learn() {
    let golden = Golden { file: golden_file() };
    for case in CASES {
        let found = pca(&golden.codes(case), 4, &machine()).unwrap();
        golden.compare(&format!("{case}/pca.shares"), found.shares, 1e-12);
        golden.compare(&format!("{case}/pca.components"), found.components, 1e-10);
        golden.compare(&format!("{case}/pca.coordinates"), found.coordinates, 1e-10);
    }
}

#[test]
fn the_pairs_the_divergence_and_the_gradient_of_tsne_are_those_of_scikit_learn() {
    let golden = Golden { file: golden_file() };
    for case in CASES {
        let codes = golden.codes(case);
        let n = codes.images.len();
        let perplexity = golden.told(case)["perplexity"].as_f64().unwrap();
        let pairs = joint(&codes.square_distances(&machine()).unwrap(), n, perplexity, &machine());
        // It takes the distances as f32, and both stop where the entropy is right to 1e-5.
        golden.compare(&format!("{case}/tsne.joint"), pairs.iter().copied(), 1e-5);
        let map = golden.values(&format!("{case}/map"));
        let places = [0, 1].map(|axis| map.iter().skip(axis).step_by(2).map(|place| f64::from(*place)).collect::<Vec<f64>>());
        let mut descent = Descent::new(&pairs, places);
        golden.compare(&format!("{case}/tsne.divergence"), [descent.divergence(&machine())], 1e-5);
        let [x, y] = descent.gradient(1.0, &machine());
        golden.compare(&format!("{case}/tsne.gradient"), x.into_iter().zip(y).flat_map(|(x, y)| [x, y]), 1e-5);
        let reached = tsne(&codes, &Tsne { perplexity, ..Tsne::default() }, &machine()).unwrap().divergence;
        let theirs = f64::from(golden.values(&format!("{case}/tsne.reached"))[0]);
        // Theirs is one of several minima that other beginnings lead to, which are up to a fifth apart.
        assert!(reached < 1.25 * theirs, "{case}: a map as good as theirs: {reached} and {theirs}");
    }
}

#[test]
fn trustworthiness_is_that_of_scikit_learn() {
    let golden = Golden { file: golden_file() };
    for case in CASES {
        let codes = golden.codes(case);
        let map: Vec<[f64; 2]> =
            golden.values(&format!("{case}/map")).chunks_exact(2).map(|place| [f64::from(place[0]), f64::from(place[1])]).collect();
        for count in golden.told(case)["neighbours"].as_array().unwrap() {
            let count = count.as_u64().unwrap() as usize;
            let found = trustworthiness(&codes, &map, count, &machine()).unwrap();
            golden.compare(&format!("{case}/trustworthiness.{count}"), [found], 1e-12);
        }
    }
}

#[test]
fn an_assignment_costs_no_more_than_that_of_scipy() {
    let golden = Golden { file: golden_file() };
    let costs: Vec<f64> = golden.values("assignment/costs").into_iter().map(f64::from).collect();
    let chosen = assign(&costs, 40, 49).unwrap();
    golden.compare("assignment/least", [chosen.iter().enumerate().map(|(row, column)| costs[row * 49 + column]).sum()], 1e-12);
}

#[test]
fn both_estimates_of_cka_are_those_of_numpy_by_the_formulas_of_the_papers() {
    let golden = Golden { file: golden_file() };
    let spaces: Vec<String> = serde_json::from_value(golden.told("similarity")["spaces"].clone()).unwrap();
    for space in &spaces {
        for (a, b) in [("x", space.as_str()), (space.as_str(), "unrelated")] {
            let [x, y] = [a, b].map(|name| golden.values(&format!("similarity/{name}")));
            let found = cka(&x, &y, 30, &machine()).unwrap().map(Option::unwrap);
            golden.compare(&format!("similarity/{a}-{b}.cka"), found, 1e-11);
        }
    }
}
