//! The zoo against PyTorch: every network's parameters, and the weight, output and multiply-adds of each of its convolutions
//! and fully connected layers, in order, are those in `golden/zoo.json`.

use std::path::Path;

use convnet::layer::{LayerRules, Role};
use convnet::network::text::TextArguments;
use convnet::network::{Network, Node};
use convnet::zoo;
use serde_json::Value;

/// Names of the golden file that are not the zoo's.
const GOLDEN_NAMES: [(&str, &str); 2] = [("resnet20_cifar", "resnet20_option_b"), ("resnet18_cifar", "resnet18_32x32")];

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/zoo.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str::<Value>(&text).unwrap()["networks"].take()
}

fn golden_name(name: &str) -> &str {
    GOLDEN_NAMES.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| theirs)
}

fn network(name: &str) -> Network {
    zoo::network(name, &TextArguments::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

/// Sums the parameters whose role is wanted.
fn count(network: &Network, wanted: impl Fn(Role) -> bool) -> u64 {
    network.parameters().filter(|(_, spec)| wanted(spec.role)).map(|(_, spec)| spec.count() as u64).sum()
}

/// Weight, bias, output and multiply-adds of a convolution or fully connected layer, as one line.
fn measured(node: &Node) -> String {
    let sizes = &node.parameters()[0].sizes;
    let weight: Vec<u64> = (0..4).map(|axis| sizes.get(axis).map_or(1, |&size| size as u64)).collect();
    let bias = node.parameters().iter().any(|spec| spec.role == Role::Bias);
    let (kind, output, macs) = (node.layer().kind(), node.output_shape().chw(), node.layer().macs(node.input_shapes()));
    format!("{kind} weight {weight:?} bias {bias} output {output:?} macs {macs}")
}

fn expected(layer: &Value) -> String {
    let (weight, output) = (numbers(&layer["weight"]), numbers(&layer["output"]));
    let (kind, bias, macs) = (layer["kind"].as_str().unwrap(), layer["bias"].as_bool().unwrap(), layer["macs"].as_u64().unwrap());
    format!("{kind} weight {weight:?} bias {bias} output {output:?} macs {macs}")
}

#[test]
fn every_network_has_the_parameters_that_are_published() {
    let golden = golden();
    for name in zoo::NAMES.iter().filter(|name| **name != zoo::DEFAULT) {
        let (network, golden) = (network(name), &golden[golden_name(name)]);
        assert!(golden.is_object(), "{name} is not in golden/zoo.json");
        let number = |key: &str| golden[key].as_u64().unwrap();
        assert_eq!(count(&network, |role| role != Role::Buffer), number("parameters"), "{name}: parameters");
        assert_eq!(count(&network, |role| role == Role::Bias), number("biases"), "{name}: biases");
        assert_eq!(count(&network, |role| role == Role::Weight), number("conv_fc_weights"), "{name}: weights");
        assert_eq!(count(&network, |role| role == Role::Buffer), number("batch_norm_statistics"), "{name}: running statistics");
        assert_eq!(network.input_shape().chw().map(|size| size as u64), numbers(&golden["input"])[..], "{name}: input");
        assert_eq!(network.output_shape().image() as u64, number("output"), "{name}: output");
    }
}

#[test]
fn every_convolution_has_the_sizes_and_multiply_adds_of_pytorchs() {
    let golden = golden();
    for name in zoo::NAMES.iter().filter(|name| **name != zoo::DEFAULT) {
        let (network, golden) = (network(name), &golden[golden_name(name)]);
        let found: Vec<String> =
            network.nodes().iter().filter(|node| ["conv", "fc"].contains(&node.layer().kind())).map(measured).collect();
        let expected: Vec<String> = golden["layers"].as_array().unwrap().iter().map(expected).collect();
        assert_eq!(found.len(), expected.len(), "{name}: convolutions and fully connected layers");
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{name}: layer {place}");
        }
        let macs: u64 = network.nodes().iter().map(|node| node.layer().macs(node.input_shapes())).sum();
        assert_eq!(macs, golden["macs"].as_u64().unwrap(), "{name}");
    }
}

/// Writes 61706 as 61,706.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn every_text_fits_on_a_screen_and_says_its_parameters_truly() {
    for name in zoo::NAMES {
        let text = zoo::text(name).unwrap();
        assert!(text.lines().count() <= 40, "{name} has {} lines", text.lines().count());
        assert!(text.lines().all(|line| line.len() <= 140), "{name} has a line of more than 140 letters");
        let count = with_commas(count(&network(name), |role| role != Role::Buffer));
        let comments = || text.lines().filter(|line| line.starts_with('#'));
        let says_it = |line: &str| line.split(' ').any(|word| word == count);
        assert!(comments().any(says_it), "{name} has {count} parameters, but its comments do not say so:\n{text}");
    }
}

#[test]
fn every_network_comes_back_from_its_canonical_text() {
    for name in zoo::NAMES {
        let network = network(name);
        let text = network.to_string();
        let back = Network::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        assert!(back.same_as(&network), "{name}\n{text}");
        assert_eq!(back.to_string(), text, "{name}");
        assert!(!text.contains("from "), "{name} is made of nested branches and needs no names:\n{text}");
    }
}

#[test]
fn every_network_takes_another_input_and_other_classes() {
    for name in zoo::NAMES {
        let original = network(name);
        let [channels, height, width] = original.input_shape().chw();
        let input = Some([channels + 1, height + 32, width + 32]);
        let arguments = TextArguments { input, classes: Some(7), strict: false };
        let changed = zoo::network(name, &arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(changed.input_shape().chw(), [channels + 1, height + 32, width + 32], "{name}");
        assert_eq!(changed.output_shape().chw(), [7, 1, 1], "{name}");
        assert_eq!(changed.nodes().len(), original.nodes().len(), "{name}");
    }
}

#[test]
fn names_may_have_hyphens_and_unknown_ones_suggest_the_nearest() {
    assert_eq!(zoo::text("MobileNet-V2"), zoo::text("mobilenet_v2"));
    for (wrong, right) in
        [("resnet19", "resnet18"), ("googlnet", "googlenet"), ("all-convolutionel", "all_convolutional"), ("vgg", "vgg11")]
    {
        let error = zoo::network(wrong, &TextArguments::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("no network '{wrong}'; did you mean '{right}'?")), "{error}");
        assert!(error.contains("squeezenet1_1"), "{error}");
    }
    assert!(!zoo::network("transformer", &TextArguments::default()).unwrap_err().to_string().contains("did you mean"));
}
