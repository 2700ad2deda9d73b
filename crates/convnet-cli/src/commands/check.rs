//! `convnet check`: every layer's gradient against central differences.

use std::process::ExitCode;

use convnet::Result;
use convnet::check::{LayerCheck, check};
use convnet::layer::single::GRADIENT_TOLERANCE;
use convnet::shape::sizes_text;
use serde_json::json;

use crate::arguments::{CheckArguments, MachineArguments};
use crate::failure::FAILED;
use crate::output::Output;
use crate::sources::{machine, network};

pub fn run(arguments: &CheckArguments, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    let network = network(&arguments.net, &arguments.network.text_arguments(None, None))?;
    let threads = machine(machine_arguments)?.threads.count();
    let mut printed = Ok(());
    let checks = check(&network, arguments.seed, threads, |layer| {
        let line = output.result(line(layer));
        if printed.is_ok() {
            printed = line;
        }
    })?;
    printed?;
    let failed: Vec<&str> = checks.iter().filter(|layer| !layer.holds()).map(|layer| layer.name.as_str()).collect();
    let worst = checks.iter().map(LayerCheck::worst).fold(0.0, f64::max);
    output.json(&json!({
        "holds": failed.is_empty(),
        "tolerance": GRADIENT_TOLERANCE,
        "worst": worst,
        "layers": checks.iter().map(document).collect::<Vec<_>>(),
    }))?;
    if failed.is_empty() {
        output
            .result(format!("all {} layers hold; the largest error is {worst:.1e}, {GRADIENT_TOLERANCE:.0e} is allowed", checks.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    output.result(format!("{} of {} layers do not hold: {}", failed.len(), checks.len(), failed.join(", ")))?;
    Ok(ExitCode::from(FAILED))
}

fn line(layer: &LayerCheck) -> String {
    let compared: usize = layer.errors.iter().map(|error| error.count).sum();
    let sizes: Vec<String> = layer.inputs.iter().map(|shape| sizes_text(&shape.chw())).collect();
    let at = if layer.reduced { format!(", at {} instead of its full size", sizes.join(" and ")) } else { String::new() };
    let verdict = if layer.holds() { "holds" } else { "FAILS" };
    let mut text = format!("{verdict}  {} ({}): {compared} numbers, largest error {:.1e}{at}", layer.name, layer.text, layer.worst());
    for error in layer.errors.iter().filter(|error| error.error > GRADIENT_TOLERANCE) {
        text += &format!(
            "\n       {} at {}: gradient {:.6e}, central difference {:.6e}",
            error.of, error.place, error.gradient, error.difference
        );
    }
    text
}

fn document(layer: &LayerCheck) -> serde_json::Value {
    let errors = layer.errors.iter().map(|error| {
        json!({"of": error.of, "count": error.count, "error": error.error, "place": error.place, "gradient": error.gradient, "difference": error.difference})
    });
    json!({
        "name": layer.name,
        "text": layer.text,
        "holds": layer.holds(),
        "reduced": layer.reduced,
        "inputs": layer.inputs.iter().map(|shape| shape.chw()).collect::<Vec<_>>(),
        "errors": errors.collect::<Vec<_>>(),
    })
}
