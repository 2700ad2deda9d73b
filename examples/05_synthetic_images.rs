//! What an image made for a neuron is worth: how much of its answer survives small changes of the image, and how much of
//! the image is grain, for three ways of making it.
//!
//! `cargo run --release --example 05_synthetic_images`
//!
//! Of images made of waves 72 % of the answer survives, of plain pixels 18 %; 19 % of their power is grain, of plain pixels 70 %.

use convnet::Result;
use convnet::data::Dataset;
use convnet::look::maximise::{Colours, Maximiser, Recipe, Views, robustness};
use convnet::network::Network;
use convnet::train::Trainer;
use convnet_kernels::Machine;

fn main() -> Result<()> {
    let data = Dataset::embedded();
    let network = Network::parse(
        "input 1x28x28 -> conv 16 5x5 stride 2 pad 2 -> bn -> relu -> conv 32 3x3 pad 1 -> bn -> relu -> maxpool 2 -> \
         conv 32 3x3 pad 1 -> bn -> relu -> global avgpool -> flatten -> fc 10",
    )?;
    let model = Trainer::new(&network).epochs(5).seed(1).fit(&data)?.model;
    let machine = Machine::detect().map_err(convnet::Error::Argument)?;
    let changes = Views { shift: 2.0, scale: 0.05, rotate: 5.0 };

    println!("32 neurons of conv3, means     answer  on 16 changed copies  power of grain");
    for (name, recipe) in [
        ("waves, small changes", Recipe::default()),
        ("pixels, decay and blur", Recipe::pixels()),
        ("pixels, nothing else", Recipe::unregularised()),
    ] {
        let run = Maximiser::new(&model).layer("conv3").recipe(recipe).colours(Colours::of(&data.train)).seed(1);
        let found = robustness(&model, &run.run()?, changes, 16, 2, &machine)?;
        let mean = |of: fn(&convnet::look::maximise::Robustness) -> f64| found.iter().map(of).sum::<f64>() / found.len() as f64;
        let [value, changed] = [mean(|one| f64::from(one.value)), mean(|one| f64::from(one.changed))];
        println!("{name:28} {value:8.2} {changed:12.2} ({:2.0} %) {:12.1} %", 100.0 * changed / value, 100.0 * mean(|one| one.fine));
    }
    Ok(())
}
