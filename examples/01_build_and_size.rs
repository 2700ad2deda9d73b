//! Builds a network twice, from text and layer by layer, and prints its sizes before anything runs.
//!
//! `cargo run --release --example 01_build_and_size`
//!
//! The convolution has (5·5·3 + 1)·10 = 760 parameters and 768,000 MACs per image.

use convnet::Result;
use convnet::layer::{conv2d::Conv2d, flatten::Flatten, linear::Linear, max_pool2d::MaxPool2d, relu::Relu};
use convnet::network::{Network, Solve};

fn main() -> Result<()> {
    let text = "input 3x32x32 -> conv 10 5x5 pad 2 -> relu -> maxpool 2 -> flatten -> fc 10";
    let network = Network::parse(text)?;

    let mut builder = Network::builder([3, 32, 32]);
    let conv = builder.add(Conv2d::new(10, [5, 5]).pad([2, 2]), &[builder.input()])?;
    let relu = builder.add(Relu, &[conv])?;
    let pool = builder.add(MaxPool2d::new([2, 2]), &[relu])?;
    let flat = builder.add(Flatten, &[pool])?;
    let scores = builder.add(Linear::new(10), &[flat])?;
    let same = builder.finish(scores)?;
    assert_eq!(network.to_string(), same.to_string());

    let summary = network.summary();
    println!("{summary}");
    assert_eq!((summary.layers[0].parameters, summary.layers[0].macs), (760, 768_000));

    // Which strides of the convolution would cover the image exactly?
    println!("\n{}", network.solve("conv1", Solve::Stride)?);
    Ok(())
}
