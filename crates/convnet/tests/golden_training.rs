//! Ten steps of three small networks, losses and final numbers, against PyTorch: `golden/training.safetensors`.

use std::path::Path;

use convnet::layer::Role;
use convnet::loss::Loss;
use convnet::network::{Network, Parameters};
use convnet::optim::{Optimizer, Update};
use convnet::plan::{Plan, Purpose};
use convnet::tensor::Tensor;
use convnet::{Isa, Machine, Real};
use convnet_formats::safetensors::{TensorFile, Values, read};
use serde_json::Value;

const RUNS: [&str; 6] = ["chain", "chain_adamw", "residual", "residual_adamw", "depthwise", "depthwise_adamw"];

struct Golden {
    file: TensorFile,
}

impl Golden {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/training.safetensors");
        let bytes = std::fs::read(path).expect("the golden file is in the repository");
        Self { file: read(&bytes).expect("the golden file is whole") }
    }

    fn settings(&self, run: &str) -> Value {
        serde_json::from_str(&self.file.metadata[run]).expect("settings as JSON")
    }

    fn numbers<T: Real>(&self, name: &str) -> Tensor<T> {
        let tensor = &self.file.tensors[name];
        let values = tensor.to_f32().iter().map(|&value| T::from_f32(value)).collect();
        Tensor::new(tensor.dims.clone(), values).expect("sizes and values agree")
    }

    fn labels(&self, run: &str) -> Vec<usize> {
        match &self.file.tensors[&format!("{run}/labels")].values {
            Values::I64(labels) => labels.iter().map(|&label| label as usize).collect(),
            other => panic!("labels are whole numbers, not {:?}", other.dtype()),
        }
    }
}

fn optimizer(settings: &Value) -> Optimizer {
    match settings["optimizer"].as_str() {
        Some("sgd") => Optimizer::Sgd { momentum: settings["momentum"].as_f64().unwrap(), nesterov: true, dampening: 0.0 },
        Some("adamw") => Optimizer::adamw(),
        other => panic!("unknown optimiser {other:?}"),
    }
}

/// The largest differences of a loss and, in units of the largest value of its parameter, of a final number.
fn differences<T: Real>(golden: &Golden, run: &str, machine: &Machine) -> (f64, f64) {
    let settings = golden.settings(run);
    let network = Network::parse(settings["network"].as_str().unwrap()).unwrap();
    let mut parameters = Parameters::<T>::constant(&network).unwrap();
    let names: Vec<String> = parameters.list().iter().map(|parameter| parameter.name.clone()).collect();
    let roles: Vec<Role> = parameters.list().iter().map(|parameter| parameter.role).collect();
    let listed: Vec<&str> = settings["parameters"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, listed, "{run}");
    for name in &names {
        parameters.set(name, golden.numbers(&format!("{run}/start.{name}"))).unwrap();
    }
    let decayed: Vec<&str> = settings["decayed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let (images, labels) = (golden.numbers::<T>(&format!("{run}/images")), golden.labels(run));
    let losses = golden.numbers::<f64>(&format!("{run}/losses"));
    let mut plan = Plan::<T>::new(&network, 8, Purpose::Train, machine).unwrap();
    let (classes, optimizer) = (network.output_shape().c, optimizer(&settings));
    let mut slots: Vec<Vec<Vec<T>>> =
        parameters.list().iter().map(|parameter| vec![vec![T::ZERO; parameter.tensor.len()]; optimizer.slots()]).collect();
    let mut gradient = vec![T::ZERO; plan.output_shape().count()];
    let mut loss_difference = 0.0_f64;
    for (step, images) in images.values().chunks_exact(plan.input_shape().count()).enumerate() {
        let scores = plan.forward(&parameters, images, 0);
        let loss = Loss::CrossEntropy { smoothing: 0.0, weights: None }.value_and_gradient(
            scores,
            classes,
            &labels[step * 8..][..8],
            &mut gradient,
        );
        loss_difference = loss_difference.max((loss - losses.values()[step]).abs());
        plan.backward(&parameters, &gradient);
        for (index, (values, slots)) in parameters.all_values_mut().zip(&mut slots).enumerate() {
            if roles[index] == Role::Buffer {
                continue;
            }
            let decays = convnet::optim::decays(roles[index]);
            assert!(decays || !decayed.contains(&names[index].as_str()), "{run}: {}", names[index]);
            let weight_decay = if decays { settings["weight_decay"].as_f64().unwrap() } else { 0.0 };
            let update = Update { learning_rate: settings["lr"].as_f64().unwrap(), weight_decay, step: step as u64 + 1 };
            let mut slots: Vec<&mut [T]> = slots.iter_mut().map(Vec::as_mut_slice).collect();
            optimizer.update(machine, values, &plan.gradients()[index], &mut slots, &update);
        }
        plan.update_buffers(&network, &mut parameters);
    }
    let mut end_difference = 0.0_f64;
    for parameter in parameters.list() {
        let end = golden.numbers::<f64>(&format!("{run}/end.{}", parameter.name));
        let largest = end.values().iter().fold(1e-3_f64, |largest, value| largest.max(value.abs()));
        for (value, golden) in parameter.tensor.values().iter().zip(end.values()) {
            end_difference = end_difference.max((value.to_f64() - golden).abs() / largest);
        }
    }
    (loss_difference, end_difference)
}

#[test]
fn ten_steps_in_f64_are_those_of_pytorch() {
    let golden = Golden::open();
    for run in RUNS {
        // The golden numbers are rounded to f32.
        let (loss, end) = differences::<f64>(&golden, run, &Machine::new(Isa::Portable, 1));
        assert!(loss < 5e-7 && end < 5e-7, "{run}: losses differ by {loss:.1e}, final numbers by {end:.1e}");
    }
}

#[test]
fn ten_steps_in_f32_are_those_of_pytorch_up_to_rounding() {
    let golden = Golden::open();
    for run in RUNS {
        for isa in Isa::available() {
            let (loss, end) = differences::<f32>(&golden, run, &Machine::new(isa, 2));
            // PyTorch's own f32 differs from its f64 by up to 1.3e-6; Adam turns rounding of tiny gradients into steps.
            assert!(loss < 1e-5 && end < 1e-3, "{run} with {isa}: losses differ by {loss:.1e}, final numbers by {end:.1e}");
        }
    }
}
