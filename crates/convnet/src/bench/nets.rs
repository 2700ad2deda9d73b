//! The time of a whole network: a forward pass for inference, or a training step.

use std::path::Path;

use convnet_kernels::Machine;
use convnet_kernels::memory::{Buffer, NoMemory};
use serde::Serialize;

use super::layers::parameter;
use super::{Bench, median, peak_resident_bytes, sample, values};
use crate::data::Normalisation;
use crate::error::{Error, Result};
use crate::initialise::{Initialisation, initial_parameters};
use crate::layer::{Initial, Role};
use crate::loss::Loss;
use crate::model::Model;
use crate::network::{Network, Parameters};
use crate::optim::{Update, decays};
use crate::plan::{Plan, Purpose};
use crate::train::Settings;

/// Steps that change next to nothing, so that any number of them computes with numbers of the same size.
const LEARNING_RATE: f64 = 1e-6;

/// The time of a network's forward pass, or of a training step.
#[derive(Clone, Debug, Serialize)]
pub struct NetTiming {
    /// The network.
    pub net: String,
    /// Images at once.
    pub batch: usize,
    /// Threads that worked.
    pub threads: usize,
    /// Of the products that was asked for; `f32` unless another was.
    pub precision: &'static str,
    /// Median of the rounds, for one batch.
    pub seconds: f64,
    /// Images per second.
    pub images_per_second: f64,
    /// The most memory that the process has held, in bytes; that of the plan where the system does not tell.
    pub peak_bytes: u64,
    /// Evenly spaced numbers of the first image's scores, or, of a training step, of the first parameter's gradient at the
    /// first step.
    pub sample: Vec<f32>,
}

/// Numbers like those of a trained network: weights as [`Initialisation::He`] draws them, and every other parameter varied
/// (see [`value`](super::value)) where it would begin as one constant, so that no mistake hides behind a zero or a one.
///
/// # Errors
/// They are more than memory can hold.
pub fn varied_parameters(network: &Network) -> Result<Parameters> {
    let mut parameters = initial_parameters(network, Initialisation::He, 0)?;
    let specs: Vec<_> = network.parameters().map(|(_, spec)| spec.clone()).collect();
    for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| !matches!(spec.initial, Initial::Weight { .. })) {
        parameters.values_mut(index).copy_from_slice(&parameter(64 + index as u32, spec)?);
    }
    Ok(parameters)
}

/// A forward pass for inference, ready to be measured. Images and scores are N×C×H×W.
#[derive(Debug)]
pub struct ModelBench {
    name: String,
    parameters: Parameters,
    plan: Plan,
    images: Buffer<f32>,
    sample: Vec<f32>,
}

impl ModelBench {
    /// Plans the network with [`varied_parameters`], and computes once for the sample.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(network: &Network, name: &str, batch: usize, machine: &Machine) -> Result<Self> {
        let parameters = varied_parameters(network)?;
        let mut plan = Plan::<f32>::new(network, batch, Purpose::Infer, machine)?;
        let images = values(0, plan.input_shape().count())?;
        let scores = plan.forward(&parameters, &images, 0);
        let sample = sample(&scores[..scores.len() / batch]);
        Ok(Self { name: name.into(), parameters, plan, images, sample })
    }
}

impl Bench for ModelBench {
    type Timing = NetTiming;

    fn measure(&mut self, rounds: usize) -> NetTiming {
        let seconds = median(rounds, || {
            self.plan.forward(&self.parameters, &self.images, 0);
        });
        net_timing(&self.name, &self.plan, seconds, &self.sample)
    }
}

/// Writes the model that [`ModelBench`] measures, for other programs to load. Its classes are called `0`, `1` and so on, and
/// its normalisation only brings bytes to 0 to 1.
///
/// # Errors
/// The network does not give one score for each class, or the file cannot be written.
pub fn write_model(network: &Network, path: &Path) -> Result<()> {
    let channels = network.input_shape().c;
    let normalisation = Normalisation { mean: vec![0.0; channels], std: vec![1.0; channels] };
    let classes = (0..network.output_shape().image()).map(|class| class.to_string()).collect();
    Model::new(network.clone(), varied_parameters(network)?, classes, normalisation)?.save(path)
}

/// A training step with the update of the default recipe, ready to be measured: forward, cross-entropy, backward, Nesterov
/// momentum with weight decay, and the statistics of batch norms.
#[derive(Debug)]
pub struct TrainBench {
    name: String,
    network: Network,
    machine: Machine,
    settings: Settings,
    plan: Plan,
    parameters: Parameters,
    /// What the optimiser keeps, `slots[parameter][slot]`; empty for buffers.
    slots: Vec<Vec<Buffer<f32>>>,
    roles: Vec<Role>,
    images: Buffer<f32>,
    labels: Vec<usize>,
    gradient: Buffer<f32>,
    step: u64,
    sample: Vec<f32>,
}

impl TrainBench {
    /// Plans the network with [`varied_parameters`] for a purpose that trains, and makes the first step for the sample. Image
    /// i is of class i modulo the number of classes.
    ///
    /// # Errors
    /// The network has no scores to train, the purpose does not train, or the memory cannot be had.
    pub fn new(network: &Network, name: &str, batch: usize, purpose: Purpose, machine: &Machine) -> Result<Self> {
        if !purpose.trains() {
            return Err(Error::Argument(format!("a plan for {purpose:?} makes no training steps")));
        }
        let output = network.output_shape();
        if output.pixels() != 1 {
            return Err(Error::Argument(format!(
                "the output of {name} is {}x{}x{}; a training step needs one score for each class",
                output.c, output.h, output.w
            )));
        }
        let settings = Settings::default();
        let parameters = varied_parameters(network)?;
        let plan = Plan::<f32>::new(network, batch, purpose, machine)?;
        let roles: Vec<Role> = parameters.list().iter().map(|parameter| parameter.role).collect();
        let slots = parameters.list().iter().map(|parameter| match parameter.role {
            Role::Buffer => Ok(Vec::new()),
            _ => (0..settings.optimizer.slots()).map(|_| Buffer::zeros(parameter.tensor.len())).collect(),
        });
        let mut bench = Self {
            name: name.into(),
            network: network.clone(),
            machine: machine.clone(),
            slots: slots.collect::<Result<_, NoMemory>>()?,
            images: values(0, plan.input_shape().count())?,
            labels: (0..batch).map(|image| image % output.c).collect(),
            gradient: Buffer::zeros(plan.output_shape().count())?,
            settings,
            plan,
            parameters,
            roles,
            step: 0,
            sample: Vec::new(),
        };
        bench.step();
        bench.sample = bench.plan.gradients().first().map_or_else(Vec::new, |gradient| sample(gradient));
        Ok(bench)
    }

    fn step(&mut self) {
        self.step += 1;
        let scores = self.plan.forward(&self.parameters, &self.images, 0);
        Loss::default().value_and_gradient(scores, self.network.output_shape().c, &self.labels, &mut self.gradient);
        self.plan.backward(&self.parameters, &self.gradient);
        for (index, (values, slots)) in self.parameters.all_values_mut().zip(&mut self.slots).enumerate() {
            if self.roles[index] == Role::Buffer {
                continue;
            }
            let weight_decay = if decays(self.roles[index]) { self.settings.weight_decay } else { 0.0 };
            let update = Update { learning_rate: LEARNING_RATE, weight_decay, step: self.step };
            let mut slots: Vec<&mut [f32]> = slots.iter_mut().map(|slot| &mut **slot).collect();
            self.settings.optimizer.update(&self.machine, values, &self.plan.gradients()[index], &mut slots, &update);
        }
        self.plan.update_buffers(&self.network, &mut self.parameters);
    }
}

impl Bench for TrainBench {
    type Timing = NetTiming;

    fn measure(&mut self, rounds: usize) -> NetTiming {
        let seconds = median(rounds, || self.step());
        net_timing(&self.name, &self.plan, seconds, &self.sample)
    }
}

fn net_timing(name: &str, plan: &Plan, seconds: f64, sample: &[f32]) -> NetTiming {
    NetTiming {
        net: name.into(),
        batch: plan.batch(),
        threads: plan.machine().threads.count(),
        precision: plan.machine().precision.name(),
        seconds,
        images_per_second: plan.batch() as f64 / seconds,
        peak_bytes: peak_resident_bytes().unwrap_or_else(|| plan.bytes().total()),
        sample: sample.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use convnet_kernels::Isa;

    use super::*;

    fn network() -> Network {
        Network::parse("input 2x6x6 -> conv 4 3x3 -> bn -> relu -> flatten -> fc 3").unwrap()
    }

    fn machine() -> Machine {
        Machine::new(Isa::detect(), 1)
    }

    #[test]
    fn no_parameter_is_one_constant() {
        for parameter in varied_parameters(&network()).unwrap().list() {
            let values = parameter.tensor.values();
            assert!(values.iter().any(|value| *value != values[0]), "{}", parameter.name);
            assert!(parameter.name != "bn1.running_var" || values.iter().all(|value| *value > 0.5), "{values:?}");
        }
    }

    #[test]
    fn the_sample_of_a_model_is_the_scores_of_its_first_image_for_any_batch() {
        let sample = |batch| ModelBench::new(&network(), "small", batch, &machine()).unwrap().measure(1).sample;
        assert_eq!(sample(1), sample(3));
        assert_eq!(sample(1).len(), 16);
        assert!(sample(1)[0] != sample(1)[15]);
    }

    #[test]
    fn the_model_that_is_written_is_the_one_that_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_model(&network(), &path).unwrap();
        let model = Model::load(&path).unwrap();
        let measured = varied_parameters(&network()).unwrap();
        assert!(model.network().same_as(&network()));
        assert_eq!(model.parameters().list(), measured.list());
    }

    #[test]
    fn a_training_step_moves_every_parameter() {
        let mut bench = TrainBench::new(&network(), "small", 5, Purpose::Train, &machine()).unwrap();
        let first = varied_parameters(&network()).unwrap();
        let timing = bench.measure(200);
        assert!(timing.seconds > 0.0 && timing.sample.iter().any(|value| *value != 0.0), "{timing:?}");
        for (before, after) in first.list().iter().zip(bench.parameters.list()) {
            // What batch norm subtracts again has no gradient, and a bias no weight decay.
            assert!(before.tensor != after.tensor || before.name == "conv1.bias", "{}", before.name);
        }
    }

    #[test]
    fn what_has_no_scores_cannot_be_trained() {
        let network = Network::parse("input 1x6x6 -> conv 4 3x3").unwrap();
        assert!(TrainBench::new(&network, "maps", 1, Purpose::Train, &machine()).unwrap_err().to_string().contains("4x4x4"));
    }
}
