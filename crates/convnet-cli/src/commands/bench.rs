//! `convnet bench`: how fast this machine computes.

use std::process::ExitCode;

use convnet::bench::{MachineReport, NetTiming, PROBLEMS, machine_report, peak_gflops, time_layer, time_model, time_train};
use convnet::{Error, Result};
use convnet_kernels::conv::{ConvShape, Pass};

use crate::arguments::{BenchCommand, BenchNetArguments, MachineArguments};
use crate::output::Output;
use crate::sources::{machine, network};

pub fn run(command: &BenchCommand, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    match command {
        BenchCommand::Layers { problems, pass, rounds } => layers(problems, pass.as_deref(), *rounds, machine_arguments, output)?,
        BenchCommand::Model(arguments) => net(arguments, "one batch forward", time_model, machine_arguments, output)?,
        BenchCommand::Train(arguments) => net(arguments, "one training step", time_train, machine_arguments, output)?,
        BenchCommand::Machine => {
            let report = machine_report(&machine(machine_arguments)?);
            output.json(&report)?;
            output.result(machine_text(&report))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn layers(problems: &[String], pass: Option<&str>, rounds: usize, machine_arguments: &MachineArguments, output: &Output) -> Result<()> {
    let known = || Pass::ALL.map(Pass::name).join(", ");
    let passes: Vec<Pass> = match pass {
        None => Pass::ALL.to_vec(),
        Some(name) => {
            let found = Pass::ALL.into_iter().find(|pass| pass.name() == name);
            vec![found.ok_or_else(|| Error::Argument(format!("'{name}' is no pass; passes are {}", known())))?]
        }
    };
    let texts: Vec<&str> = if problems.is_empty() { PROBLEMS.to_vec() } else { problems.iter().map(String::as_str).collect() };
    let shapes = texts.iter().map(|text| text.parse().map_err(Error::Argument)).collect::<Result<Vec<ConvShape>>>()?;
    let machine = machine(machine_arguments)?;
    let peak = peak_gflops(&machine);
    output.line(format!("peak of fused multiply-adds on {} threads: {peak:.0} GFLOP/s ({})", machine.threads.count(), machine.isa))?;
    let mut timings = Vec::new();
    for shape in &shapes {
        for pass in &passes {
            let timing = time_layer(shape, *pass, &machine, rounds, peak);
            output.result(format!(
                "{:<40} {:<16} {:>9.3} ms {:>8.1} GFLOP/s {:>5.1} %  {}",
                timing.problem,
                timing.pass,
                1e3 * timing.seconds,
                timing.gflops,
                timing.percent_of_peak,
                timing.algorithm
            ))?;
            timings.push(timing);
        }
    }
    output.json(&timings)
}

type Timer = fn(&convnet::network::Network, &str, usize, &convnet_kernels::Machine, usize) -> Result<NetTiming>;

fn net(arguments: &BenchNetArguments, what: &str, timer: Timer, machine_arguments: &MachineArguments, output: &Output) -> Result<()> {
    let network = network(&arguments.net, &arguments.network.text_arguments(None, None))?;
    let timing = timer(&network, &arguments.net, arguments.batch, &machine(machine_arguments)?, arguments.rounds)?;
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

fn machine_text(report: &MachineReport) -> String {
    format!(
        "processor: {}\ninstructions: {} (available: {})\nthreads: {} of {}\npeak of fused multiply-adds: {:.0} GFLOP/s\n\
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
