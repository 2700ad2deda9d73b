//! Proofs of activation maximisation as a whole, on small networks.

use std::sync::OnceLock;

use convnet_kernels::Isa;

use super::*;
use crate::data::Dataset;
use crate::initialise::{Initialisation, initial_parameters};
use crate::layer::single::GRADIENT_TOLERANCE;
use crate::network::Parameters;
use crate::train::Trainer;

/// A network of two convolutions after one epoch of the embedded images.
fn trained() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let text = "input 1x28x28 -> conv 8 5x5 -> relu -> maxpool 2 -> conv 16 5x5 -> relu -> maxpool 2 -> flatten -> fc 10 -> softmax";
        let network = Network::parse(text).unwrap();
        Trainer::new(&network).epochs(1).seed(1).learning_rate(0.05).fit(&Dataset::embedded()).unwrap().model
    })
}

fn machine(threads: usize) -> Machine {
    Machine::new(Isa::detect(), threads)
}

/// An ascent in `f64` on a random colour network, with everything on that has a gradient.
fn ascent<'a>(network: &Network, parameters: &'a Parameters<f64>, objective: &Objective, layer: &str) -> Ascent<'a, f64> {
    let node = network.find(layer).unwrap();
    let pixels = (0..3 * 72).map(|i| (i * 89 % 253) as u8).collect();
    let split = crate::data::Split::new([3, 8, 9], pixels, vec![0]).unwrap();
    let recipe = Recipe { steps: 1, learning_rate: 1e-300, redirected: 0, ..Recipe::default() };
    objective.check(layer, network.shape(node)).unwrap();
    Ascent {
        machine: machine(1),
        plan: Plan::new(network, 1, Purpose::Inspect, &machine(1)).unwrap(),
        parameters,
        node,
        shape: network.shape(node),
        compared: compared_at(network, node),
        painter: Painter::new(
            recipe.parametrisation,
            [3, 8, 9],
            &crate::data::Normalisation::of(&split),
            &Colours::of(&split),
            Isa::detect(),
        ),
        recipe,
        variation: 0.02,
        views: Views { shift: 1.5, scale: 0.2, rotate: 20.0 },
        address: Address::new(3, random::Purpose::Look).then(MAXIMISE),
    }
}

/// The objective on the first view, the total variation, and the gradient that an ascent follows.
fn climbed(ascent: &mut Ascent<'_, f64>, sketch: &Sketch<f64>) -> (f64, f64, Vec<f64>) {
    let mut sketch = vec![sketch.clone()];
    ascent.climb(&mut sketch);
    let (h, w) = (8, 9);
    let variation: f64 = sketch[0]
        .image()
        .chunks_exact(h * w)
        .flat_map(|plane| {
            (0..h * w).map(move |here| {
                let down = if here / w + 1 < h { plane[here + w] - plane[here] } else { 0.0 };
                let across = if here % w + 1 < w { plane[here + 1] - plane[here] } else { 0.0 };
                (down * down + across * across + 1e-6).sqrt()
            })
        })
        .sum();
    (sketch[0].history()[0], variation, sketch[0].descent().iter().map(|value| -value).collect())
}

#[test]
fn the_gradient_of_an_image_is_exact_through_waves_colours_views_and_network() {
    let text = "input 3x8x9 -> conv 4 3x3 pad 1 -> bn -> relu -> add( conv 4 3x3 pad 1 | identity ) -> maxpool 2 -> flatten -> fc 5";
    let network = Network::parse(text).unwrap();
    let parameters: Parameters<f64> = initial_parameters(&network, Initialisation::default(), 4).unwrap().cast();
    let sum = Objective::Sum(vec![(1.0, Objective::neuron(1)), (-0.5, Objective::channel(0))]);
    for (objective, layer) in
        [(Objective::neuron(2), "fc1"), (Objective::channel(1).negative(), "add1"), (Objective::Layer, "conv1"), (sum, "bn1")]
    {
        let mut ascent = ascent(&network, &parameters, &objective, layer);
        let sketch = ascent.sketch(&objective, 0, 0, None);
        let (value, _, gradient) = climbed(&mut ascent, &sketch);
        for index in (0..gradient.len()).step_by(5) {
            let mut at = |change: f64| {
                let (objective, variation, _) = climbed(&mut ascent, &sketch.moved(index, change));
                objective - 0.02 * value.abs() * variation
            };
            let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
            let error = (difference - gradient[index]).abs() / difference.abs().max(1.0);
            assert!(error < GRADIENT_TOLERANCE, "{objective:?} at {index}: {} and {difference}", gradient[index]);
        }
    }
}

#[test]
fn it_beats_plain_gradient_ascent_on_changed_copies_and_in_grain() {
    let model = trained();
    let (mut better, mut images) = (0, 0);
    let (mut fine, mut plain_fine) = (0.0, 0.0);
    let mean = |all: &[Robustness]| all.iter().map(|one| f64::from(one.changed)).sum::<f64>() / all.len() as f64;
    for layer in ["conv2", "softmax1"] {
        let made = |recipe: Recipe| {
            let run = Maximiser::new(model).recipe(Recipe { steps: 64, ..recipe }).seed(5);
            let run = if layer == "softmax1" { run } else { run.layer(layer) };
            let images = run.run().unwrap();
            robustness(model, &images, Views { shift: 2.0, scale: 0.05, rotate: 5.0 }, 16, 99, &machine(2)).unwrap()
        };
        let (ours, plain) = (made(Recipe::default()), made(Recipe::unregularised()));
        better += ours.iter().zip(&plain).filter(|(ours, plain)| ours.changed > plain.changed).count();
        images += ours.len();
        assert!(mean(&ours) > mean(&plain), "{layer}: {} {}", mean(&ours), mean(&plain));
        fine += ours.iter().map(|one| one.fine).sum::<f64>();
        plain_fine += plain.iter().map(|one| one.fine).sum::<f64>();
    }
    assert!(better * 4 > images * 3, "{better} of {images}");
    assert!(fine < plain_fine / 2.0, "{fine} {plain_fine}");
}

#[test]
fn a_class_is_seen_in_its_image_and_nothing_in_the_data_excites_it_more() {
    let model = trained();
    let images = Maximiser::new(model).seed(2).run().unwrap();
    assert_eq!(images.len(), 10);
    for (class, image) in images.iter().enumerate() {
        assert_eq!((image.layer.as_str(), image.objective.only_channel()), ("fc1", Some(class)));
        assert_eq!(model.predict(&image.bytes()).unwrap().top(1)[0].0, model.classes()[class]);
        assert!(image.history[..8].iter().sum::<f32>() < image.history[image.history.len() - 8..].iter().sum::<f32>());
    }
    let standing = standing(model, &images, &Dataset::embedded().test, &machine(2)).unwrap();
    assert!(standing.iter().all(|one| one.images == 1000 && one.mean < one.largest && one.smallest < one.mean));
    assert!(standing.iter().filter(|one| one.quantile == 1.0).count() >= 8, "{standing:?}");
}

#[test]
fn threads_and_order_change_no_bit_and_seeds_do() {
    let run = |threads: usize, seed: u64| {
        let maximiser = Maximiser::new(trained()).layer("conv1").steps(6).seed(seed).machine(machine(threads));
        maximiser.run().unwrap().into_iter().flat_map(|image| image.image).collect::<Vec<f32>>()
    };
    assert_eq!(run(1, 4), run(3, 4));
    assert_ne!(run(1, 4), run(1, 5));
}

#[test]
fn the_objective_of_a_rectified_layer_is_taken_in_front_of_it() {
    let images = Maximiser::new(trained()).layer("relu2").objectives([Objective::neuron(3).negative()]).steps(24).run().unwrap();
    assert_eq!((images[0].layer.as_str(), images[0].taken_at.as_str()), ("relu2", "conv2"));
    assert!(images[0].value > 0.0, "the neuron's number fell to {}", -images[0].value);
    // A 5×5 window on pooled pairs of 5×5 windows sees 14 pixels.
    assert_eq!((images[0].rows.len(), images[0].columns.len()), (14, 14));
    assert_eq!(images[0].seen().1.len(), 196);
}

#[test]
fn diversity_makes_a_group_less_alike() {
    let spread = |diversity: f32| {
        let recipe = Recipe { steps: 48, copies: 4, diversity, ..Recipe::default() };
        let images =
            Maximiser::new(trained()).layer("conv2").objectives([Objective::neuron(0), Objective::neuron(1)]).recipe(recipe).run().unwrap();
        assert_eq!(images.iter().map(|image| image.copy).collect::<Vec<_>>(), [0, 1, 2, 3, 0, 1, 2, 3]);
        let mut total = 0.0;
        for group in images.chunks(4) {
            for (i, a) in group.iter().enumerate() {
                for b in &group[..i] {
                    total += a.image.iter().zip(&b.image).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
                }
            }
        }
        total
    };
    let (alike, diverse) = (spread(0.0), spread(2.0));
    assert!(diverse > 1.2 * alike, "{alike} {diverse}");
}

#[test]
fn a_layer_dreams_more_of_what_it_sees() {
    let data = Dataset::embedded();
    let dream = Maximiser::new(trained()).layer("conv2").objectives([Objective::Layer]).start(data.test.image(0)).steps(32);
    let image = dream.run().unwrap().remove(0);
    let last = image.history[28..].iter().sum::<f32>() / 4.0;
    assert!(last > 1.15 * image.history[0], "{:?}", image.history);
    assert_eq!((image.rows.clone(), image.columns.clone()), (0..28, 0..28));
}

#[test]
fn an_atlas_shares_what_layers_pass_on() {
    let recipe = Recipe { steps: 2, ..Recipe::default() };
    let mut told = Vec::new();
    let atlas = Atlas::new(trained()).recipe(recipe).most(3).run(|done, all, layer| told.push((done, all, layer.layer.clone()))).unwrap();
    assert_eq!(told.len(), 9);
    assert_eq!(told[8], (9, 9, "softmax1".to_owned()));
    assert_eq!((atlas[1].layer.as_str(), atlas[1].channels, atlas[1].images.len()), ("relu1", 8, 3));
    assert_eq!(atlas[1].images[2].image, atlas[0].images[2].image);
    assert_eq!((atlas[1].images[2].layer.as_str(), atlas[1].images[2].taken_at.as_str()), ("relu1", "conv1"));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let model = trained();
    let refused = |maximiser: Maximiser<'_>| maximiser.run().unwrap_err().to_string();
    assert!(refused(Maximiser::new(model).layer("conv9")).contains("no layer 'conv9'"));
    assert!(refused(Maximiser::new(model).class("Hat")).contains("no class 'Hat'"));
    assert!(refused(Maximiser::new(model).layer("conv1").objectives([Objective::neuron(8)])).contains("'conv1' has 8 channels"));
    assert!(refused(Maximiser::new(model).steps(0)).contains("0 steps"));
    assert!(refused(Maximiser::new(model).colours(Colours::independent(3))).contains("3 channels"));
    assert!(refused(Maximiser::new(model).start(&[0; 3])).contains("784"));
    let other = crate::data::Split::new([1, 2, 2], vec![0; 4], vec![0]).unwrap();
    assert!(standing(model, &[], &other, &machine(1)).is_err());
}
