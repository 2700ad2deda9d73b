//! `convnet train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use convnet::data::Dataset;
use convnet::loss::Loss;
use convnet::network::Network;
use convnet::page::number::count;
use convnet::plan::Purpose;
use convnet::train::{EpochRecord, Event, Run, Settings, Trainer};
use convnet::{Error, Precision, Result, zoo};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::arguments::{MachineArguments, TrainArguments};
use crate::failure::INTERRUPTED;
use crate::output::{Output, duration};
use crate::sources::{DataSource, EMBEDDED, machine, network};
use crate::tuning::tuned;

pub fn run(arguments: &TrainArguments, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    let machine = machine(machine_arguments)?;
    let stop = stop_on_signal()?;
    let (trainer, data) = match &arguments.resume {
        Some(folder) => resumed(folder, arguments, machine_arguments.precision, output)?,
        None => begun(arguments, output)?,
    };
    let network = trainer.network();
    let parameters: usize = network.parameters().map(|(_, spec)| spec.count()).sum();
    output.line(format!(
        "{} layers, {} parameters; {} training and {} test images of {}; {} threads",
        network.nodes().len(),
        count(parameters as u64),
        count(data.train.len() as u64),
        count(data.test.len() as u64),
        convnet::shape::sizes_text(&data.size()),
        machine.threads.count()
    ))?;
    for warning in network.warnings() {
        output.note(format!("warning: {warning}"));
    }
    let machine = match arguments.tuning.tune {
        true => {
            let batch = trainer.settings_now().batch;
            tuned(machine, network, &[(batch, Purpose::Train), (batch, Purpose::Infer)], output)?
        }
        false => machine,
    };
    let epochs = trainer.settings_now().epochs;
    let progress = Progress::new(output);
    let run = trainer.machine(machine).stop_flag(stop).observer(|event| progress.show(&event, epochs)).fit(&data)?;
    progress.clear();
    finish(&run, output)
}

/// A new training.
fn begun<'a>(arguments: &TrainArguments, output: &Output) -> Result<(Trainer<'a>, Dataset)> {
    let mut settings = settings(arguments)?;
    let wanted = |size: Option<[usize; 3]>| DataSource { arguments: &arguments.data, size, classes: None };
    // A folder of image files is brought to the size that the network takes; images of a fixed size, and the default
    // network, which takes any, make the network follow.
    let follows = wanted(None).has_fixed_size() || arguments.net.is_none();
    let size = if follows { arguments.network.input } else { Some(network_of(arguments, None, None)?.input_shape().chw()) };
    let data = wanted(size).open(output)?;
    settings.batch = settings.batch.min(data.train.len().max(1));
    let network = network_of(arguments, Some(data.size()), Some(data.classes.len()))?;
    let folder = match &arguments.out {
        Some(folder) => folder.clone(),
        None => next_run_folder(Path::new("runs"))?,
    };
    Ok((Trainer::new(&network).settings(settings).source(source(arguments)?).folder(folder), data))
}

/// The network with the input size and number of classes that the data has, where its text leaves them open.
fn network_of(arguments: &TrainArguments, input: Option<[usize; 3]>, classes: Option<usize>) -> Result<Network> {
    let net = arguments.net.as_deref().unwrap_or(zoo::DEFAULT);
    let all = arguments.network.text_arguments(input, classes);
    match network(net, &all) {
        // A text without the constant `classes` fixes their number itself; whether it suits the data is checked later.
        Err(_) if arguments.network.classes.is_none() => network(net, &arguments.network.text_arguments(input, None)),
        result => result,
    }
}

/// Where the images are from, so that a resumed training finds them again from any folder.
fn source(arguments: &TrainArguments) -> Result<String> {
    if arguments.data.data == EMBEDDED {
        return Ok(EMBEDDED.into());
    }
    let path = std::fs::canonicalize(&arguments.data.data).map_err(Error::io(&arguments.data.data, "cannot read the folder"))?;
    Ok(path.display().to_string())
}

fn resumed<'a>(folder: &Path, arguments: &TrainArguments, precision: Option<Precision>, output: &Output) -> Result<(Trainer<'a>, Dataset)> {
    let trainer = Trainer::resume(folder)?;
    if let (Some(asked), Some(begun)) = (precision, trainer.precision().filter(|begun| precision != Some(*begun))) {
        return Err(Error::Argument(format!(
            "--precision is {asked}, but the training in {} was begun with {begun}, and goes on with it",
            folder.display()
        )));
    }
    let mut data = arguments.data.clone();
    if data.data == EMBEDDED {
        data.data = trainer.data_source().to_owned();
    }
    let size = Some(trainer.network().input_shape().chw());
    let opened = DataSource { arguments: &data, size, classes: None }.open(output)?;
    // It changes no bit, so it may be asked for at any time.
    let recompute = arguments.recompute || trainer.settings_now().recompute;
    Ok((trainer.recompute(recompute), opened))
}

fn settings(arguments: &TrainArguments) -> Result<Settings> {
    let mut settings = Settings::default();
    let optimizer = arguments.optimizer;
    if let Some(optimizer) = optimizer {
        settings.optimizer = optimizer;
        // Each optimiser has a rate of its own that usually works.
        settings.learning_rate = Settings::usual_rate(&optimizer);
        settings.weight_decay = Settings::usual_decay(&optimizer);
    }
    set(&mut settings.epochs, arguments.epochs);
    set(&mut settings.batch, arguments.batch);
    set(&mut settings.learning_rate, arguments.lr);
    set(&mut settings.seed, arguments.seed);
    set(&mut settings.weight_decay, arguments.weight_decay);
    set(&mut settings.schedule, arguments.schedule);
    set(&mut settings.schedule.warmup, arguments.warmup);
    set(&mut settings.loss, arguments.loss.clone());
    if let Some(smoothing) = arguments.label_smoothing {
        let Loss::CrossEntropy { smoothing: share, .. } = &mut settings.loss else {
            return Err(Error::Argument(format!("--label-smoothing belongs to cross-entropy, not to {}", settings.loss)));
        };
        *share = smoothing;
    }
    set(&mut settings.initialisation, arguments.init);
    set(&mut settings.augmentation, arguments.augment.clone());
    set(&mut settings.evaluate_every, arguments.evaluate_every);
    settings.clip = arguments.clip.or(settings.clip);
    settings.recompute = arguments.recompute;
    settings.look_every = arguments.look_every.or(settings.look_every);
    Ok(settings)
}

fn set<V>(setting: &mut V, value: Option<V>) {
    if let Some(value) = value {
        *setting = value;
    }
}

/// The first of `runs/1`, `runs/2`, … that does not exist.
fn next_run_folder(runs: &Path) -> Result<PathBuf> {
    let taken = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let last = taken.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).max().unwrap_or(0);
    let next =
        last.checked_add(1).ok_or_else(|| Error::Argument(format!("{} has no number left; choose a folder with --out", runs.display())))?;
    Ok(runs.join(next.to_string()))
}

/// The first Ctrl-C lets the step finish and saves; the second ends at once.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("\nstopping after this step; once more ends at once, without saving");
    };
    ctrlc::set_handler(handler).map_err(|error| Error::Failed(format!("Ctrl-C cannot be caught: {error}")))?;
    Ok(stop)
}

/// A bar where there is a terminal, a line for each epoch otherwise.
struct Progress<'a> {
    bar: Option<ProgressBar>,
    output: &'a Output,
}

impl<'a> Progress<'a> {
    fn new(output: &'a Output) -> Self {
        let bar = output.is_live().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len}  {msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, output }
    }

    fn show(&self, event: &Event<'_>, epochs: usize) {
        match event {
            Event::Step { record, steps_per_epoch, images_per_second, seconds_left, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(*steps_per_epoch as u64);
                    bar.set_prefix(format!("epoch {}/{epochs}", record.epoch));
                    bar.set_position(((record.step - 1) % steps_per_epoch + 1) as u64);
                    bar.set_message(format!("loss {:.3}  {images_per_second:.0} images/s  {} left", record.loss, duration(*seconds_left)));
                }
            }
            Event::Epoch(record) => {
                let line = epoch_line(record, epochs);
                match &self.bar {
                    Some(bar) => bar.println(line),
                    None => self.output.note(line),
                }
            }
            Event::Stopped { step } => self.output.note(format!("stopped after step {step}; the training is saved")),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn epoch_line(record: &EpochRecord, epochs: usize) -> String {
    let test = record.test.map_or(String::new(), |test| format!("  test loss {:.3} accuracy {:5.2} %", test.loss, 100.0 * test.accuracy));
    format!(
        "epoch {:>3}/{epochs}  train loss {:.3} accuracy {:5.2} %{test}  {:.0} images/s  {}",
        record.epoch,
        record.train.loss,
        100.0 * record.train.accuracy,
        record.images_per_second,
        duration(record.seconds)
    )
}

fn finish(run: &Run, output: &Output) -> Result<ExitCode> {
    let epochs = run.epochs();
    let last = epochs.last();
    let folder = run.folder.as_ref().map_or(String::new(), |folder| folder.display().to_string());
    output.json(&json!({
        "run": folder,
        "finished": run.finished,
        "epochs": epochs.len(),
        "seconds": run.seconds,
        "images_per_second": last.map_or(0.0, |epoch| epoch.images_per_second),
        "train": last.map(|epoch| epoch.train),
        "test": {"loss": run.evaluation.loss, "accuracy": run.evaluation.accuracy},
    }))?;
    if !run.finished {
        output.result(format!("stopped after {} steps. To go on: convnet train --resume {folder}", count(run.steps as u64)))?;
        return Ok(ExitCode::from(INTERRUPTED));
    }
    output.result(format!(
        "{:.2} % of {} test images are right (loss {:.4}), after {} of training",
        100.0 * run.evaluation.accuracy,
        count(run.evaluation.images as u64),
        run.evaluation.loss,
        duration(run.seconds)
    ))?;
    let first = run.model.network().nodes().first().map_or("conv1", |node| node.name());
    output.line(format!(
        "\nEverything is in {folder}. Try next:\n  open {folder}/report.html in a browser\n  convnet eval {folder}\n  \
         convnet predict {folder} IMAGE.png\n  convnet explain {folder} test:0 --layer {first} --at 0,14,14\n  convnet summary {folder}"
    ))?;
    Ok(ExitCode::SUCCESS)
}
