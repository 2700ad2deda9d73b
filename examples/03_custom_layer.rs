//! A layer of one's own, y = x², checked against central differences and used in a network.
//!
//! `cargo run --release --example 03_custom_layer`
//!
//! The largest error of its gradient is below 1e-8.

use convnet::layer::conv2d::Conv2d;
use convnet::layer::single::gradient_errors;
use convnet::layer::{Backward, Forward, Layer, LayerRules, Memory, Use};
use convnet::network::{Network, Parameters};
use convnet::plan::{Plan, Purpose};
use convnet::shape::Shape;
use convnet::{Error, Machine, Real, Result};

/// y = x².
#[derive(Debug)]
struct Square;

impl LayerRules for Square {
    fn kind(&self) -> &'static str {
        "square"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(inputs[0])
    }

    fn elementwise(&self) -> bool {
        true
    }

    fn memory<T: Real>(&self, _: &[Shape], _: Use) -> Memory {
        Memory { keeps_inputs: true, ..Memory::default() }
    }

    fn forward<T: Real>(&self, pass: Forward<'_, T>) {
        for (y, &x) in pass.output.iter_mut().zip(pass.inputs[0]) {
            *y = x * x;
        }
    }

    fn backward<T: Real>(&self, pass: Backward<'_, T>) {
        let Some(grad_input) = &mut pass.grad_inputs[0] else { return };
        for ((dx, &dy), &x) in grad_input.iter_mut().zip(pass.grad_output).zip(pass.inputs[0]) {
            *dx = (x + x) * dy;
        }
    }
}

fn main() -> Result<()> {
    let layer = Layer::custom(Square);
    for error in gradient_errors(&layer, &[Shape::new(2, 3, 4, 4)], true, 1)? {
        println!("gradient of {}: largest error {:.1e} over {} numbers", error.of, error.error, error.count);
        assert!(error.error < 1e-8);
    }

    let mut builder = Network::builder([1, 8, 8]);
    let conv = builder.add(Conv2d::new(4, [3, 3]), &[builder.input()])?;
    let square = builder.add(layer, &[conv])?;
    let network = builder.finish(square)?;
    let parameters = Parameters::build(&network, |_, spec| (0..spec.count()).map(|i| i as f32 / 10.0).collect())?;
    let machine = Machine::detect().map_err(Error::Argument)?;
    let mut plan = Plan::<f32>::new(&network, 1, Purpose::Infer, &machine)?;
    let output = plan.forward(&parameters, &[1.0; 64], 0);
    println!("the first output is {:.3}", output[0]);
    Ok(())
}
