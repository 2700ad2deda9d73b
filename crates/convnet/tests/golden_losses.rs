//! Every loss against PyTorch: value and gradient of the cases of `golden/losses.safetensors`.

use std::path::Path;

use convnet::loss::{Loss, mean_squared_error};
use convnet_formats::safetensors::{TensorFile, Values, read};
use convnet_kernels::Real;
use serde_json::Value;

fn golden() -> TensorFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/losses.safetensors");
    read(&std::fs::read(path).expect("the golden file is in the repository")).expect("the golden file is whole")
}

/// One case in the precision of the test.
struct Case<'a> {
    name: &'a str,
    file: &'a TensorFile,
    settings: Value,
}

impl Case<'_> {
    fn values<T: Real>(&self, part: &str) -> Option<Vec<T>> {
        let tensor = self.file.tensors.get(&format!("{}/{part}", self.name))?;
        Some(tensor.to_f32().iter().map(|&value| T::from_f32(value)).collect())
    }

    fn labels(&self) -> Vec<usize> {
        match &self.file.tensors[&format!("{}/target", self.name)].values {
            Values::I64(labels) => labels.iter().map(|&label| usize::try_from(label).expect("a class")).collect(),
            other => panic!("{}: labels of type {:?}", self.name, other.dtype()),
        }
    }

    fn number(&self, key: &str) -> f64 {
        self.settings[key].as_f64().expect("a number")
    }

    /// The value and the gradient.
    fn compute<T: Real>(&self) -> (f64, Vec<T>) {
        let scores: Vec<T> = self.values("input").expect("an input");
        let mut gradient = vec![T::ZERO; scores.len()];
        let weights = self.values::<f64>("class_weights");
        let loss = match self.settings["loss"].as_str() {
            Some("cross entropy") => Loss::CrossEntropy { smoothing: self.number("label_smoothing"), weights },
            Some("multi margin") => Loss::MultiMargin { power: self.number("p") as u32, margin: self.number("margin"), weights },
            Some("mean squared error") => {
                let targets: Vec<T> = self.values("target").expect("a target");
                return (mean_squared_error(&scores, &targets, &mut gradient), gradient);
            }
            other => panic!("{}: unknown loss {other:?}", self.name),
        };
        let labels = self.labels();
        let classes = scores.len() / labels.len();
        loss.check(classes).expect("settings that PyTorch takes");
        (loss.value_and_gradient(&scores, classes, &labels, &mut gradient), gradient)
    }
}

/// Half a unit in the last place of the `f32` in the file, and the error of double precision.
fn near(value: f64, golden: f32) -> bool {
    let golden = f64::from(golden);
    (value - golden).abs() <= golden.abs() * f64::from(f32::EPSILON) / 2.0 + 1e-14
}

#[test]
fn every_loss_has_the_value_and_the_gradient_of_pytorch() {
    let file = golden();
    let mut cases = 0;
    for (name, text) in file.metadata.iter().filter(|(name, _)| *name != "about") {
        let case = Case { name, file: &file, settings: serde_json::from_str(text).expect("settings") };
        let expected = case.values::<f32>("value").expect("a value")[0];
        let expected_gradient = case.values::<f32>("grad_input").expect("a gradient");
        let (value, gradient) = case.compute::<f64>();
        assert!(near(value, expected), "{name}: {value}, not {expected}");
        for (place, (&value, &expected)) in gradient.iter().zip(&expected_gradient).enumerate() {
            assert!(near(value, expected), "{name}: gradient {value} at {place}, not {expected}");
        }
        let (value, gradient) = case.compute::<f32>();
        assert!(near(value, expected), "{name} in f32: {value}, not {expected}");
        for (place, (&value, &expected)) in gradient.iter().zip(&expected_gradient).enumerate() {
            // Rounded once here and once in the file.
            let tolerance = expected.abs() * f32::EPSILON + 1e-14;
            assert!((value - expected).abs() <= tolerance, "{name} in f32: gradient {value} at {place}, not {expected}");
        }
        cases += 1;
    }
    assert_eq!(cases, 26);
}
