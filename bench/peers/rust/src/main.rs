//! Times whole networks in the Rust engines that convnet is compared with: one engine and one model per process, which answers
//! as `convnet bench model --json --paced` does.

#[cfg(feature = "graph")]
mod graph;
mod numbers;
mod peers;

use std::io::{BufRead, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, ValueEnum};

use peers::{Predict, Work};

/// How many threads rayon's global pool gets, and candle's and burn's matrix products with it.
const RAYON_THREADS: &str = "RAYON_NUM_THREADS";

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Model {
    Lenet5,
    Resnet18,
    Resnet50,
    Vgg16,
    MobilenetV2,
    ConvnextTiny,
}

impl Model {
    /// C×H×W of one image.
    fn image(self) -> [usize; 3] {
        match self {
            Model::Lenet5 => [1, 32, 32],
            _ => [3, 224, 224],
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Times one network in one Rust engine.
#[derive(Debug, Parser)]
struct Arguments {
    /// The engine: tract, rten, candle or burn.
    #[arg(long)]
    peer: String,

    /// The network that the file holds.
    #[arg(long)]
    model: Model,

    /// The network as ONNX: f32, one input N×C×H×W of the size that --batch says, one output of scores.
    #[arg(long)]
    onnx: PathBuf,

    /// Images at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,

    /// Threads that work.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,

    /// Rounds of which the median is taken.
    #[arg(long, default_value_t = 7)]
    rounds: usize,

    /// Measure once for each line on standard input, which is empty or a number of rounds.
    #[arg(long)]
    paced: bool,

    /// Load, predict once, print the record without a time, and end: for timing the whole process from outside.
    #[arg(long, conflicts_with = "paced")]
    first_prediction: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers-rust: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let load = peers::load(&arguments.peer)?;
    if matches!(arguments.peer.as_str(), "candle" | "burn") {
        restart_with_threads(arguments.threads)?;
    }
    let [channels, height, width] = arguments.model.image();
    let shape = [arguments.batch.into(), channels, height, width];
    let images = numbers::images(shape.iter().product());
    let threads = arguments.threads.into();
    let mut predict = load(Work { onnx: &arguments.onnx, shape, images, threads }).context(arguments.peer.clone())?;
    let scores = predict().context(arguments.peer.clone())?;
    ensure!(scores.len() % shape[0] == 0, "{} scores are not a whole number for each of {} images", scores.len(), shape[0]);
    let sample = numbers::sample(&scores[..scores.len() / shape[0]]);
    if arguments.first_prediction {
        return answer(&record(arguments, None, &sample)).map(|_| ());
    }
    if !arguments.paced {
        return measure(arguments, &mut predict, arguments.rounds, &sample).map(|_| ());
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read standard input")?;
        let rounds = match line.trim() {
            "" => arguments.rounds,
            text => text.parse().map_err(|_| anyhow!("the line '{text}' is neither empty nor a number of rounds"))?,
        };
        if !measure(arguments, &mut predict, rounds, &sample)? {
            break;
        }
    }
    Ok(())
}

/// candle and burn take the number of threads from the environment at several places; a process cannot safely change its own.
fn restart_with_threads(threads: u16) -> Result<()> {
    let threads = threads.to_string();
    if std::env::var(RAYON_THREADS).is_ok_and(|set| set == threads) {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    let error = Command::new(program).args(std::env::args_os().skip(1)).env(RAYON_THREADS, threads).exec();
    Err(error).context("cannot start again with another number of threads")
}

/// Measures and answers; whether anyone still reads.
fn measure(arguments: &Arguments, predict: &mut Predict, rounds: usize, sample: &[f32]) -> Result<bool> {
    let seconds = numbers::median(rounds, || predict().map(|scores| drop(std::hint::black_box(scores))))?;
    answer(&record(arguments, Some(seconds), sample))
}

fn record(arguments: &Arguments, seconds: Option<f64>, sample: &[f32]) -> serde_json::Value {
    let mut record = serde_json::json!({
        "peer": arguments.peer,
        "model": arguments.model.name(),
        "batch": arguments.batch,
        "threads": arguments.threads,
        "sample": sample,
    });
    if let Some(seconds) = seconds {
        record["seconds"] = seconds.into();
    }
    record
}

/// Writes one line; whether anyone still reads.
fn answer(record: &serde_json::Value) -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{record}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to standard output"),
    }
}
