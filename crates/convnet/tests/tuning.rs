//! Whatever a tuning says, a plan computes what its network says, in the memory that was promised.

use std::sync::Arc;

use convnet::layer::ParameterSpec;
use convnet::network::{Network, Parameters};
use convnet::plan::{Plan, PlanBytes, Purpose, convolutions};
use convnet::{Isa, Machine, Real};
use convnet_kernels::conv::tuning::Tuning;
use convnet_kernels::conv::{ALGORITHMS, candidates};

/// Square kernels, a depthwise one, a strided one, and a flatten that is left out.
const TEXT: &str = "
    input 3x17x14
    conv 8 3x3 pad 1 -> relu -> conv 16 3x3 pad 1 -> relu -> conv 16 3x3 pad 1 groups 16 -> conv 12 3x3 -> relu
    conv 12 3x3 stride 2 -> flatten -> fc 5";

fn noise<T: Real>(count: usize, salt: u64) -> Vec<T> {
    (0..count as u64)
        .map(|place| {
            let mixed = (place ^ (salt << 32)).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            // Numbers that f32 holds, so that both types compute with the same.
            T::from_f64(f64::from((mixed >> 40) as f32 / (1u64 << 24) as f32 - 0.5))
        })
        .collect()
}

fn machine() -> Machine {
    Machine::new(Isa::detect(), 2)
}

/// A tuning by which one algorithm is the fastest wherever it may be taken.
fn preferring(network: &Network, batch: usize, purpose: Purpose, algorithm: &str) -> Arc<Tuning> {
    let mut tuning = Tuning::default();
    for question in convolutions(network, batch, purpose, &machine()).unwrap().iter().flat_map(|convolution| &convolution.questions) {
        for candidate in candidates::<f32>(question.shape(), machine().means()) {
            tuning.insert(*question, candidate.name, if candidate.name == algorithm { 1.0 } else { 2.0 });
        }
    }
    Arc::new(tuning)
}

/// The output and the gradients of all parameters.
fn results<T: Real>(network: &Network, batch: usize, purpose: Purpose, machine: &Machine) -> Vec<f64> {
    let parameters = Parameters::<T>::build(network, |index, spec: &ParameterSpec| noise(spec.count(), 100 + index as u64)).unwrap();
    let mut plan = Plan::<T>::new(network, batch, purpose, machine).unwrap();
    let promised = PlanBytes::of::<T>(network, batch, purpose, machine).unwrap();
    assert_eq!(promised.prepared, plan.bytes().prepared);
    assert!(plan.bytes().arena >= promised.arena);
    let images: Vec<T> = noise(plan.input_shape().count(), 1);
    let mut results: Vec<f64> = plan.forward(&parameters, &images, 0).iter().map(|value| value.to_f64()).collect();
    if purpose != Purpose::Infer {
        plan.backward(&parameters, &noise(plan.output_shape().count(), 2));
        results.extend(plan.gradients().iter().flatten().map(|value| value.to_f64()));
    }
    results
}

#[test]
fn every_choice_computes_the_network() {
    let network = Network::parse(TEXT).unwrap();
    for purpose in [Purpose::Train, Purpose::Infer, Purpose::Inspect] {
        let expected = results::<f64>(&network, 3, purpose, &machine());
        let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let mut distinct: Vec<Vec<u64>> = Vec::new();
        for algorithm in &ALGORITHMS {
            let machine = machine().tuned(Some(preferring(&network, 3, purpose, algorithm.name)));
            let found = results::<f32>(&network, 3, purpose, &machine);
            assert_eq!(found.len(), expected.len());
            for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() < 1e-5 * largest, "{purpose:?} {} at {place}: {found}, not {expected}", algorithm.name);
            }
            let bits: Vec<u64> = found.iter().map(|value| value.to_bits()).collect();
            if !distinct.contains(&bits) {
                distinct.push(bits);
            }
        }
        assert!(distinct.len() >= 3, "{purpose:?}: the tunings made {} different choices", distinct.len());
    }
}

#[test]
fn a_tuning_for_other_plans_changes_no_bit() {
    let network = Network::parse(TEXT).unwrap();
    let tuned = |batch, purpose| machine().tuned(Some(preferring(&network, batch, purpose, "winograd 2x2")));
    let plain = results::<f32>(&network, 3, Purpose::Train, &machine());
    assert!(results::<f32>(&network, 3, Purpose::Train, &tuned(4, Purpose::Train)) == plain);
    assert!(results::<f32>(&network, 3, Purpose::Train, &tuned(3, Purpose::Train)) != plain);
    assert!(results::<f32>(&network, 3, Purpose::Train, &tuned(3, Purpose::Train).exact()) == exact_results(&network));
}

/// The results of a training plan with exact algorithms alone.
fn exact_results(network: &Network) -> Vec<f64> {
    results::<f32>(network, 3, Purpose::Train, &machine().exact())
}
