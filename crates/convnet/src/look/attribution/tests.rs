use convnet_kernels::{Isa, Machine};

use super::*;
use crate::initialise::{Initialisation, initial_parameters};
use crate::network::{Network, Parameters};

const CHAIN: &str = "input 1x9x8 -> conv 4 3x3 -> relu -> maxpool 2 -> conv 6 3x3 pad 1 -> leaky relu -> flatten -> fc 3 -> softmax";
const RESIDUAL: &str = "input 1x9x8 -> conv 4 3x3 pad 1 -> bn -> relu -> add( conv 4 3x3 pad 1 -> relu | identity ) -> relu \
    -> global avgpool -> flatten -> fc 3";
const INCEPTION: &str = "input 3x9x8 -> conv 4 3x3 pad 1 -> relu -> concat( conv 3 1x1 -> relu | maxpool 3 stride 1 pad 1 -> conv 2 1x1 ) \
    -> conv 5 3x3 -> relu -> flatten -> dropout 0.5 -> fc 3 -> log softmax";

fn image(network: &Network, seed: u64) -> Vec<f32> {
    let mut random = Address::new(seed, Purpose::Check).random();
    (0..network.input_shape().image()).map(|_| random.normal() as f32).collect()
}

fn drawn(text: &str) -> (Network, Parameters) {
    let network = Network::parse(text).unwrap();
    let parameters = initial_parameters(&network, Initialisation::He, 5).unwrap();
    (network, parameters)
}

/// A network whose parameters are these, one after the other.
fn given(text: &str, numbers: &[f64]) -> (Network, Parameters<f64>) {
    let network = Network::parse(text).unwrap();
    let mut rest = numbers;
    let parameters = Parameters::build(&network, |_, spec| {
        let (own, others) = rest.split_at(spec.count());
        rest = others;
        own.to_vec()
    });
    assert!(rest.is_empty());
    (network, parameters.unwrap())
}

#[test]
fn every_method_maps_every_kind_of_network_and_target() {
    for text in [CHAIN, RESIDUAL, INCEPTION] {
        let (network, parameters) = drawn(text);
        let image = image(&network, 1);
        let mut subject = Subject::new(&network, &parameters).unwrap();
        let neuron = Target::Neuron { layer: "relu2".into(), at: [1, 2, 2] };
        let neuron = if neuron.spot(&network).is_ok() { neuron } else { Target::Neuron { layer: "conv2".into(), at: [1, 2, 2] } };
        for target in [subject.predicted(&image).unwrap(), Target::Class(0), neuron] {
            let score = subject.attribute(&image, &target, Method::Gradient, &Settings::default()).unwrap().score;
            for method in Method::ALL {
                let found = subject.attribute(&image, &target, method, &Settings::default()).unwrap();
                let places = found.layer.as_ref().map_or(network.input_shape(), |layer| network.shape(network.find(layer).unwrap()));
                let channels = if method.reads_a_layer() || method == Method::Occlusion { 1 } else { places.c };
                assert_eq!(found.map.sizes(), [channels, places.h, places.w], "{text}: {method}");
                assert_eq!(found.layer.is_some(), method.reads_a_layer());
                assert_eq!(found.score, score, "{text}: {method} of {target}");
                assert!(found.map.values().iter().all(|value| value.is_finite()));
                assert_eq!(found.over_image([9, 8]).sizes(), [9, 8]);
                assert_eq!(found.completeness.is_some(), method == Method::IntegratedGradients);
            }
        }
    }
}

#[test]
fn scores_are_those_before_the_last_softmax() {
    let (network, parameters) = drawn(CHAIN);
    let image = image(&network, 1);
    let mut subject = Subject::new(&network, &parameters).unwrap();
    let scores = subject.scores(&image).unwrap();
    assert!((scores.iter().sum::<f32>() - 1.0).abs() > 1e-3, "{scores:?} are probabilities");
    let Target::Class(best) = subject.predicted(&image).unwrap() else { panic!("a class is predicted") };
    assert!(scores.iter().all(|score| *score <= scores[best]));
    let found = subject.attribute(&image, &Target::Class(2), Method::GradCam, &Settings::default()).unwrap();
    assert_eq!(found.score, f64::from(scores[2]));
}

#[test]
fn the_shares_of_integrated_gradients_add_up_with_enough_steps() {
    let (network, parameters) = drawn(INCEPTION);
    let (baseline, image) = (image(&network, 2), image(&network, 1));
    let mut subject = Subject::new(&network, &parameters).unwrap();
    let mut whole = |steps| {
        // Without biases the way from 0 would be straight, and one step enough.
        let settings = Settings { steps, baseline: Some(baseline.clone()), ..Settings::default() };
        subject.attribute(&image, &Target::Class(1), Method::IntegratedGradients, &settings).unwrap().completeness.unwrap()
    };
    let (few, many) = (whole(4), whole(256));
    assert_eq!(few.difference, many.difference);
    assert!(many.relative_error() < 0.01 && many.error().abs() < few.error().abs(), "{few:?} {many:?}");
}

#[test]
fn smooth_gradients_without_noise_are_the_gradient_and_with_it_depend_on_the_seed_alone() {
    let (network, parameters) = drawn(RESIDUAL);
    let image = image(&network, 1);
    let mut subject = Subject::new(&network, &parameters).unwrap();
    let mut smooth = |noise, seed| {
        let settings = Settings { noise, seed, samples: 5, ..Settings::default() };
        subject.attribute(&image, &Target::Class(1), Method::SmoothGrad, &settings).unwrap().map
    };
    let (still, one, again, other) = (smooth(0.0, 1), smooth(0.2, 1), smooth(0.2, 1), smooth(0.2, 2));
    assert_eq!(one, again);
    assert_ne!(one, other);
    let gradient = subject.attribute(&image, &Target::Class(1), Method::Gradient, &Settings::default()).unwrap().map;
    let largest = gradient.values().iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (still, gradient) in still.values().iter().zip(gradient.values()) {
        assert!((still - gradient).abs() <= 1e-5 * largest, "{still} and {gradient}");
    }
}

#[test]
fn the_same_bits_come_out_of_any_number_of_threads() {
    for text in [RESIDUAL, INCEPTION] {
        let (network, parameters) = drawn(text);
        let image = image(&network, 1);
        let maps = |threads: usize| {
            let mut subject = Subject::on(&network, &parameters, &Machine::new(Isa::detect(), threads)).unwrap();
            let map = |method| subject.attribute(&image, &Target::Class(2), method, &Settings::default()).unwrap().map;
            Method::ALL.map(map).map(|map| map.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>())
        };
        let one = maps(1);
        assert!([2, 3].into_iter().all(|threads| maps(threads) == one), "{text}");
    }
}

#[test]
fn a_map_without_positive_evidence_says_so() {
    // One map, the image where it is positive; the class's score is minus its mean.
    let (network, parameters) =
        given("input 1x2x2 -> conv 1 1x1 no bias -> relu -> global avgpool -> flatten -> fc 1 no bias", &[1.0, -1.0]);
    let mut subject = Subject::new(&network, &parameters).unwrap();
    for method in [Method::GradCam, Method::ScoreCam, Method::LayerCam, Method::GradCamPlusPlus] {
        let silent = subject.attribute(&[-1.0, -2.0, -3.0, -4.0], &Target::Class(0), method, &Settings::default()).unwrap();
        assert_eq!(silent.evidence, Evidence::None, "{method}");
        assert!(silent.evidence.sentence().unwrap().contains("No evidence"));
    }
    let against = subject.attribute(&[1.0, 2.0, -1.0, 4.0], &Target::Class(0), Method::GradCam, &Settings::default()).unwrap();
    assert_eq!(against.map.values(), [-0.25, -0.5, 0.0, -1.0]);
    assert_eq!((against.evidence, against.layer.as_deref()), (Evidence::NonePositive, Some("relu1")));
    assert!(against.evidence.sentence().unwrap().contains("No positive evidence"));
    assert_eq!(against.plane().values(), [0.0; 4]);
}

#[test]
fn score_cam_weighs_maps_by_what_is_seen_through_them() {
    // Maps x and 4 − x; the score is the first map's second number.
    let (network, parameters) =
        given("input 1x1x2 -> conv 2 1x1 -> relu -> flatten -> fc 1 no bias", &[1.0, -1.0, 0.0, 4.0, 0.0, 1.0, 0.0, 0.0]);
    let mut subject = Subject::new(&network, &parameters).unwrap();
    let found = subject.attribute(&[1.0, 3.0], &Target::Class(0), Method::ScoreCam, &Settings::default()).unwrap();
    // Through (0, 1) the image is (0, 3) with score 3, through (1, 0) it is (1, 0) with score 0.
    let share = 1.0 / (1.0 + (-3.0_f64).exp());
    for (found, expected) in found.map.values().iter().zip([share + 3.0 * (1.0 - share), 3.0 * share + (1.0 - share)]) {
        assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
    }
}

#[test]
fn occlusion_says_of_each_pixel_how_far_the_score_falls() {
    let (network, parameters) = given("input 1x1x4 -> flatten -> fc 1 no bias", &[1.0, 10.0, 100.0, 1000.0]);
    let mut subject = Subject::new(&network, &parameters).unwrap();
    let settings = Settings { window: Some([1, 2]), stride: Some([1, 1]), ..Settings::default() };
    let found = subject.attribute(&[1.0; 4], &Target::Class(0), Method::Occlusion, &settings).unwrap();
    // Windows 0–1, 1–2 and 2–3 take 11, 110 and 1100.
    assert_eq!(found.map.values(), [11.0, 60.5, 605.0, 1100.0]);
}

#[test]
fn a_plane_is_what_its_method_says() {
    let (network, parameters) = given("input 2x1x2 -> flatten -> fc 1 no bias", &[1.0, -2.0, -3.0, 1.0]);
    let mut subject = Subject::new(&network, &parameters).unwrap();
    let mut plane = |method| subject.attribute(&[1.0, 2.0, 3.0, 4.0], &Target::Class(0), method, &Settings::default()).unwrap().plane();
    assert_eq!(plane(Method::Gradient).values(), [3.0, 2.0]);
    assert_eq!(plane(Method::GradientInput).values(), [1.0 - 9.0, -4.0 + 4.0]);
}

#[test]
fn what_cannot_be_asked_is_told() {
    let (network, parameters) = drawn(CHAIN);
    let image = image(&network, 1);
    let mut subject = Subject::new(&network, &parameters).unwrap();
    let normal = Settings::default();
    let mut error = |image: &[f32], target: Target, method, settings: &Settings| {
        subject.attribute(image, &target, method, settings).unwrap_err().to_string()
    };
    let class = || Target::Class(0);
    let all = &image[..];
    for (message, words) in [
        (error(&all[1..], class(), Method::Gradient, &normal), "1x9x8"),
        (error(all, Target::Class(3), Method::Gradient, &normal), "no class 3"),
        (error(all, class(), Method::GradCam, &Settings { layer: Some("conv9".into()), ..normal.clone() }), "no layer 'conv9'"),
        (error(all, class(), Method::LayerCam, &Settings { layer: Some("softmax1".into()), ..normal.clone() }), "does not depend"),
        (error(all, class(), Method::ScoreCam, &Settings { layer: Some("softmax1".into()), ..normal.clone() }), "does not depend"),
        (error(all, class(), Method::SmoothGrad, &Settings { samples: 0, ..normal.clone() }), "0 samples"),
        (error(all, class(), Method::SmoothGrad, &Settings { noise: f64::NAN, ..normal.clone() }), "NaN"),
        (error(all, class(), Method::IntegratedGradients, &Settings { steps: 0, ..normal.clone() }), "0 steps"),
        (error(all, class(), Method::IntegratedGradients, &Settings { baseline: Some(vec![0.0]), ..normal.clone() }), "baseline"),
        (error(all, class(), Method::Occlusion, &Settings { window: Some([0, 2]), ..normal.clone() }), "0 rows"),
        (error(all, class(), Method::Occlusion, &Settings { window: Some([2, 9]), ..normal.clone() }), "9 columns"),
        (error(all, class(), Method::Occlusion, &Settings { stride: Some([3, 1]), ..normal.clone() }), "every 3"),
        (error(all, class(), Method::Occlusion, &Settings { fill: Some(vec![0.0; 3]), ..normal.clone() }), "1 channels"),
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(subject.smooth_gradient(&image, &Target::Class(0), &[0.0; 5]).unwrap_err().to_string().contains("not a whole number"));
}
