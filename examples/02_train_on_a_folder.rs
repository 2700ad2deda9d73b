//! Trains on a folder of images, evaluates, saves, loads and predicts.
//!
//! `cargo run --release --example 02_train_on_a_folder -- photos/`
//!
//! The folder holds `train/CLASS/*.png` and `test/CLASS/*.png`, or just `CLASS/*.png`. Without an argument the images
//! inside the program are used.

use convnet::Result;
use convnet::data::{Dataset, OpenOptions};
use convnet::model::Model;
use convnet::network::Network;
use convnet::train::{Event, Trainer};

fn main() -> Result<()> {
    let data = match std::env::args().nth(1) {
        Some(folder) => Dataset::open_with(folder, &OpenOptions { size: Some([3, 32, 32]), ..OpenOptions::default() })?,
        None => Dataset::embedded(),
    };
    let [c, h, w] = data.size();
    let network = Network::parse(&format!(
        "input {c}x{h}x{w}
         [conv 16 3x3 pad 1 no bias -> bn -> relu -> maxpool 2]*2
         conv 32 3x3 pad 1 no bias -> bn -> relu
         global avgpool -> flatten -> fc {}",
        data.classes.len()
    ))?;

    let show = |event: Event<'_>| {
        if let Event::Epoch(epoch) = event {
            println!("epoch {}: train loss {:.3}, {:.0} images/s", epoch.epoch, epoch.train.loss, epoch.images_per_second);
        }
    };
    let run = Trainer::new(&network).epochs(4).seed(7).observer(show).fit(&data)?;
    println!("{:.1} % of {} test images are right", 100.0 * run.evaluation.accuracy, run.evaluation.images);

    let file = std::env::temp_dir().join("convnet-example.safetensors");
    run.model.save(&file)?;
    let model = Model::load(&file)?;
    let prediction = model.predict(data.test.image(0))?;
    println!("the first test image is of '{}'; the model says:", data.classes[data.test.labels()[0]]);
    for (class, probability) in prediction.top(3) {
        println!("  {class}: {:.1} %", 100.0 * probability);
    }
    std::fs::remove_file(&file).map_err(convnet::Error::io(&file, "cannot remove"))
}
