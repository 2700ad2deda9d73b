//! Reads what one layer computes for one image, and the arithmetic behind one of its numbers.
//!
//! `cargo run --release --example 04_read_one_activation`
//!
//! The number in f64 differs from the network's f32 by less than 1e-5.

use convnet::Result;
use convnet::data::Dataset;
use convnet::look::{Inspector, explain};
use convnet::network::Network;
use convnet::train::Trainer;

fn main() -> Result<()> {
    let data = Dataset::embedded();
    let network = Network::parse("input 1x28x28 -> conv 8 5x5 stride 2 -> relu -> maxpool 2 -> flatten -> fc 10")?;
    let run = Trainer::new(&network).epochs(1).fit(&data)?;

    let inspector = Inspector::new(&run.model, data.test.image(0))?;
    let maps = inspector.activation("conv1")?;
    println!("conv1 gives {:?} numbers: channels, rows, columns", maps.sizes());

    let explained = explain(&inspector, "conv1", [3, 5, 5])?;
    println!("{} of conv1 at channel 3, row 5, column 5 is {:.5}", explained.rule, explained.output);
    let largest = explained.terms.iter().max_by(|a, b| a.product.abs().total_cmp(&b.product.abs()));
    if let Some(term) = largest {
        println!("its largest product: {:.4} (image at {:?}) · {:.4} = {:.4}", term.input, term.at, term.weight, term.product);
    }
    println!("it sees rows {:?} and columns {:?} of the image", explained.rows, explained.columns);
    assert!((explained.recomputed - explained.output).abs() < 1e-5);

    let pooled = explain(&inspector, "maxpool1", [3, 2, 2])?;
    if let Some(choice) = pooled.choice {
        println!("the max pooling took {:.4} from row {}, column {}", choice.value, choice.at[1], choice.at[2]);
    }
    Ok(())
}
