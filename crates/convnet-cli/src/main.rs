//! The program `convnet`. It holds no idea of its own: every command reads its arguments, calls the library, and prints.

mod arguments;
mod commands;
mod failure;
mod output;
mod sources;
mod tuning;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json, arguments.quiet);
    let result = match &arguments.command {
        Command::Train(command) => commands::train::run(command, &arguments.machine, &output),
        Command::Summary(command) => commands::summary::run(command, &arguments.machine, &output),
        Command::Eval(command) => commands::eval::run(command, &arguments.machine, &output),
        Command::Predict(command) => commands::predict::run(command, &arguments.machine, &output),
        Command::Check(command) => commands::check::run(command, &arguments.machine, &output),
        Command::Explain(command) => commands::explain::run(command, &output),
        Command::Look(command) => commands::look::run(command, &arguments.machine, &output),
        Command::Bench(command) => commands::bench::run(command, &arguments.machine, &output),
    };
    match result {
        Ok(code) => code,
        Err(error) => failure::report(error),
    }
}
