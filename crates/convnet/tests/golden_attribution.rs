//! Attributions against those of Captum and pytorch-grad-cam: all cases of `golden/attribution.safetensors`, in `f32` and
//! `f64`.

use std::collections::BTreeSet;
use std::path::Path;

use convnet::look::attribution::{Attribution, Evidence, Method, Settings, Subject, Target};
use convnet::network::{Network, Parameters};
use convnet::tensor::Tensor;
use convnet_formats::safetensors::{self, TensorFile};
use convnet_kernels::Real;

fn golden_file() -> TensorFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/attribution.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    safetensors::read(&bytes).unwrap()
}

/// One network of the file.
struct Golden<'a, T> {
    name: &'a str,
    file: &'a TensorFile,
    told: serde_json::Value,
    network: Network,
    parameters: Parameters<T>,
}

impl<'a, T: Real> Golden<'a, T> {
    fn read(file: &'a TensorFile, name: &'a str) -> Self {
        let told: serde_json::Value = serde_json::from_str(&file.metadata[name]).unwrap();
        let network = Network::parse(told["network"].as_str().unwrap()).unwrap();
        let tensor = |parameter: &str| {
            let tensor = &file.tensors[&format!("{name}/param.{parameter}")];
            let values = tensor.to_f32().iter().map(|value| T::from_f32(*value)).collect();
            Tensor::new(tensor.dims.clone(), values)
        };
        let parameters = Parameters::from_tensors(&network, tensor).unwrap();
        Self { name, file, told, network, parameters }
    }

    fn values(&self, name: &str) -> Vec<T> {
        let tensor = self.file.tensors.get(&format!("{}/{name}", self.name)).unwrap_or_else(|| panic!("{}/{name} is missing", self.name));
        tensor.to_f32().iter().map(|value| T::from_f32(*value)).collect()
    }

    fn pair(&self, name: &str) -> Option<[usize; 2]> {
        serde_json::from_value(self.told[name].clone()).ok()
    }

    fn settings(&self, target: usize) -> Settings<T> {
        Settings {
            steps: self.told["steps"].as_u64().unwrap() as usize,
            baseline: Some(self.values(&format!("{target}/integrated-gradients.baseline"))),
            window: self.pair("window"),
            stride: self.pair("stride"),
            fill: Some(self.values(&format!("{target}/occlusion.fill"))),
            ..Settings::default()
        }
    }
}

/// The largest difference from the golden numbers, as a share of the largest of them, and how far that may be: half a unit in the
/// last place of the golden numbers, and the rounding errors of as many layers of sums as the networks have, over as many terms
/// as their largest tensor has numbers.
fn compare<T: Real>(what: &str, found: &[T], golden: &[T], worst: &mut f64) {
    assert_eq!(found.len(), golden.len(), "{what}: as many numbers");
    let largest = golden.iter().fold(0.0_f64, |largest, value| largest.max(value.to_f64().abs()));
    let tolerance = f64::from(f32::EPSILON) / 2.0 + 16.0 * T::EPSILON.to_f64() * 1000.0_f64.sqrt();
    let difference = found.iter().zip(golden).fold(0.0_f64, |most, (a, b)| most.max((a.to_f64() - b.to_f64()).abs())) / largest;
    assert!(difference <= tolerance, "{what}: off by {difference:e} of the largest, allowed is {tolerance:e}");
    *worst = worst.max(difference);
}

/// What pytorch-grad-cam shows of a map over an image: what is above 0, stretched and brought to 0 … 1.
fn shown<T: Real>(map: &Attribution<T>, size: [usize; 2]) -> Vec<f64> {
    let values: Vec<f64> = map.over_image(size).values().iter().map(|value| value.to_f64()).collect();
    let (least, largest) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, largest), value| (least.min(*value), largest.max(*value)));
    values.iter().map(|value| (value - least) / (largest - least)).collect()
}

fn every_case_equals_the_golden_one<T: Real>() {
    let file = golden_file();
    let mut compared = BTreeSet::new();
    for name in ["residual", "inception"] {
        let golden = Golden::<T>::read(&file, name);
        let mut subject = Subject::new(&golden.network, &golden.parameters).unwrap();
        let image = golden.values("image");
        let size = [golden.network.input_shape().h, golden.network.input_shape().w];
        let mut worst = 0.0;
        compare(&format!("{name}, scores"), &subject.scores(&image).unwrap(), &golden.values("scores"), &mut worst);
        for target in golden.told["targets"].as_array().unwrap().iter().map(|target| target.as_u64().unwrap() as usize) {
            let settings = golden.settings(target);
            for method in Method::ALL.into_iter().filter(|method| !method.reads_a_layer()) {
                let case = format!("{target}/{method}");
                let found = if method == Method::SmoothGrad {
                    subject.smooth_gradient(&image, &Target::Class(target), &golden.values(&format!("{case}.noise"))).unwrap()
                } else {
                    subject.attribute(&image, &Target::Class(target), method, &settings).unwrap()
                };
                let mut off = 0.0;
                compare(&format!("{name}, {case}"), found.map.values(), &golden.values(&case), &mut off);
                println!("{:>4} {name:9} class {target}: {method:22} off by {off:.1e} of the largest", type_name::<T>());
                if let Some(completeness) = found.completeness {
                    // The package's figure is sum minus difference too.
                    let missing = golden.values(&format!("{case}.missing"))[0].to_f64();
                    let allowed = 1e-4 * completeness.difference.abs();
                    assert!((completeness.error() - missing).abs() < allowed, "{name}, {case}: {completeness:?} and {missing}");
                }
                compared.insert(method.name());
            }
            for layer in golden.told["layers"].as_array().unwrap().iter().map(|layer| layer.as_str().unwrap()) {
                let settings = Settings { layer: Some(layer.into()), ..Settings::default() };
                for method in [Method::GradCam, Method::GradCamPlusPlus, Method::LayerCam] {
                    let case = format!("{target}/{method}.{layer}");
                    let found = subject.attribute(&image, &Target::Class(target), method, &settings).unwrap();
                    let mut off = 0.0;
                    compare(&format!("{name}, {case}"), found.map.values(), &golden.values(&case), &mut off);
                    println!("{:>4} {name:9} class {target}: {method:11} of {layer:10} off by {off:.1e} of the largest", type_name::<T>());
                    let picture = golden.values(&format!("{case}.shown"));
                    if found.evidence == Evidence::Positive {
                        // The package adds 10⁻⁷ to what it divides by, and computes the picture in single precision.
                        for (found, golden) in shown(&found, size).into_iter().zip(&picture) {
                            assert!((found - golden.to_f64()).abs() < 1e-5, "{name}, {case}: shown {found}, not {golden:?}");
                        }
                    } else {
                        assert!(picture.iter().all(|value| *value == T::ZERO), "{name}, {case}: no evidence is an empty picture");
                    }
                    compared.insert(method.name());
                }
            }
        }
        let prefix = format!("{name}/{}/neuron.", golden.told["targets"][0]);
        let case = file.tensors.keys().find_map(|key| key.strip_prefix(&prefix)).unwrap();
        let target = Target::parse(case, &[]).unwrap();
        let found = subject.attribute(&image, &target, Method::Gradient, &Settings::default()).unwrap();
        let expected = golden.values(&format!("{}/neuron.{case}", golden.told["targets"][0]));
        compare(&format!("{name}, {case}"), found.map.values(), &expected, &mut worst);
    }
    assert_eq!(compared.len(), Method::ALL.len() - 1, "all but Score-CAM: {compared:?}");
}

fn type_name<T>() -> &'static str {
    std::any::type_name::<T>()
}

#[test]
fn attributions_equal_those_of_captum_and_pytorch_grad_cam_in_single_precision() {
    every_case_equals_the_golden_one::<f32>();
}

#[test]
fn attributions_equal_those_of_captum_and_pytorch_grad_cam_in_double_precision() {
    every_case_equals_the_golden_one::<f64>();
}
