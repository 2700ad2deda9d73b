//! A plan computes what its network says: gradients of whole graphs, purposes that agree, memory that was promised.

use convnet::layer::{Backward, Forward, Layer, LayerRules, Memory, ParameterSpec, Role, Use};
use convnet::layer::{add::Add, batch_norm2d::BatchNorm2d, conv2d::Conv2d, flatten::Flatten, linear::Linear, relu::Relu};
use convnet::network::text::TextArguments;
use convnet::network::{Network, NodeId, Parameters};
use convnet::plan::{Plan, PlanBytes, Purpose};
use convnet::shape::Shape;
use convnet_kernels::{Isa, Machine, Real};

/// Numbers that look random and depend on their place alone.
fn noise<T: Real>(count: usize, salt: u64) -> Vec<T> {
    (0..count as u64)
        .map(|place| {
            let mixed = (place ^ (salt << 32)).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            T::from_f64(((mixed >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 2.0)
        })
        .collect()
}

fn random_parameters<T: Real>(network: &Network) -> Parameters<T> {
    let values = |index: usize, spec: &ParameterSpec| -> Vec<T> {
        let values: Vec<T> = noise(spec.count(), 100 + index as u64);
        // A variance is positive.
        if spec.name == "running_var" { values.into_iter().map(|value| value * value + T::ONE).collect() } else { values }
    };
    Parameters::build(network, values).unwrap()
}

fn conv(filters: usize, kernel: usize) -> Conv2d {
    Conv2d::new(filters, [kernel, kernel])
}

/// A residual block between two convolutions, a value read three times, and a classifier behind a flatten.
fn graph() -> Network {
    let mut builder = Network::builder([2, 6, 5]);
    let stem = builder.add(conv(4, 3).pad([1, 1]), &[NodeId::IMAGE]).unwrap();
    let stem = builder.add(Relu, &[stem]).unwrap();
    let branch = builder.add(conv(4, 3).pad([1, 1]), &[stem]).unwrap();
    let branch = builder.add(Relu, &[branch]).unwrap();
    let branch = builder.add(conv(4, 1), &[branch]).unwrap();
    let sum = builder.add(Add, &[branch, stem, stem]).unwrap();
    let sum = builder.add(Relu, &[sum]).unwrap();
    let joined = builder.add(Add, &[sum, stem]).unwrap();
    let flat = builder.add(Flatten, &[joined]).unwrap();
    let hidden = builder.add(Relu, &[flat]).unwrap();
    let scores = builder.add(Linear::new(3), &[hidden]).unwrap();
    builder.finish(scores).unwrap()
}

/// Convolution, batch norm, addition and ReLU in the order that inference joins, with a branch that must not be joined.
fn normalised_graph() -> Network {
    let mut builder = Network::builder([2, 6, 5]);
    let stem = builder.add(conv(4, 3).pad([1, 1]).without_bias(), &[NodeId::IMAGE]).unwrap();
    let stem = builder.add(BatchNorm2d::default(), &[stem]).unwrap();
    let stem = builder.add(Relu, &[stem]).unwrap();
    let shortcut = builder.add(conv(6, 1), &[stem]).unwrap();
    let shortcut = builder.add(BatchNorm2d::default(), &[shortcut]).unwrap();
    let branch = builder.add(conv(6, 3).pad([1, 1]), &[stem]).unwrap();
    let branch = builder.add(BatchNorm2d::default(), &[branch]).unwrap();
    let sum = builder.add(Add, &[branch, shortcut]).unwrap();
    let sum = builder.add(Relu, &[sum]).unwrap();
    let late = builder.add(BatchNorm2d::default(), &[sum]).unwrap();
    let late = builder.add(Add, &[late, sum]).unwrap();
    let flat = builder.add(Flatten, &[late]).unwrap();
    let scores = builder.add(Linear::new(3), &[flat]).unwrap();
    let scores = builder.add(Relu, &[scores]).unwrap();
    builder.finish(scores).unwrap()
}

fn machine(threads: usize) -> Machine {
    Machine::new(Isa::detect(), threads)
}

#[test]
fn the_gradient_of_a_whole_graph_is_that_of_its_forward() {
    for (network, purpose) in [graph(), normalised_graph()].iter().flat_map(|n| [(n, Purpose::Train), (n, Purpose::Inspect)]) {
        let mut plan = Plan::<f64>::new(network, 2, purpose, &machine(1)).unwrap();
        let mut parameters = random_parameters::<f64>(network);
        let mut images: Vec<f64> = noise(plan.input_shape().count(), 1);
        let direction: Vec<f64> = noise(plan.output_shape().count(), 2);
        plan.forward(&parameters, &images, 0);
        plan.backward(&parameters, &direction);
        let gradients = plan.gradients().to_vec();
        let image_gradient = plan.gradient(NodeId::IMAGE);
        let mut value = |parameters: &Parameters<f64>, images: &[f64]| -> f64 {
            plan.forward(parameters, images, 0).iter().zip(&direction).map(|(a, b)| a * b).sum()
        };
        let step = 1e-6;
        for (index, gradient) in gradients.iter().enumerate() {
            for (place, gradient) in gradient.iter().enumerate() {
                let kept = parameters.values(index)[place];
                parameters.values_mut(index)[place] = kept + step;
                let up = value(&parameters, &images);
                parameters.values_mut(index)[place] = kept - step;
                let down = value(&parameters, &images);
                parameters.values_mut(index)[place] = kept;
                let error = ((up - down) / (2.0 * step) - gradient).abs() / gradient.abs().max(1.0);
                assert!(error < 1e-5, "{purpose:?} parameter {index} at {place}: off by {error}");
            }
        }
        assert_eq!(image_gradient.is_some(), purpose == Purpose::Inspect);
        for (place, gradient) in image_gradient.iter().flat_map(|gradient| gradient.values().iter().enumerate()) {
            let kept = images[place];
            images[place] = kept + step;
            let up = value(&parameters, &images);
            images[place] = kept - step;
            let down = value(&parameters, &images);
            images[place] = kept;
            assert!(((up - down) / (2.0 * step) - gradient).abs() < 1e-5, "image at {place}");
        }
    }
}

#[test]
fn every_purpose_computes_the_same_outputs() {
    let network = graph();
    let parameters = random_parameters::<f64>(&network);
    let outputs = [Purpose::Train, Purpose::TrainRecomputing, Purpose::Infer, Purpose::Inspect].map(|purpose| {
        let mut plan = Plan::<f64>::new(&network, 3, purpose, &machine(1)).unwrap();
        let images: Vec<f64> = noise(plan.input_shape().count(), 1);
        plan.forward(&parameters, &images, 0).to_vec()
    });
    for output in &outputs[1..] {
        assert!(output.iter().zip(&outputs[0]).all(|(a, b)| (a - b).abs() < 1e-12), "{outputs:?}");
    }
}

#[test]
fn a_batch_norm_folded_into_its_convolution_changes_nothing_but_rounding() {
    let network = normalised_graph();
    let parameters = random_parameters::<f64>(&network);
    let [infer, inspect] = [Purpose::Infer, Purpose::Inspect].map(|purpose| {
        let mut plan = Plan::<f64>::new(&network, 3, purpose, &machine(1)).unwrap();
        let images: Vec<f64> = noise(plan.input_shape().count(), 1);
        plan.forward(&parameters, &images, 0).to_vec()
    });
    assert!(infer.iter().any(|value| *value > 0.0));
    assert!(infer.iter().zip(&inspect).all(|(a, b)| (a - b).abs() < 1e-12 * b.abs().max(1.0)), "{infer:?}\n{inspect:?}");
}

#[test]
fn the_statistics_of_a_batch_outlive_its_backward_pass() {
    let network = normalised_graph();
    let parameters = random_parameters::<f32>(&network);
    let mut plan = Plan::<f32>::new(&network, 4, Purpose::Train, &machine(1)).unwrap();
    let images: Vec<f32> = noise(plan.input_shape().count(), 1);
    let direction: Vec<f32> = noise(plan.output_shape().count(), 2);
    plan.forward(&parameters, &images, 0);
    let (mut before, mut after) = (parameters.clone(), parameters.clone());
    plan.update_buffers(&network, &mut before);
    plan.backward(&parameters, &direction);
    plan.update_buffers(&network, &mut after);
    assert_eq!(before.list(), after.list());
    assert_ne!(before.list(), parameters.list());
}

#[test]
fn a_plan_sees_that_parameters_have_changed() {
    let network = normalised_graph();
    let mut parameters = random_parameters::<f32>(&network);
    let mut plan = Plan::<f32>::new(&network, 1, Purpose::Infer, &machine(1)).unwrap();
    let images: Vec<f32> = noise(plan.input_shape().count(), 1);
    let before = plan.forward(&parameters, &images, 0).to_vec();
    parameters.values_mut(0).iter_mut().for_each(|value| *value += 0.5);
    assert_ne!(plan.forward(&parameters, &images, 0), before);
}

#[test]
fn inspected_activations_are_in_logical_order() {
    let network = graph();
    let parameters = random_parameters::<f32>(&network);
    let mut plan = Plan::<f32>::new(&network, 2, Purpose::Inspect, &machine(1)).unwrap();
    let images: Vec<f32> = noise(plan.input_shape().count(), 1);
    let output = plan.forward(&parameters, &images, 0).to_vec();
    assert_eq!(plan.activation(NodeId::IMAGE).unwrap().values(), images);
    assert_eq!(plan.activation(network.output()).unwrap().values(), output);
    let activation = |name: &str| plan.activation(network.find(name).unwrap()).unwrap();
    let (joined, flat) = (activation("add2"), activation("flatten1"));
    assert_eq!(joined.values(), flat.values());
    assert_eq!((joined.sizes(), flat.sizes()), (&[2, 4, 6, 5][..], &[2, 120, 1, 1][..]));
}

#[test]
fn the_same_bits_come_out_of_any_number_of_threads() {
    let network = graph();
    let parameters = random_parameters::<f32>(&network);
    let run = |threads: usize| {
        let mut plan = Plan::<f32>::new(&network, 5, Purpose::Train, &machine(threads)).unwrap();
        let images: Vec<f32> = noise(plan.input_shape().count(), 1);
        let output: Vec<u32> = plan.forward(&parameters, &images, 0).iter().map(|value| value.to_bits()).collect();
        let direction: Vec<f32> = noise(output.len(), 2);
        plan.backward(&parameters, &direction);
        let gradients: Vec<u32> = plan.gradients().iter().flatten().map(|value| value.to_bits()).collect();
        (output, gradients)
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

/// Small networks of the kinds that there are: a chain, residual blocks, an inception module, joined branches.
const KINDS: [&str; 4] = [
    "input 3x16x16 -> [conv 8 3x3 pad 1 -> relu]*3 -> maxpool 2 -> [conv 12 3x3 pad 1 no bias -> bn -> relu]*3 -> maxpool 2 -> flatten -> \
     dropout 0.4 -> fc 16 -> relu -> fc 5",
    "input 3x12x12\nlet unit(k, s) = conv k 3x3 stride s pad 1 no bias -> bn\nunit(8, 1) -> relu\n\
     [add( unit(8, 1) -> relu -> unit(8, 1) | identity ) -> relu]*4\nadd( unit(16, 2) -> relu -> unit(16, 1) | conv 16 1x1 stride 2 no bias -> bn ) -> relu\n\
     [add( unit(16, 1) -> relu -> unit(16, 1) | identity ) -> relu]*3\nglobal avgpool -> flatten -> dropout 0.3 -> fc 5",
    "input 3x12x12\nlet module(k) = concat( conv k 1x1 -> relu | conv k 1x1 -> relu -> conv k 3x3 pad 1 -> relu | \
     maxpool 3 stride 1 pad 1 -> conv k 1x1 -> relu )\n[module(4)]*3 -> maxpool 3 stride 2 -> [module(5)]*3 -> global maxpool -> flatten -> fc 5",
    "input 3x8x8 -> [concat( identity | bn -> relu -> conv 4 3x3 pad 1 )]*6 -> bn -> sigmoid -> avgpool 2 -> spatial dropout 0.2 -> flatten -> \
     silu -> fc 5",
];

/// The bits of the scores and gradients of three steps, and of the buffers behind them.
fn training_bits(network: &Network, purpose: Purpose, threads: usize) -> Vec<u32> {
    let mut parameters = random_parameters::<f32>(network);
    let mut plan = Plan::<f32>::new(network, 3, purpose, &machine(threads)).unwrap();
    let mut bits = Vec::new();
    let mut keep = |values: &[f32]| bits.extend(values.iter().map(|value| value.to_bits()));
    for step in 0..3 {
        let images: Vec<f32> = noise(plan.input_shape().count(), step);
        keep(plan.forward(&parameters, &images, 40 + step));
        plan.backward(&parameters, &noise(plan.output_shape().count(), 10 + step));
        plan.gradients().iter().for_each(|gradient| keep(gradient));
        plan.update_buffers(network, &mut parameters);
    }
    parameters.list().iter().for_each(|parameter| keep(parameter.tensor.values()));
    bits
}

#[test]
fn computing_activations_again_saves_memory_and_changes_no_bit() {
    for text in KINDS {
        let network = Network::parse(text).unwrap();
        let arena = |purpose| PlanBytes::of::<f32>(&network, 3, purpose, &machine(1)).unwrap().arena;
        let (kept, again) = (arena(Purpose::Train), arena(Purpose::TrainRecomputing));
        assert!(again < kept * 9 / 10, "{kept} and {again} bytes: {text}");
        let expected = training_bits(&network, Purpose::Train, 1);
        for threads in [1, 2, 3, 8] {
            assert!(training_bits(&network, Purpose::TrainRecomputing, threads) == expected, "{threads} threads: {text}");
        }
    }
}

#[test]
fn the_price_of_computing_again_is_less_than_a_forward_pass() {
    for name in ["lenet5", "default", "resnet18", "googlenet", "mobilenet_v2"] {
        let network = Network::load(name, &TextArguments::default()).unwrap();
        let kept = convnet::plan::summary(&network, 2, &machine(1), 1).unwrap();
        let again = convnet::plan::recomputation(&network, 2, &machine(1), 1).unwrap();
        assert!(again.memory.total() <= kept.memory.unwrap().training.total(), "{name}");
        assert!(
            again.macs < kept.totals.macs && again.step_macs > 2 * kept.totals.macs && again.step_macs <= 3 * kept.totals.macs,
            "{name}"
        );
        assert_eq!(again.macs > 0, again.segments > 0, "{name}");
        let promised = PlanBytes::of::<f32>(&network, 2, Purpose::TrainRecomputing, &machine(1)).unwrap();
        assert_eq!(again.memory.activations, promised.arena, "{name}");
    }
}

#[test]
fn the_memory_that_is_promised_is_the_memory_that_is_used() {
    let network = graph();
    for purpose in [Purpose::Train, Purpose::TrainRecomputing, Purpose::Infer, Purpose::Inspect] {
        let promised = PlanBytes::of::<f32>(&network, 32, purpose, &machine(1)).unwrap().total() as f64;
        let used = Plan::<f32>::new(&network, 32, purpose, &machine(1)).unwrap().bytes().total() as f64;
        assert!((used / promised - 1.0).abs() < 0.05, "{purpose:?}: promised {promised}, used {used}");
    }
}

#[test]
fn the_summary_promises_what_a_training_holds() {
    let text = "input 3x20x20 -> conv 16 3x3 pad 1 no bias -> bn -> relu -> maxpool 2 -> conv 24 3x3 pad 1 -> relu -> flatten -> fc 10";
    let network = Network::parse(text).unwrap();
    let (batch, slots) = (32, 1);
    let promised = convnet::plan::summary(&network, batch, &machine(1), slots).unwrap().totals;
    let parameters = random_parameters::<f32>(&network);
    let bytes = |count: usize| (count * std::mem::size_of::<f32>()) as u64;
    let held = |purpose| Plan::<f32>::new(&network, batch, purpose, &machine(1)).unwrap().bytes().total() + bytes(parameters.count());
    let velocities: usize = parameters.list().iter().filter(|p| p.role != Role::Buffer).map(|p| p.tensor.len()).sum();
    for (promised, held) in
        [(promised.inference_bytes, held(Purpose::Infer)), (promised.training_bytes, held(Purpose::Train) + bytes(slots * velocities))]
    {
        let promised = promised.unwrap() as f64;
        assert!((held as f64 / promised - 1.0).abs() < 0.05, "promised {promised}, held {held}");
    }
}

#[test]
fn inference_needs_less_memory_than_training() {
    let network = graph();
    let of = |purpose| PlanBytes::of::<f32>(&network, 32, purpose, &machine(1)).unwrap().arena;
    assert!(of(Purpose::Infer) < of(Purpose::Train) && of(Purpose::Train) < of(Purpose::Inspect));
}

#[test]
fn a_batch_of_none_and_an_absurd_batch_are_errors() {
    let network = graph();
    let error = |batch| Plan::<f32>::new(&network, batch, Purpose::Train, &machine(1)).unwrap_err().to_string();
    assert!(error(0).contains("at least one image"));
    for batch in [usize::MAX / 2, 1 << 52, 1 << 40] {
        assert!(error(batch).contains("smaller batch"), "{}", error(batch));
    }
}

/// y = 2x, as a stranger would write it.
#[derive(Debug)]
struct Twice;

impl LayerRules for Twice {
    fn kind(&self) -> &'static str {
        "twice"
    }
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }
    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory { in_place: true, ..Memory::default() }
    }
    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        pass.output_holding_input().iter_mut().for_each(|value| *value += *value);
    }
    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        if let Some(gradient) = pass.grad_input_holding_grad_output() {
            gradient.iter_mut().for_each(|value| *value += *value);
        }
    }
}

#[test]
fn layers_from_outside_run_in_a_plan() {
    let mut builder = Network::builder([1, 2, 2]);
    let twice = builder.add(Layer::custom(Twice), &[NodeId::IMAGE]).unwrap();
    let again = builder.add(Layer::custom(Twice), &[twice]).unwrap();
    let network = builder.finish(again).unwrap();
    let parameters = Parameters::constant(&network).unwrap();
    let mut plan = Plan::<f32>::new(&network, 1, Purpose::Inspect, &machine(1)).unwrap();
    assert_eq!(plan.forward(&parameters, &[1.0, 2.0, 3.0, 4.0], 0), [4.0, 8.0, 12.0, 16.0]);
    plan.backward(&parameters, &[1.0; 4]);
    assert_eq!(plan.gradient(NodeId::IMAGE).unwrap().values(), [4.0; 4]);
}
