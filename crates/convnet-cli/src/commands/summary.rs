//! `convnet summary`: the table of sizes.

use std::process::ExitCode;

use convnet::layer::Layer;
use convnet::network::Network;
use convnet::optim::Optimizer;
use convnet::{Result, plan};
use convnet_kernels::Machine;
use convnet_kernels::conv::{ConvShape, Pass, explain};

use crate::arguments::{MachineArguments, SummaryArguments};
use crate::output::Output;
use crate::sources::{machine, network};

pub fn run(arguments: &SummaryArguments, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    let network = network(&arguments.net, &arguments.network.text_arguments(None, None))?;
    let machine = machine(machine_arguments)?;
    if let (Some(solve), Some(layer)) = (arguments.solve, &arguments.layer) {
        let solutions = network.solve(layer, solve)?;
        output.json(&solutions)?;
        output.result(solutions.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let summary = plan::summary(&network, arguments.batch, &machine, Optimizer::default().slots())?;
    output.json(&summary)?;
    output.result(summary.to_string())?;
    if arguments.explain {
        output.result(algorithms(&network, arguments.batch, &machine))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Which algorithm computes each convolution, and why not a faster one.
fn algorithms(network: &Network, batch: usize, machine: &Machine) -> String {
    let mut text = format!("algorithms on {}:", machine.isa);
    for node in network.nodes() {
        let shape = node.input_shapes()[0];
        let problem = match node.layer() {
            Layer::Conv2d(conv) => ConvShape::new(batch, shape.c, [shape.h, shape.w], conv.filters, conv.window, conv.groups),
            Layer::Linear(linear) => ConvShape::new(batch, shape.c, [1, 1], linear.outputs, convnet_kernels::window::Window::pixel(), 1),
            _ => continue,
        };
        let Ok(problem) = problem else { continue };
        text += &format!("\n  {}: {problem}", node.name());
        for pass in Pass::ALL {
            let (chosen, reasons) = explain::<f32>(&problem, machine.means(), pass);
            text += &format!("\n    {}: {chosen}", pass.name());
            for (name, reason) in reasons {
                text += &format!("; not {name}: {reason}");
            }
        }
    }
    text
}
