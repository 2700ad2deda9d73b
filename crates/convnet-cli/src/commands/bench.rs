//! `convnet bench`: how fast this machine computes.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use convnet::bench::{
    Bench, LayerBench, LayerTiming, Limits, MachineReport, ModelBench, NetTiming, PASSES, PROBLEMS, Problem, TrainBench, machine_report,
    write_model,
};
use convnet::network::Network;
use convnet::plan::Purpose;
use convnet::{Error, Machine, Result};
use serde::Serialize;

use crate::arguments::{BenchCommand, BenchNetArguments, MachineArguments, RoundsArguments};
use crate::output::Output;
use crate::sources::{machine, network};
use crate::tuning::tuned;

pub fn run(command: &BenchCommand, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    match command {
        BenchCommand::Layers { problems, pass, rounds } => layers(problems, pass.as_deref(), *rounds, machine_arguments, output)?,
        BenchCommand::Model { net: arguments, write_model: path } => {
            let network = network(&arguments.net, &arguments.network.text_arguments(None, None))?;
            if let Some(path) = path {
                write_model(&network, path)?;
            }
            let machine = machine_for(&network, Purpose::Infer, arguments, machine_arguments, output)?;
            let bench = ModelBench::new(&network, &arguments.net, arguments.batch, &machine)?;
            net(bench, "one batch forward", arguments, output)?;
        }
        BenchCommand::Train { net: arguments, recompute } => {
            let purpose = if *recompute { Purpose::TrainRecomputing } else { Purpose::Train };
            let network = network(&arguments.net, &arguments.network.text_arguments(None, None))?;
            let machine = machine_for(&network, purpose, arguments, machine_arguments, output)?;
            let bench = TrainBench::new(&network, &arguments.net, arguments.batch, purpose, &machine)?;
            net(bench, "one training step", arguments, output)?;
        }
        BenchCommand::Machine => {
            let report = machine_report(&machine(machine_arguments)?);
            output.json(&report)?;
            output.result(machine_text(&report))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The machine that the arguments ask for, tuned if they say so.
fn machine_for(
    network: &Network,
    purpose: Purpose,
    arguments: &BenchNetArguments,
    machine_arguments: &MachineArguments,
    output: &Output,
) -> Result<Machine> {
    let machine = machine(machine_arguments)?;
    if arguments.tuning.tune { tuned(machine, network, &[(arguments.batch, purpose)], output) } else { Ok(machine) }
}

fn layers(
    problems: &[String],
    pass: Option<&str>,
    rounds: RoundsArguments,
    machine_arguments: &MachineArguments,
    output: &Output,
) -> Result<()> {
    if let Some(name) = pass.filter(|name| !PASSES.contains(name)) {
        return Err(Error::Argument(format!("'{name}' is no pass; passes are {}", PASSES.join(", "))));
    }
    let texts: Vec<&str> = if problems.is_empty() { PROBLEMS.to_vec() } else { problems.iter().map(String::as_str).collect() };
    let problems = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Problem>>>()?;
    let passes = |problem: &Problem| -> Vec<&str> {
        match pass {
            Some(name) => vec![name],
            None => problem.passes().to_vec(),
        }
    };
    let machine = machine(machine_arguments)?;
    let limits = Limits::measure(&machine);
    if rounds.paced {
        let mut benches = Vec::new();
        for problem in &problems {
            for pass in passes(problem) {
                benches.push(LayerBench::new(problem, pass, &machine, limits)?);
            }
        }
        return paced(&mut benches, rounds.rounds);
    }
    let tiles = limits.tile_gflops.map_or(String::new(), |gflops| format!(", {gflops:.0} of bf16 tiles"));
    output.line(format!(
        "{} threads ({}): at most {:.0} GFLOP/s of fused multiply-adds{tiles}, {:.1} GB/s from memory",
        machine.threads.count(),
        machine.isa,
        limits.gflops,
        limits.gigabytes_per_second
    ))?;
    let mut timings = Vec::new();
    for problem in &problems {
        for pass in passes(problem) {
            let timing = LayerBench::new(problem, pass, &machine, limits)?.measure(rounds.rounds);
            output.result(layer_text(&timing))?;
            timings.push(timing);
        }
    }
    output.json(&timings)
}

fn layer_text(timing: &LayerTiming) -> String {
    let operations = match timing.gflops > 0.0 {
        true => format!("{:>8.1} GFLOP/s {:>5.1} %", timing.gflops, timing.percent_of_peak),
        false => " ".repeat(24),
    };
    format!(
        "{:<40} {:<16} {:>9.3} ms {operations} {:>7.1} GB/s {:>5.1} %  {}",
        timing.problem,
        timing.pass,
        1e3 * timing.seconds,
        timing.gigabytes_per_second,
        timing.percent_of_bandwidth,
        timing.algorithm
    )
}

fn net(bench: impl Bench<Timing = NetTiming>, what: &str, arguments: &BenchNetArguments, output: &Output) -> Result<()> {
    let mut benches = [bench];
    if arguments.rounds.paced {
        return paced(&mut benches, arguments.rounds.rounds);
    }
    let timing = benches[0].measure(arguments.rounds.rounds);
    output.json(&[&timing])?;
    output.result(format!(
        "{}: {what} of {} images on {} threads: {:.3} ms, {:.1} images/s, at most {} MiB in use",
        timing.net,
        timing.batch,
        timing.threads,
        1e3 * timing.seconds,
        timing.images_per_second,
        timing.peak_bytes >> 20
    ))
}

/// Measures everything once for each line on standard input, and answers with one line.
fn paced<B: Bench>(benches: &mut [B], rounds: usize) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Error::io("stdin", "cannot read"))?;
        let rounds = match line.trim() {
            "" => rounds,
            text => text.parse().map_err(|_| {
                Error::Argument(format!("the line '{text}' on standard input is not understood; it is empty or a number of rounds"))
            })?,
        };
        let timings: Vec<B::Timing> = benches.iter_mut().map(|bench| bench.measure(rounds)).collect();
        if !answer(&timings)? {
            break;
        }
    }
    Ok(())
}

/// Writes one line of JSON; whether anyone still reads.
fn answer(timings: &impl Serialize) -> Result<bool> {
    let text = serde_json::to_string(timings).map_err(|error| Error::Failed(format!("the result cannot be written as JSON: {error}")))?;
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).map_err(Error::io("stdout", "cannot write")),
    }
}

fn machine_text(report: &MachineReport) -> String {
    let amx = match (report.no_amx, report.tile_peak_gflops) {
        (Some(reason), _) => format!("none: {reason}"),
        (None, Some(gflops)) => format!("peak of bf16 products: {gflops:.0} GFLOP/s"),
        (None, None) => "there, not in use".into(),
    };
    format!(
        "processor: {}\ninstructions: {} (available: {})\nAMX tiles: {amx}\nthreads: {} of {}\npeak of fused multiply-adds: {:.0} GFLOP/s\n\
         memory: {:.1} GB/s\nparallel region: {:.1} µs",
        report.cpu.as_deref().unwrap_or("unknown"),
        report.isa,
        report.available_isas.join(", "),
        report.threads,
        report.available_threads,
        report.peak_gflops,
        report.memory_gigabytes_per_second,
        report.parallel_region_microseconds
    )
}
