//! The loop.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use convnet_kernels::conv::tuning::Tuning;
use convnet_kernels::{Machine, Precision, reduce};

use super::fingerprint::fingerprint;
use super::metrics::{EpochRecord, Record, Score, StepRecord};
use super::run::Run;
use super::run_folder::{DataRecord, RunFolder, RunRecord, read_network, read_run, read_tuning};
use super::state::{EpochSums, State};
use super::{Settings, checkpoint};
use crate::data::{Batches, Dataset, Normalisation, Split};
use crate::error::{Error, Result};
use crate::model::{Classifier, Evaluation, Model, best, check_classes};
use crate::network::Network;
use crate::optim::clip_global_norm;
use crate::plan::{Plan, Purpose};
use crate::random::{self, Address};

/// What happens during a training, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done.
    Step {
        /// The step.
        record: StepRecord,
        /// Steps of one epoch.
        steps_per_epoch: usize,
        /// Steps of the whole training.
        steps: usize,
        /// Training images per second in this epoch so far.
        images_per_second: f64,
        /// Seconds until the training is done, if it goes on at this speed.
        seconds_left: f64,
    },
    /// An epoch is done.
    Epoch(&'a EpochRecord),
    /// The training stopped at the user's wish and was saved.
    Stopped {
        /// Finished steps.
        step: usize,
    },
}

type Observer<'a> = Box<dyn FnMut(Event<'_>) + 'a>;

/// Trains a network. A builder: what is not said has the value of [`Settings::default`].
pub struct Trainer<'a> {
    network: Network,
    settings: Settings,
    machine: Option<Machine>,
    source: String,
    folder: Option<PathBuf>,
    resume: bool,
    /// The measured times that a training which goes on began with.
    tuning: Option<Arc<Tuning>>,
    /// The precision that a training which goes on began with.
    precision: Option<Precision>,
    stop: Arc<AtomicBool>,
    observer: Observer<'a>,
}

impl<'a> Trainer<'a> {
    /// A training of this network.
    pub fn new(network: &Network) -> Self {
        Self {
            network: network.clone(),
            settings: Settings::default(),
            machine: None,
            source: "memory".into(),
            folder: None,
            resume: false,
            tuning: None,
            precision: None,
            stop: Arc::default(),
            observer: Box::new(|_| {}),
        }
    }

    /// Goes on with the training of a run folder, from its last checkpoint.
    ///
    /// # Errors
    /// The folder is no run folder, or the times are missing by which its training was tuned.
    pub fn resume(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let (record, network) = (read_run(folder)?, read_network(folder)?);
        let tuning = read_tuning(folder, &record)?;
        let trainer = Self::new(&network).settings(record.settings).source(record.data.source);
        Ok(Self { folder: Some(folder.to_owned()), resume: true, tuning, precision: Some(record.precision), ..trainer })
    }

    /// All settings at once.
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// How often every training image is seen.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.settings.epochs = epochs;
        self
    }

    /// Images in one step.
    pub fn batch(mut self, batch: usize) -> Self {
        self.settings.batch = batch;
        self
    }

    /// The largest learning rate of the schedule.
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.settings.learning_rate = learning_rate;
        self
    }

    /// Fixes every random number.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Whether to compute activations again in backward instead of keeping them: less memory, more time, the same bits.
    pub fn recompute(mut self, recompute: bool) -> Self {
        self.settings.recompute = recompute;
        self
    }

    /// Keeps a snapshot of the model every so many epochs in the run folder.
    pub fn look_every(mut self, epochs: usize) -> Self {
        self.settings.look_every = Some(epochs);
        self
    }

    /// The instructions and threads to use; by default the best and all. They change no bit of the result but for the
    /// instructions. A machine that carries measured times chooses its algorithms by them, and the run folder keeps them; a
    /// training that goes on takes those of its folder. So it is with the precision of products.
    pub fn machine(self, machine: Machine) -> Self {
        Self { machine: Some(machine), ..self }
    }

    /// Keeps everything of the training in this folder, which must be new or empty.
    pub fn folder(self, folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..self }
    }

    /// What `run.toml` says of where the images are from.
    pub fn source(self, source: impl Into<String>) -> Self {
        Self { source: source.into(), ..self }
    }

    /// A flag that, once set, lets the training finish its step, save and return.
    pub fn stop_flag(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// Is told of every step and epoch.
    pub fn observer(self, observer: impl FnMut(Event<'_>) + 'a) -> Self {
        Self { observer: Box::new(observer), ..self }
    }

    /// Where the images of a run that is resumed are from.
    pub fn data_source(&self) -> &str {
        &self.source
    }

    /// The precision of a run that is resumed.
    pub fn precision(&self) -> Option<Precision> {
        self.precision
    }

    /// The settings.
    pub fn settings_now(&self) -> &Settings {
        &self.settings
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Trains until all epochs are done or the stop flag is set.
    ///
    /// # Errors
    /// The network does not suit the images, a setting is out of range, memory cannot be had, the run folder cannot be
    /// written, or the loss is no longer a number. What was saved before stays as it was.
    pub fn fit(mut self, data: &Dataset) -> Result<Run> {
        let machine = match self.machine.take() {
            Some(machine) => machine,
            None => Machine::detect().map_err(Error::Argument)?,
        };
        let machine = if self.resume { machine.tuned(self.tuning.clone()) } else { machine };
        let machine = match self.precision {
            Some(precision) => machine.with_precision(precision),
            None => machine,
        };
        self.check(data)?;
        let record = RunRecord {
            convnet: env!("CARGO_PKG_VERSION").into(),
            data: DataRecord {
                source: self.source.clone(),
                train: data.train.len(),
                test: data.test.len(),
                classes: data.classes.clone(),
                fingerprint: fingerprint(data),
            },
            settings: self.settings.clone(),
            tuned: machine.tuning.is_some(),
            precision: machine.precision,
        };
        let normalisation = Normalisation::of(&data.train);
        let augmentation = self.settings.augmentation.clone();
        let mut batches = Batches::training(&data.train, self.settings.batch, self.settings.seed, &normalisation, &augmentation)?;
        let classifier = Classifier::new(&self.network, &data.classes, &normalisation, self.settings.batch, &machine)?;
        let plan = Plan::new(&self.network, self.settings.batch, self.settings.purpose(), &machine)?;
        let (state, folder, records) = self.begin(&record, &machine)?;
        // A training that was stopped within an epoch goes on in the order of that epoch.
        batches.start(state.step / batches.count() as u64);
        let mut training = Training {
            steps_per_epoch: batches.count(),
            steps: batches.count() * self.settings.epochs,
            images: vec![0.0; plan.input_shape().count()],
            labels: vec![0; self.settings.batch],
            gradient: vec![0.0; plan.output_shape().count()],
            machine,
            batches,
            classifier,
            plan,
            state,
            folder,
            records,
            record,
            test: &data.test,
            normalisation: &normalisation,
            trainer: self,
        };
        let evaluation = training.run()?;
        training.finish(evaluation, data)
    }

    fn check(&self, data: &Dataset) -> Result<()> {
        let (takes, size) = (self.network.input_shape().chw(), data.size());
        if takes != size {
            let text = crate::shape::sizes_text;
            return Err(Error::Argument(format!(
                "the network takes images of {}, but the data has {}; change the network's input line (or --input), or the size of the images",
                text(&takes),
                text(&size)
            )));
        }
        if data.train.is_empty() || data.test.is_empty() {
            return Err(Error::Argument(format!(
                "there are {} training and {} test images; a training needs both",
                data.train.len(),
                data.test.len()
            )));
        }
        check_classes(&self.network, &data.classes)?;
        self.settings.check(size, data.classes.len())
    }

    /// The state to begin with and the folder to write to.
    fn begin(&self, record: &RunRecord, machine: &Machine) -> Result<(State, Option<RunFolder>, Vec<Record>)> {
        let Some(path) = &self.folder else {
            return Ok((State::new(&self.network, &self.settings)?, None, Vec::new()));
        };
        if !self.resume {
            let state = State::new(&self.network, &self.settings)?;
            return Ok((state, Some(RunFolder::create(path, &self.network, record, machine)?), Vec::new()));
        }
        let mut folder = RunFolder::open(path)?;
        let state = if folder.last().exists() {
            checkpoint::load(&folder.last(), &self.network, &self.settings, &record.data.fingerprint)?
        } else {
            State::new(&self.network, &self.settings)?
        };
        let records = folder.rewind(state.step)?;
        Ok((state, Some(folder), records))
    }
}

impl fmt::Debug for Trainer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Trainer").field("settings", &self.settings).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A training under way.
struct Training<'a, 'd> {
    trainer: Trainer<'a>,
    machine: Machine,
    test: &'d Split,
    normalisation: &'d Normalisation,
    batches: Batches<'d>,
    classifier: Classifier<'d>,
    plan: Plan,
    state: State,
    folder: Option<RunFolder>,
    records: Vec<Record>,
    record: RunRecord,
    steps_per_epoch: usize,
    steps: usize,
    images: Vec<f32>,
    labels: Vec<usize>,
    gradient: Vec<f32>,
}

impl Training<'_, '_> {
    /// Steps until all are done or the stop flag is set; returns the last evaluation if it is of the last step.
    fn run(&mut self) -> Result<Option<Evaluation>> {
        let mut evaluation = None;
        if self.state.step == 0 {
            self.save_snapshot(0)?;
        }
        while (self.state.step as usize) < self.steps {
            if self.trainer.stop.load(Ordering::Relaxed) {
                self.save_last()?;
                (self.trainer.observer)(Event::Stopped { step: self.state.step as usize });
                break;
            }
            let begun = Instant::now();
            let record = self.step()?;
            let seconds = begun.elapsed().as_secs_f64();
            self.state.seconds += seconds;
            self.state.epoch.seconds += seconds;
            self.tell_step(record)?;
            evaluation = None;
            if record.step.is_multiple_of(self.steps_per_epoch) {
                evaluation = self.end_epoch(record)?;
            }
        }
        Ok(evaluation)
    }

    /// One step: a batch, its scores, its loss, the gradients, the update.
    fn step(&mut self) -> Result<StepRecord> {
        let settings = &self.trainer.settings;
        let step = self.state.step as usize;
        let (epoch, number) = (step / self.steps_per_epoch, step % self.steps_per_epoch);
        if number == 0 {
            self.batches.start(epoch as u64);
        }
        self.batches.fill(number, &mut self.images, &mut self.labels)?;
        let dropout = Address::new(settings.seed, random::Purpose::Dropout).then(step as u64).key();
        let classes = self.record.data.classes.len();
        let scores = self.plan.forward(&self.state.parameters, &self.images, dropout);
        let loss = settings.loss.value_and_gradient(scores, classes, &self.labels, &mut self.gradient);
        let right = scores.chunks_exact(classes).zip(&self.labels).filter(|(scores, label)| best(scores) == **label).count();
        let schedule = &settings.schedule;
        let learning_rate = settings.learning_rate * schedule.factor(step as u64, self.steps_per_epoch as u64, self.steps as u64);
        if !loss.is_finite() {
            return Err(self.not_finite(step, loss, learning_rate));
        }
        self.plan.backward(&self.state.parameters, &self.gradient);
        if let Some(limit) = settings.clip {
            clip_global_norm(&self.machine, self.plan.gradients_mut(), limit);
        }
        self.state.update(&self.trainer.network, &self.plan, settings, learning_rate, &self.machine);
        let images = self.labels.len() as u64;
        let sums = &mut self.state.epoch;
        (sums.loss, sums.correct, sums.images) = (sums.loss + loss * images as f64, sums.correct + right as u64, sums.images + images);
        Ok(StepRecord { epoch: epoch + 1, step: step + 1, loss, learning_rate })
    }

    fn tell_step(&mut self, record: StepRecord) -> Result<()> {
        if record.step.is_multiple_of(self.trainer.settings.log_every) {
            self.keep(Record::Step(record))?;
        }
        let sums = self.state.epoch;
        let images_per_second = sums.images as f64 / sums.seconds.max(f64::EPSILON);
        let seconds_left = self.state.seconds / record.step as f64 * (self.steps - record.step) as f64;
        let (steps_per_epoch, steps) = (self.steps_per_epoch, self.steps);
        (self.trainer.observer)(Event::Step { record, steps_per_epoch, steps, images_per_second, seconds_left });
        Ok(())
    }

    fn end_epoch(&mut self, last: StepRecord) -> Result<Option<Evaluation>> {
        let begun = Instant::now();
        let due = last.epoch.is_multiple_of(self.trainer.settings.evaluate_every) || last.step == self.steps;
        let evaluation = if due { Some(self.evaluate()?) } else { None };
        self.state.seconds += begun.elapsed().as_secs_f64();
        let sums = std::mem::take(&mut self.state.epoch);
        let EpochSums { loss, correct, images, seconds } = sums;
        let record = EpochRecord {
            epoch: last.epoch,
            step: last.step,
            train: Score { loss: loss / images as f64, accuracy: correct as f64 / images as f64 },
            test: evaluation.as_ref().map(|found| Score { loss: found.loss, accuracy: found.accuracy }),
            learning_rate: last.learning_rate,
            seconds: self.state.seconds,
            images_per_second: images as f64 / seconds.max(f64::EPSILON),
        };
        self.keep(Record::Epoch(record))?;
        let accuracy = record.test.map(|test| test.accuracy);
        let better = accuracy.is_some_and(|accuracy| self.state.best.is_none_or(|best| accuracy > best));
        if better {
            self.state.best = accuracy;
        }
        let due = self.trainer.settings.look_every.is_some_and(|epochs| last.epoch.is_multiple_of(epochs));
        if due || last.step == self.steps {
            self.save_snapshot(last.epoch)?;
        }
        self.save_last()?;
        if let (true, Some(folder)) = (better, &self.folder) {
            checkpoint::save(&folder.best(), &self.state, &self.record.data.fingerprint)?;
        }
        (self.trainer.observer)(Event::Epoch(&record));
        Ok(evaluation)
    }

    fn evaluate(&mut self) -> Result<Evaluation> {
        self.classifier.evaluate(&self.state.parameters, self.test, &self.trainer.settings.loss)
    }

    fn keep(&mut self, record: Record) -> Result<()> {
        self.records.push(record);
        self.folder.as_mut().map_or(Ok(()), |folder| folder.record(&record))
    }

    /// Keeps the model as it is after so many epochs, if the settings ask for snapshots.
    fn save_snapshot(&self, epoch: usize) -> Result<()> {
        match (&self.folder, self.trainer.settings.look_every) {
            (Some(folder), Some(_)) => self.model()?.save(folder.snapshot(epoch)?),
            _ => Ok(()),
        }
    }

    /// The model as it is now.
    fn model(&self) -> Result<Model> {
        let (network, parameters) = (self.trainer.network.clone(), self.state.parameters.clone());
        Model::new(network, parameters, self.record.data.classes.clone(), self.normalisation.clone())
    }

    fn save_last(&self) -> Result<()> {
        self.folder.as_ref().map_or(Ok(()), |folder| checkpoint::save(&folder.last(), &self.state, &self.record.data.fingerprint))
    }

    /// Says where the numbers went wrong: the step, the batch, and the first layer whose output is not finite.
    fn not_finite(&self, step: usize, loss: f64, learning_rate: f64) -> Error {
        let layer = first_not_finite(&self.trainer.network, &self.state, &self.images, self.labels.len(), &self.machine);
        let layer = layer.map_or("the loss itself".to_owned(), |name| format!("the output of layer '{name}'"));
        let samples: Vec<String> = self.batches.samples(step % self.steps_per_epoch).take(4).map(|sample| sample.to_string()).collect();
        let kept = match &self.folder {
            Some(folder) if folder.last().exists() => format!(" The last checkpoint is untouched: {}.", folder.last().display()),
            _ => String::new(),
        };
        Error::Failed(format!(
            "the loss became {loss} at step {} (learning rate {learning_rate:.3e}, images {}, …); the first value that is not finite is {layer}. \
             Use a smaller --lr or --clip 1.{kept}",
            step + 1,
            samples.join(", ")
        ))
    }

    fn finish(mut self, evaluation: Option<Evaluation>, data: &Dataset) -> Result<Run> {
        let evaluation = match evaluation {
            Some(evaluation) => evaluation,
            None => self.evaluate()?,
        };
        let model = self.model()?;
        let steps = self.state.step as usize;
        let run = Run {
            model,
            records: self.records,
            evaluation,
            record: self.record,
            folder: self.folder.as_ref().map(|folder| folder.path().to_owned()),
            finished: steps == self.steps,
            steps,
            seconds: self.state.seconds,
        };
        if let Some(folder) = &self.folder {
            run.model.save(folder.model())?;
            super::page::write(&run, data, &self.machine, &folder.report())?;
        }
        Ok(run)
    }
}

/// The first layer whose output holds a value that is not finite, for these images.
fn first_not_finite(network: &Network, state: &State, images: &[f32], batch: usize, machine: &Machine) -> Option<String> {
    let mut plan = Plan::new(network, batch, Purpose::Inspect, machine).ok()?;
    plan.forward(&state.parameters, images, 0);
    let bad = |id| plan.activation(id).is_some_and(|values| reduce::has_non_finite(machine, values.values()));
    network.layers().find(|(id, _)| bad(*id)).map(|(_, node)| node.name().to_owned())
}
