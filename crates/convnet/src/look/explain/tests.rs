//! Claims about gradients, other views and drawings, on chains, residual and inception networks.

use convnet_kernels::Machine;

use super::*;
use crate::data::Normalisation;
use crate::look::Inspector;
use crate::look::attribution::Target;
use crate::look::report::Language;
use crate::model::Model;
use crate::network::{Network, NodeId, Parameters};
use crate::page::reading::{attributes, elements};
use crate::plan::{Plan, Purpose};
use crate::random::{Address, Purpose as For};

const CHAIN: &str = "input 2x9x8 -> conv 4 3x3 pad 1 groups 2 -> bn -> relu -> maxpool 3 stride 2 pad 1 \
    -> conv 4 3x2 stride 2x1 dilation 1x2 pad 1 -> leaky relu -> avgpool 2 stride 1 pad 1 -> sigmoid -> tanh -> flatten \
    -> dropout 0.5 -> fc 5 -> softmax";
const RESIDUAL: &str = "input 3x7x6 -> conv 4 3x3 pad 1 -> relu \
    -> add( conv 4 3x3 pad 1 -> bn -> silu -> conv 4 1x1 | identity | identity ) -> relu -> global avgpool -> flatten -> fc 4";
const INCEPTION: &str = "input 3x8x7 -> concat( conv 3 1x1 -> relu | conv 2 1x1 -> conv 3 3x3 pad 1 | maxpool 3 stride 1 pad 1 -> conv 2 1x1 ) \
    -> global maxpool -> flatten -> fc 3";
const NETWORKS: [&str; 3] = [CHAIN, RESIDUAL, INCEPTION];

/// Of gradients that the plan computed in f32, relative to the sum of the sizes of their terms.
const TOLERANCE: f64 = 2e-5;

fn model(text: &str) -> Model {
    let network = Network::parse(text).unwrap();
    let parameters = Parameters::build(&network, |index, spec| {
        let mut random = Address::new(index as u64, For::Check).random();
        let numbers = (0..spec.count()).map(|_| (1.6 * random.uniform_f64() - 0.8) as f32);
        if spec.name == "running_var" { numbers.map(|number| number * number + 0.5).collect() } else { numbers.collect() }
    });
    let channels = network.input_shape().c;
    let classes = (0..network.output_shape().c).map(|class| format!("class {class}")).collect();
    let normalisation = Normalisation { mean: vec![0.5; channels], std: vec![0.25; channels] };
    Model::new(network, parameters.unwrap(), classes, normalisation).unwrap()
}

fn image(model: &Model) -> Vec<u8> {
    let mut random = Address::new(99, For::Check).random();
    (0..model.image_size().iter().product()).map(|_| (256.0 * random.uniform_f64()) as u8).collect()
}

fn places([c, h, w]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..c * h * w).map(move |place| [place / (h * w), place / w % h, place % w])
}

/// The score of a class in f64, for normalised values.
fn score(network: &Network, parameters: &Parameters<f64>, image: &[f64], class: usize) -> f64 {
    let mut plan = Plan::<f64>::new(network, 1, Purpose::Inspect, &Machine::detect().unwrap()).unwrap();
    plan.forward(parameters, image, 0);
    let spot = Target::Class(class).spot(network).unwrap();
    plan.activation(spot.value).unwrap().values()[spot.index]
}

fn normalised(inspector: &Inspector<'_>) -> Vec<f64> {
    inspector.value(NodeId::IMAGE).unwrap().values().iter().map(|value| f64::from(*value)).collect()
}

#[test]
fn the_gradient_at_every_number_is_that_of_the_plan() {
    for text in NETWORKS {
        let model = model(text);
        let image = image(&model);
        let mut inspector = Inspector::new(&model, &image).unwrap();
        let network = model.network();
        let names = network.nodes().iter().map(|node| node.name()).filter(|name| *name != "softmax1");
        for name in std::iter::once("image").chain(names) {
            let id = if name == "image" { NodeId::IMAGE } else { network.find(name).unwrap() };
            for at in places(network.shape(id).chw()) {
                let found = explain_gradient(&mut inspector, name, at, 1).unwrap();
                let terms = found.readers.iter().flat_map(|reader| &reader.terms);
                let size: f64 = terms.map(|term| term.product.abs()).sum();
                let error = (found.recomputed - found.gradient).abs();
                assert!(error <= TOLERANCE * size, "{name} at {at:?}: {} and {}", found.recomputed, found.gradient);
                assert_eq!(found.own.is_some(), found.readers.is_empty(), "{name} at {at:?}");
            }
        }
    }
}

#[test]
fn the_gradient_at_the_image_is_that_of_central_differences() {
    for text in NETWORKS {
        let model = model(text);
        let bytes = image(&model);
        let mut inspector = Inspector::new(&model, &bytes).unwrap();
        let parameters = model.parameters().cast::<f64>();
        let values = normalised(&inspector);
        for (place, at) in places(model.image_size()).enumerate().step_by(7) {
            let moved = |step: f64| {
                let mut values = values.clone();
                values[place] += step;
                score(model.network(), &parameters, &values, 2)
            };
            let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            let found = explain_gradient(&mut inspector, "image", at, 2).unwrap();
            assert!(
                (found.recomputed - difference).abs() < 1e-4 * difference.abs().max(0.1),
                "{at:?}: {} and {difference}",
                found.recomputed
            );
        }
    }
}

#[test]
fn the_gradient_at_a_weight_is_that_of_the_plan_and_of_central_differences() {
    for text in NETWORKS {
        let model = model(text);
        let bytes = image(&model);
        let mut inspector = Inspector::new(&model, &bytes).unwrap();
        let network = model.network();
        let values = normalised(&inspector);
        let mut weights = 0;
        for node in network.nodes().iter().filter(|node| ["conv", "fc"].contains(&crate::layer::LayerRules::kind(node.layer()))) {
            let name = format!("{}.weight", node.name());
            let sizes = model.parameters().get(&name).unwrap().tensor.sizes().to_vec();
            let [k, c, r, s] = [sizes[0], sizes[1], sizes.get(2).copied().unwrap_or(1), sizes.get(3).copied().unwrap_or(1)];
            for place in (0..k * c * r * s).step_by(5) {
                let weight = [place / (c * r * s), place / (r * s) % c, place / s % r, place % s];
                let found = explain_weight(&mut inspector, node.name(), weight, 0).unwrap();
                let moved = |step: f64| {
                    let mut parameters = model.parameters().cast::<f64>();
                    let mut tensor = parameters.get(&name).unwrap().tensor.clone();
                    tensor.values_mut()[place] += step;
                    parameters.set(&name, tensor).unwrap();
                    score(network, &parameters, &values, 0)
                };
                let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!(
                    (found.gradient - difference).abs() < 1e-4 * difference.abs().max(0.1),
                    "{name} {weight:?}: {} and {difference}",
                    found.gradient
                );
                assert_eq!(found.value, f64::from(model.parameters().get(&name).unwrap().tensor.values()[place]));
                weights += 1;
            }
        }
        assert!(weights > 20);
    }
}

#[test]
fn a_maximum_pooling_sends_its_gradient_to_what_it_chose() {
    let model = model(CHAIN);
    let bytes = image(&model);
    let mut inspector = Inspector::new(&model, &bytes).unwrap();
    let mut chosen = 0;
    for at in places(model.network().shape(model.network().find("relu1").unwrap()).chw()) {
        let found = explain_gradient(&mut inspector, "relu1", at, 0).unwrap();
        for term in &found.readers[0].terms {
            let pooled = explain(&inspector, "maxpool1", term.at).unwrap().choice.unwrap();
            assert_eq!((term.chosen, term.derivative == 1.0), (Some(pooled.at), pooled.at == at));
            chosen += usize::from(pooled.at == at);
        }
    }
    assert_eq!(chosen, model.network().shape(model.network().find("maxpool1").unwrap()).image(), "each window chose one place");
}

#[test]
fn convolution_is_correlation_with_the_kernel_turned_around() {
    let model = model(CHAIN);
    let bytes = image(&model);
    let inspector = Inspector::new(&model, &bytes).unwrap();
    for (layer, at) in [("conv1", [3, 0, 4]), ("conv1", [0, 8, 7]), ("conv2", [2, 1, 0])] {
        let found = correlation(&inspector, layer, at).unwrap();
        assert!((found.correlation - found.convolution_flipped).abs() < 1e-12);
        assert!((found.convolution - found.correlation_flipped).abs() < 1e-12);
        assert!((found.correlation - found.convolution).abs() > 1e-6 && !found.symmetric, "{found:?}");
        assert!((found.correlation + found.bias.unwrap() - found.output).abs() < 1e-5);
    }
    let error = correlation(&inspector, "bn1", [0, 0, 0]).unwrap_err().to_string();
    assert!(error.contains("bn1") && error.contains("convolution"), "{error}");
}

#[test]
fn the_product_of_the_matrices_is_the_layer() {
    let model = model(CHAIN);
    let bytes = image(&model);
    let inspector = Inspector::new(&model, &bytes).unwrap();
    for layer in ["conv1", "conv2"] {
        let shape = model.network().shape(model.network().find(layer).unwrap());
        let mut read = 0;
        for at in places(shape.chw()) {
            let found = columns(&inspector, layer, at).unwrap();
            let result: f64 = found.entries.iter().map(|entry| entry.input * entry.weight).sum::<f64>() + found.bias.unwrap();
            assert!((result - found.output).abs() < 1e-5, "{layer} at {at:?}: {result} and {}", found.output);
            assert_eq!((found.entries.len(), found.columns[1]), (found.columns[0], shape.pixels()));
            assert_eq!(found.column, at[1] * shape.w + at[2]);
            if at[0] == 0 {
                read += found.entries.iter().filter(|entry| !entry.padding).count();
            }
            if at == [0, 0, 0] {
                let [_, r, s] = found.entries[found.entries.len() - 1].kernel;
                for entry in &found.entries {
                    assert_eq!(entry.row, (entry.kernel[0] * (r + 1) + entry.kernel[1]) * (s + 1) + entry.kernel[2]);
                }
                assert_eq!(found.column_bytes, 4 * (found.groups[0] * found.columns[0] * found.columns[1]) as u64);
            }
        }
        let found = columns(&inspector, layer, [0, 0, 0]).unwrap();
        let channels = found.entries[found.entries.len() - 1].kernel[0] + 1;
        assert_eq!(found.repeats.reads.sum() * channels as f64, read as f64, "every entry of the columns is counted");
    }
}

#[test]
fn what_cannot_be_explained_is_said() {
    let model = model(CHAIN);
    let bytes = image(&model);
    let mut inspector = Inspector::new(&model, &bytes).unwrap();
    let said = |result: crate::error::Result<()>, words: &[&str]| {
        let error = result.unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
    };
    said(explain_gradient(&mut inspector, "conv1", [4, 0, 0], 0).map(drop), &["conv1", "4x9x8", "4,0,0"]);
    said(explain_gradient(&mut inspector, "softmax1", [0, 0, 0], 0).map(drop), &["softmax1", "does not depend"]);
    said(explain_gradient(&mut inspector, "conv1", [0, 0, 0], 9).map(drop), &["class 9", "5 scores"]);
    said(explain_weight(&mut inspector, "conv1", [0, 1, 0, 0], 0).map(drop), &["4x1x3x3", "0,1,0,0"]);
    said(explain_weight(&mut inspector, "relu1", [0; 4], 0).map(drop), &["relu1", "conv and fc"]);
    said(columns(&inspector, "fc1", [0; 3]).map(drop), &["fc1", "convolution"]);
}

#[test]
fn every_drawing_is_whole_and_has_its_numbers() {
    let model = model(CHAIN);
    let bytes = image(&model);
    let mut inspector = Inspector::new(&model, &bytes).unwrap();
    for language in Language::ALL {
        let conv = draw(&explain(&inspector, "conv1", [1, 4, 4]).unwrap(), &bytes, model.image_size(), language).unwrap();
        assert_eq!(conv.numbers(), 3 * 9, "window, kernel and products");
        let pool = draw(&explain(&inspector, "maxpool1", [1, 2, 2]).unwrap(), &bytes, model.image_size(), language).unwrap();
        assert_eq!(pool.numbers(), 9);
        assert_eq!(pool.svg().unwrap().matches("frame mark").count(), 2, "the part of the image and the switch");
        let drawings = [
            conv,
            pool,
            draw(&explain(&inspector, "fc1", [1, 0, 0]).unwrap(), &bytes, model.image_size(), language).unwrap(),
            draw(&explain(&inspector, "bn1", [1, 0, 0]).unwrap(), &bytes, model.image_size(), language).unwrap(),
            draw_gradient(&explain_gradient(&mut inspector, "relu1", [1, 4, 4], 0).unwrap(), language).unwrap(),
            draw_gradient(&explain_gradient(&mut inspector, "fc1", [1, 0, 0], 0).unwrap(), language).unwrap(),
            draw_weight_gradient(&explain_weight(&mut inspector, "conv1", [1, 0, 2, 2], 0).unwrap(), language).unwrap(),
            draw_correlation(&correlation(&inspector, "conv1", [1, 4, 4]).unwrap(), language).unwrap(),
            draw_columns(&columns(&inspector, "conv2", [1, 2, 2]).unwrap(), language).unwrap(),
            draw_coverage(&model.network().coverage("conv2").unwrap(), language).unwrap(),
        ];
        for drawing in drawings {
            let svg = drawing.svg().unwrap();
            elements(&svg, |_, _| {});
            assert!(!attributes(&svg, "aria-label")[0].is_empty() && svg.contains("drawn by convnet"));
            assert!(!svg.contains('{') || !svg.contains("{0}"), "every place in a text is filled");
            assert!(attributes(&svg, "href").iter().all(|address| address.starts_with("data:image/png;base64,")));
        }
    }
}

#[test]
fn only_drawings_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let drawing = draw_coverage(&model(CHAIN).network().coverage("conv1").unwrap(), Language::En).unwrap();
    let path = folder.path().join("a.svg");
    write_picture(&drawing, &path).unwrap();
    write_picture(&drawing, &path).unwrap();
    std::fs::write(&path, "<svg/>").unwrap();
    let error = write_picture(&drawing, &path).unwrap_err().to_string();
    assert!(error.contains("a.svg") && error.contains("another name"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "<svg/>");
    assert!(write_picture(&drawing, &folder.path().join("a.png")).unwrap_err().to_string().contains(".svg"));
}
