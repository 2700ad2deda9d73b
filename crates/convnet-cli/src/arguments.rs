//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use convnet::Precision;
use convnet::data::Augmentation;
use convnet::initialise::Initialisation;
use convnet::loss::Loss;
use convnet::network::Solve;
use convnet::optim::{Optimizer, Schedule};

mod explain;
mod look;

pub use explain::ExplainArguments;
pub use look::{LookArguments, Objective};

/// Size a convolutional network, train it, look inside, prove it: on the CPU you have.
#[derive(Debug, Parser)]
#[command(name = "convnet", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,

    /// Print one JSON document and nothing else on stdout.
    #[arg(long, global = true)]
    pub json: bool,

    /// Print only the result.
    #[arg(long, global = true)]
    pub quiet: bool,

    #[command(flatten)]
    pub machine: MachineArguments,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct MachineArguments {
    /// Threads to work with; all by default. They change no bit of a result.
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,

    /// Add up every convolution as its definition says, without Winograd's transforms: slower, with smaller rounding errors.
    #[arg(long, global = true)]
    pub exact: bool,

    /// Multiply with this precision wherever there is an algorithm for it: f32, f32x6, f32x3 or bf16, the most precise first. The
    /// last three use AMX where the processor has it, and compute the same, more slowly than f32, where it has not.
    #[arg(long, global = true, value_name = "P", value_parser = Precision::from_name)]
    pub precision: Option<Precision>,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct TuningArguments {
    /// Choose the algorithm of each convolution by its time on this machine: measured where it is not known yet, and kept for
    /// the next time. Without this nothing that was measured counts, and the same command gives the same bits.
    #[arg(long)]
    pub tune: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network; with no argument at all, the default network on the images inside the program.
    Train(Box<TrainArguments>),
    /// Print the sizes, parameters, multiplications, memory and receptive fields of a network.
    Summary(SummaryArguments),
    /// Measure how well a model does on test images.
    Eval(EvalArguments),
    /// Say what images show.
    Predict(PredictArguments),
    /// Compare the gradient of every layer with central differences in f64.
    Check(CheckArguments),
    /// Show one number as its products, their sum and the bias, or what of a score's gradient flows back to it.
    Explain(ExplainArguments),
    /// Look inside: filters, activation maps, what neurons look for, where scores come from, as one page, pictures and numbers.
    Look(LookArguments),
    /// Measure speed.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// What a network is made from.
#[derive(Clone, Debug, Args)]
pub struct NetArguments {
    /// The image size, channels x height x width, in place of the network's own.
    #[arg(long, value_name = "CxHxW", value_parser = size)]
    pub input: Option<[usize; 3]>,

    /// The value of `classes` in the network's text.
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,

    /// What to do about windows that do not fit.
    #[arg(long, value_enum, default_value = "floor")]
    pub sizes: SizePolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SizePolicy {
    /// Round down, as Torch, PyTorch and ONNX do, with a warning.
    Floor,
    /// Refuse.
    Strict,
}

#[derive(Clone, Debug, Args)]
pub struct DataArguments {
    /// A folder of images, or `embedded`.
    #[arg(long, value_name = "DIR", default_value = "embedded")]
    pub data: String,

    /// The size that the images of a folder are brought to; by default what the network takes.
    #[arg(long, value_name = "CxHxW", value_parser = size)]
    pub image_size: Option<[usize; 3]>,

    /// The share of images that become test images where a folder has no test folder.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub test_share: f64,

    /// The share of broken images that is tolerated.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub broken_share: f64,
}

#[derive(Debug, Args)]
pub struct TrainArguments {
    /// A network: a name such as `lenet5`, a file, or the text itself. By default the network made for small images.
    pub net: Option<String>,

    #[command(flatten)]
    pub network: NetArguments,

    #[command(flatten)]
    pub data: DataArguments,

    /// How often every training image is seen.
    #[arg(long)]
    pub epochs: Option<usize>,

    /// Images in one step.
    #[arg(long)]
    pub batch: Option<usize>,

    /// The largest learning rate of the schedule.
    #[arg(long, value_name = "X")]
    pub lr: Option<f64>,

    /// Fixes every random number.
    #[arg(long)]
    pub seed: Option<u64>,

    /// How gradients become updates: sgd, nesterov or adamw.
    #[arg(long)]
    pub optimizer: Option<Optimizer>,

    /// Decoupled weight decay of weights.
    #[arg(long, value_name = "X")]
    pub weight_decay: Option<f64>,

    /// How the learning rate changes: constant, step, cosine or one-cycle.
    #[arg(long)]
    pub schedule: Option<Schedule>,

    /// Epochs in which the learning rate rises at the beginning.
    #[arg(long, value_name = "EPOCHS")]
    pub warmup: Option<f64>,

    /// What is minimised: cross-entropy, multi-margin or mean-squared-error.
    #[arg(long)]
    pub loss: Option<Loss>,

    /// The share of the target that is spread over all classes (cross-entropy).
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<f64>,

    /// What weights are before training: he, xavier, torch, dirac or zeros.
    #[arg(long)]
    pub init: Option<Initialisation>,

    /// How training images are varied, as `shift=2,flip,erase=0.5`, or `none`.
    #[arg(long, value_name = "LIST", value_parser = augmentation)]
    pub augment: Option<Augmentation>,

    /// The largest norm of all gradients together.
    #[arg(long, value_name = "NORM")]
    pub clip: Option<f64>,

    /// Compute activations again in backward instead of keeping them: less memory, more time, the same bits. `summary
    /// --recompute` shows both.
    #[arg(long)]
    pub recompute: bool,

    /// Epochs between evaluations.
    #[arg(long, value_name = "EPOCHS")]
    pub evaluate_every: Option<usize>,

    /// Epochs between snapshots of the model in the run folder, for a filmstrip of how it came to be.
    #[arg(long, value_name = "EPOCHS")]
    pub look_every: Option<usize>,

    /// The run folder to make; by default the next free one in `runs`.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,

    #[command(flatten)]
    pub tuning: TuningArguments,

    /// Go on with the training of a run folder, with the algorithms that it was begun with.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["net", "tune", "epochs", "batch", "lr", "seed", "optimizer", "weight_decay", "schedule", "warmup", "loss", "label_smoothing", "init", "augment", "clip", "evaluate_every", "look_every", "input", "classes"])]
    pub resume: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SummaryArguments {
    /// A network: a name, a file, the text itself, or a model.
    pub net: String,

    #[command(flatten)]
    pub network: NetArguments,

    /// Images at once, for the memory.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,

    /// List the values that fit at a layer: pad, stride, kernel or input.
    #[arg(long, value_name = "WHAT", requires = "layer")]
    pub solve: Option<Solve>,

    /// The layer to solve for.
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,

    /// Show what a training takes that computes activations again in backward instead of keeping them.
    #[arg(long)]
    pub recompute: bool,

    /// Say for every layer which algorithm computes it, and why not a faster one.
    #[arg(long)]
    pub explain: bool,

    /// With `--explain`: choose by times on this machine, as `train --tune` does; measured where they are not known yet.
    #[arg(long, requires = "explain")]
    pub tune: bool,
}

#[derive(Debug, Args)]
pub struct EvalArguments {
    /// A run folder or a model file.
    pub model: PathBuf,

    #[command(flatten)]
    pub data: DataArguments,

    /// Images at once.
    #[arg(long, default_value_t = 100)]
    pub batch: usize,

    #[command(flatten)]
    pub tuning: TuningArguments,
}

#[derive(Debug, Args)]
pub struct PredictArguments {
    /// A run folder or a model file.
    pub model: PathBuf,

    /// PNG, JPEG, WebP or BMP files.
    #[arg(required = true)]
    pub images: Vec<PathBuf>,

    /// How many classes to print for each image.
    #[arg(long, default_value_t = 3)]
    pub top: usize,

    #[command(flatten)]
    pub tuning: TuningArguments,
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// A network: a name, a file, the text itself, or a model.
    pub net: String,

    #[command(flatten)]
    pub network: NetArguments,

    /// Draws the inputs and parameters.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Time single layers.
    ///
    /// A problem is a convolution, such as 'conv n1 c64 28x28 -> 64 w3 s1 p1' (of which the three passes are measured by
    /// themselves, the weights packed beforehand), or any layer of the network language on a batch of inputs NxCxHxW, such as
    /// 'maxpool 3 stride 2 pad 1 @ 16x64x112x112' (as in training).
    #[command(after_help = SAMPLE_HELP)]
    Layers {
        /// Problems; a list of well-known convolutions by default.
        problems: Vec<String>,
        /// Only this pass: forward, backward, backward_input or backward_weight.
        #[arg(long)]
        pass: Option<String>,
        #[command(flatten)]
        rounds: RoundsArguments,
    },
    /// Time a network's forward pass.
    #[command(after_help = SAMPLE_HELP)]
    Model {
        #[command(flatten)]
        net: BenchNetArguments,
        /// Write the model that is measured, as a safetensors file that holds the network's text too.
        #[arg(long, value_name = "FILE")]
        write_model: Option<PathBuf>,
    },
    /// Time a training step: forward, cross-entropy, backward, and the update by Nesterov momentum with weight decay.
    #[command(after_help = SAMPLE_HELP)]
    Train {
        #[command(flatten)]
        net: BenchNetArguments,
        /// Compute activations again in backward instead of keeping them.
        #[arg(long)]
        recompute: bool,
    },
    /// Say what the machine has, and measure what it can do.
    Machine,
}

/// What another program needs to compare its numbers.
const SAMPLE_HELP: &str = "\
With --json each record has a `sample`: 16 numbers of the result, evenly spaced in logical order (N, C, H, W; number i of \
`count` is at i * (count - 1) / 15, rounded down): the output, the gradient of the first input, or the gradient of the \
weights; of a model the scores of its first image, of a training step the gradient of the first parameter at the first step.

Inputs are numbers that any program can repeat. Number `place` (in logical order) of stream s is, modulo 2^32:
  h = place * 0x9E3779B1 + s * 0x85EBCA77
  h = (h ^ (h >> 15)) * 0x2C1B3C6D
  h = (h ^ (h >> 12)) * 0x297A2D39
  value = ((h ^ (h >> 15)) >> 8) / 2^24 - 1/2
Input i of a layer is stream i, its parameter i stream 16 + i (1 + value / 2 where it begins above 0, as scales do), and the \
gradient of its output stream 32. The images of a network are stream 0; its parameters are those that `bench model \
--write-model FILE` writes; image i of a training step is of class i modulo the number of classes.

With --paced everything is prepared first; then each line on standard input asks for one measurement, whose JSON record comes \
as one line, until the input ends. The line is empty or says the number of rounds.";

#[derive(Clone, Copy, Debug, Args)]
pub struct RoundsArguments {
    /// Rounds of which the median is taken.
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,

    /// Measure once for each line on standard input, to take turns with another program.
    #[arg(long)]
    pub paced: bool,
}

#[derive(Debug, Args)]
pub struct BenchNetArguments {
    /// A network: a name, a file, the text itself, or a model.
    pub net: String,

    #[command(flatten)]
    pub network: NetArguments,

    /// Images at once.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,

    #[command(flatten)]
    pub tuning: TuningArguments,

    #[command(flatten)]
    pub rounds: RoundsArguments,
}

fn numbers<const COUNT: usize>(text: &str, separator: char, form: &str) -> Result<[usize; COUNT], String> {
    let numbers: Option<Vec<usize>> = text.split(separator).map(|number| number.trim().parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| format!("'{text}' is not of the form {form}"))
}

fn size(text: &str) -> Result<[usize; 3], String> {
    numbers(text, 'x', "CxHxW, as 3x32x32")
}

/// `shift=2,flip,erase=0.5` as the TOML that a run folder keeps: a word alone means that it is on.
fn augmentation(text: &str) -> Result<Augmentation, String> {
    if text == "none" {
        return Ok(Augmentation::default());
    }
    let lines: Vec<String> =
        text.split(',').map(|item| if item.contains('=') { item.to_owned() } else { format!("{item} = true") }).collect();
    toml::from_str(&lines.join("\n")).map_err(|error| error.message().to_owned())
}
