//! `convnet summary`: the table of sizes.

use std::process::ExitCode;

use convnet::network::Network;
use convnet::optim::Optimizer;
use convnet::plan::{self, Purpose, convolutions};
use convnet::{Machine, Result};
use convnet_kernels::conv::tuning::Question;
use convnet_kernels::conv::{Pass, explain};

use crate::arguments::{MachineArguments, SummaryArguments};
use crate::output::Output;
use crate::sources::{machine, network};
use crate::tuning::tuned;

pub fn run(arguments: &SummaryArguments, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    let network = network(&arguments.net, &arguments.network.text_arguments(None, None))?;
    let machine = machine(machine_arguments)?;
    if let (Some(solve), Some(layer)) = (arguments.solve, &arguments.layer) {
        let solutions = network.solve(layer, solve)?;
        output.json(&solutions)?;
        output.result(solutions.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let slots = Optimizer::default().slots();
    let mut summary = plan::summary(&network, arguments.batch, &machine, slots)?;
    if arguments.recompute {
        summary = summary.with_recomputation(plan::recomputation(&network, arguments.batch, &machine, slots)?);
    }
    output.json(&summary)?;
    output.result(summary.to_string())?;
    if arguments.explain {
        let plans = [(arguments.batch, Purpose::Infer), (arguments.batch, Purpose::Train)];
        let machine = if arguments.tune { tuned(machine, &network, &plans, output)? } else { machine };
        output.result(algorithms(&network, arguments.batch, &machine)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Which algorithm computes each convolution, and why not a faster one: forward with weights that stay (and with those of a
/// training, which change, where that makes another choice), backward as a training asks for it.
fn algorithms(network: &Network, batch: usize, machine: &Machine) -> Result<String> {
    let mut text = format!("algorithms on {}, for products of {}:", machine.isa, machine.precision);
    let training = machine.clone().for_uses(1);
    for convolution in convolutions(network, batch, Purpose::Train, machine)? {
        let Some(shape) = convolution.questions.first().map(Question::shape) else { continue };
        text += &format!("\n  {}: {shape}", convolution.layer);
        for pass in convolution.questions.iter().map(Question::pass) {
            let chosen = explain::<f32>(shape, machine.means(), pass);
            let chosen_in_training = explain::<f32>(shape, training.means(), pass);
            let differs = pass == Pass::Forward && chosen.0 != chosen_in_training.0;
            text += &line(pass.name(), chosen);
            if differs {
                text += &line("forward in training", chosen_in_training);
            }
        }
    }
    Ok(text)
}

fn line(pass: &str, (chosen, reasons): (&str, Vec<(&str, String)>)) -> String {
    let reasons: String = reasons.iter().map(|(name, reason)| format!("; not {name}: {reason}")).collect();
    format!("\n    {pass}: {chosen}{reasons}")
}
