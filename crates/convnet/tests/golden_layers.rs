//! Every layer, forward and backward, against PyTorch: all cases of `golden/layers.safetensors`, in `f32` and `f64`, for
//! every instruction set of this computer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use convnet::layer::single::Single;
use convnet::layer::{Layer, Role, Word, Words};
use convnet::shape::Shape;
use convnet_formats::safetensors::{self, TensorFile};
use convnet_kernels::{Isa, Machine, Real};

/// Cases of the file, as `golden/README.md` counts them.
const CASES: usize = 184;

fn golden_file() -> TensorFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/layers.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    safetensors::read(&bytes).unwrap()
}

/// One layer, or several in a row, with what goes in and what must come out.
struct Case<'a> {
    name: &'a str,
    layers: Vec<Layer>,
    inputs: Vec<Shape>,
    training: bool,
    file: &'a TensorFile,
}

/// The results of a case by the name of their tensor, `output`, `grad_input0`, `grad.weight`.
type Results<T> = BTreeMap<String, Vec<T>>;

fn read_layer(text: &str) -> Layer {
    let list: Vec<Word> = text.split(' ').map(|word| Word { text: word.into(), offset: 0, length: 0 }).collect();
    let mut words = Words::new(&list, text.len());
    let layer = Layer::read(&mut words).unwrap_or_else(|error| panic!("'{text}': {error:?}"));
    assert!(words.is_done(), "'{text}': words left over");
    layer
}

impl<'a> Case<'a> {
    fn read(name: &'a str, json: &str, file: &'a TensorFile) -> Self {
        let case: serde_json::Value = serde_json::from_str(json).unwrap();
        let sizes: Vec<[usize; 4]> = serde_json::from_value(case["inputs"].clone()).unwrap();
        Self {
            name,
            layers: case["layer"].as_str().unwrap().split(" -> ").map(read_layer).collect(),
            inputs: sizes.into_iter().map(|[n, c, h, w]| Shape::new(n, c, h, w)).collect(),
            training: case["mode"] == "train",
            file,
        }
    }

    fn tensor<T: Real>(&self, name: &str) -> Vec<T> {
        let tensor = &self.file.tensors[&format!("{}/{name}", self.name)];
        tensor.to_f32().iter().map(|&value| T::from_f32(value)).collect()
    }

    /// Computes all results, with each input number multiplied by what `nudge` gives for its place.
    fn run<T: Real>(&self, machine: &Machine, nudge: impl Fn(usize) -> T) -> Results<T> {
        let numbers = (0..self.inputs.len()).map(|index| self.tensor::<T>(&format!("input{index}")));
        let mut inputs: Vec<Vec<T>> = numbers.map(|input| input.iter().enumerate().map(|(place, &x)| x * nudge(place)).collect()).collect();
        let mut shapes = self.inputs.clone();
        let mut singles = Vec::new();
        let mut results = Results::new();
        for layer in &self.layers {
            let mut single = Single::<T>::on(machine.clone(), layer.clone(), &shapes, self.training).unwrap();
            let parameter = |name: &str| self.tensor(&format!("param.{name}"));
            let parameters: Vec<Vec<T>> = single.specs().iter().map(|spec| parameter(spec.name)).collect();
            inputs = vec![single.forward(&inputs, &parameters)];
            shapes = vec![single.output_shape()];
            if self.training {
                results.extend(updated_buffers(&single, parameters));
            }
            singles.push(single);
        }
        results.insert("output".into(), inputs.remove(0));
        if self.training {
            results.extend(gradients(&singles, self.tensor("grad_output")));
        }
        results
    }
}

/// The running statistics after the pass, from what they were before.
fn updated_buffers<T: Real>(single: &Single<T>, mut parameters: Vec<Vec<T>>) -> Results<T> {
    let is_buffer: Vec<bool> = single.specs().iter().map(|spec| spec.role == Role::Buffer).collect();
    let mut buffers: Vec<&mut [T]> = parameters.iter_mut().zip(&is_buffer).filter(|(_, is)| **is).map(|(all, _)| &mut all[..]).collect();
    single.update_buffers(&mut buffers);
    let named = single.specs().iter().zip(parameters).zip(is_buffer);
    named.filter(|(_, is)| *is).map(|((spec, values), _)| (format!("after.{}", spec.name), values)).collect()
}

fn gradients<T: Real>(singles: &[Single<T>], mut gradient: Vec<T>) -> Results<T> {
    let mut results = Results::new();
    for (index, single) in singles.iter().enumerate().rev() {
        let mut gradients = single.backward(&gradient);
        let trained = single.specs().iter().filter(|spec| spec.role != Role::Buffer);
        results.extend(trained.zip(gradients.parameters).map(|(spec, values)| (format!("grad.{}", spec.name), values)));
        if index > 0 {
            gradient = gradients.inputs.remove(0);
        } else {
            let named = gradients.inputs.into_iter().enumerate();
            results.extend(named.map(|(input, values)| (format!("grad_input{input}"), values)));
        }
    }
    results
}

/// How far each result may be from the golden one: the golden number's own rounding to `f32`, and the rounding errors of
/// sums over as many terms as the case's largest tensor has numbers, in proportion to the largest result.
fn tolerances<T: Real>(golden: &[f64], largest_count: usize) -> impl Fn(f64) -> f64 {
    let largest = golden.iter().copied().filter(|value| value.is_finite()).fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let sums = T::EPSILON.to_f64() * (largest_count as f64).sqrt() * largest;
    move |value| f64::from(f32::EPSILON) / 2.0 * value.abs() + sums + f64::from(f32::MIN_POSITIVE)
}

/// What a rounding of the inputs alone changes: it bounds what can be asked of the layers that divide by a variance.
fn sensitivity(case: &Case<'_>, machine: &Machine) -> Option<Results<f64>> {
    let normalises = case.layers.iter().any(|layer| ["bn", "layernorm"].iter().any(|kind| layer.to_string().starts_with(kind)));
    let half = f64::from(f32::EPSILON) / 2.0;
    let nudged = |sign: f64| case.run::<f64>(machine, |place| 1.0 + if place.is_multiple_of(2) { half * sign } else { -half * sign });
    normalises.then(|| {
        let mut changes = nudged(1.0);
        for (change, other) in changes.values_mut().zip(nudged(-1.0).values()) {
            change.iter_mut().zip(other).for_each(|(change, other)| *change = (*change - other).abs());
        }
        changes
    })
}

/// The differences that are too large, as sentences.
fn failures<T: Real>(case: &Case<'_>, machine: &Machine, used: &mut BTreeSet<String>) -> Vec<String> {
    let results = case.run::<T>(machine, |_| T::ONE);
    let sensitivity = sensitivity(case, machine);
    let prefix = format!("{}/", case.name);
    let tensors = case.file.tensors.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
    let largest_count = tensors.map(|(_, tensor)| tensor.to_f32().len()).max().unwrap_or(0);
    let mut failures = Vec::new();
    for (name, found) in &results {
        let golden: Vec<f64> = case.tensor(name);
        used.insert(format!("{prefix}{name}"));
        assert_eq!(found.len(), golden.len(), "{prefix}{name}");
        let tolerance = tolerances::<T>(&golden, largest_count);
        let slack = sensitivity.as_ref().map_or(0.0, |changes| changes[name].iter().copied().fold(0.0, f64::max));
        let slack = slack * T::EPSILON.to_f64() / f64::from(f32::EPSILON) * 4.0;
        let wrong = found.iter().zip(&golden).position(|(found, &golden)| {
            let found = found.to_f64();
            let same = found == golden || found.is_nan() && golden.is_nan();
            let near = (found - golden).abs() <= tolerance(golden) + slack;
            // A NaN on one side alone is not near.
            !same && !near
        });
        if let Some(place) = wrong {
            let (isa, found, golden) = (machine.isa, found[place].to_f64(), golden[place]);
            failures.push(format!("{prefix}{name}[{place}] on {isa}: {found:e}, PyTorch {golden:e}, {:e} apart", (found - golden).abs()));
        }
    }
    failures
}

#[test]
fn every_layer_computes_what_pytorch_computes() {
    let file = golden_file();
    let machines: Vec<Machine> = Isa::available().into_iter().map(|isa| Machine::new(isa, 2)).collect();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut cases = 0;
    for (name, json) in file.metadata.iter().filter(|(name, _)| *name != "about") {
        let case = Case::read(name, json, &file);
        for machine in &machines {
            wrong.extend(failures::<f32>(&case, machine, &mut used));
            wrong.extend(failures::<f64>(&case, machine, &mut used));
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(cases, CASES);
    let is_result = |name: &&String| !["/input", "/param.", "/grad_output"].iter().any(|part| name.contains(part));
    let missed: Vec<&String> = file.tensors.keys().filter(is_result).filter(|name| !used.contains(*name)).collect();
    assert!(missed.is_empty(), "never compared: {missed:?}");
}
