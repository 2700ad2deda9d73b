//! Every optimiser against PyTorch: the paths `optim/NAME` of `golden/training.safetensors`, eight steps each.

use std::path::Path;

use convnet::optim::{Optimizer, Update};
use convnet_formats::safetensors::{TensorFile, read};
use convnet_kernels::{Isa, Machine, Real};
use serde_json::Value;

fn golden() -> TensorFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/training.safetensors");
    read(&std::fs::read(path).expect("the golden file is in the repository")).expect("the golden file is whole")
}

fn number(settings: &Value, key: &str) -> f64 {
    settings[key].as_f64().expect("a number")
}

fn optimizer(settings: &Value) -> Optimizer {
    match settings["optimizer"].as_str() {
        Some("sgd") => Optimizer::Sgd {
            momentum: number(settings, "momentum"),
            nesterov: settings["nesterov"].as_bool().expect("yes or no"),
            dampening: number(settings, "dampening"),
        },
        Some("adamw") => Optimizer::AdamW {
            beta1: settings["betas"][0].as_f64().expect("a number"),
            beta2: settings["betas"][1].as_f64().expect("a number"),
            epsilon: number(settings, "eps"),
        },
        other => panic!("unknown optimiser {other:?}"),
    }
}

/// The largest distance from the golden path, in units of the largest parameter.
fn distance<T: Real>(file: &TensorFile, name: &str, settings: &Value, machine: &Machine) -> f64 {
    let values =
        |part: &str| -> Vec<T> { file.tensors[&format!("{name}/{part}")].to_f32().iter().map(|&value| T::from_f32(value)).collect() };
    let optimizer = optimizer(settings);
    optimizer.check().expect("settings that PyTorch takes");
    let mut parameter = values("start");
    let mut state = vec![vec![T::ZERO; parameter.len()]; optimizer.slots()];
    let (gradients, golden) = (values("grads"), values("params"));
    let largest = golden.iter().fold(0.0_f64, |largest, value| largest.max(value.to_f64().abs()));
    let mut distance = 0.0_f64;
    for (index, (gradient, golden)) in gradients.chunks_exact(parameter.len()).zip(golden.chunks_exact(parameter.len())).enumerate() {
        let learning_rate = settings["lr"].as_f64().or_else(|| settings["lr"][index].as_f64()).expect("a learning rate");
        let rate = Update { learning_rate, weight_decay: number(settings, "weight_decay"), step: index as u64 + 1 };
        let mut slots: Vec<&mut [T]> = state.iter_mut().map(Vec::as_mut_slice).collect();
        optimizer.update(machine, &mut parameter, gradient, &mut slots, &rate);
        for (value, golden) in parameter.iter().zip(golden) {
            distance = distance.max((value.to_f64() - golden.to_f64()).abs() / largest);
        }
    }
    distance
}

#[test]
fn every_optimiser_takes_the_path_of_pytorch() {
    let file = golden();
    let mut paths = 0;
    for (name, text) in file.metadata.iter().filter(|(name, _)| name.starts_with("optim/")) {
        let settings: Value = serde_json::from_str(text).expect("settings");
        for isa in Isa::available() {
            let machine = Machine::new(isa, 1);
            // The golden numbers are rounded to f32 once: half a unit of the largest.
            let double = distance::<f64>(&file, name, &settings, &machine);
            assert!(double <= f64::from(f32::EPSILON) / 2.0 + 1e-12, "{name} on {isa}: {double:e}");
            // Eight steps of about six roundings each, the root of which adds up.
            let single = distance::<f32>(&file, name, &settings, &machine);
            assert!(single <= 48_f64.sqrt() * f64::from(f32::EPSILON), "{name} on {isa} in f32: {single:e}");
        }
        paths += 1;
    }
    assert_eq!(paths, 15);
}
