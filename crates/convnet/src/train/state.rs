//! All that changes while a network is trained. With the settings and the data, it determines everything that follows.

use convnet_kernels::Machine;

use super::Settings;
use crate::error::Result;
use crate::initialise::initial_parameters;
use crate::layer::Role;
use crate::network::{Network, Parameters};
use crate::optim::{Update, decays};
use crate::plan::Plan;

/// The numbers that a training step changes.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Finished steps.
    pub step: u64,
    pub parameters: Parameters,
    /// What the optimiser keeps, `slots[parameter][slot]`; empty for buffers.
    pub slots: Vec<Vec<Vec<f32>>>,
    /// Sums over the batches of the epoch that is under way.
    pub epoch: EpochSums,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The best accuracy on the test images so far, if there was an evaluation.
    pub best: Option<f64>,
}

/// Sums over the finished batches of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct EpochSums {
    /// Sum of the losses of the batches, each times its images.
    pub loss: f64,
    /// Images whose best score was their class.
    pub correct: u64,
    /// Images seen.
    pub images: u64,
    /// Seconds spent on them.
    pub seconds: f64,
}

impl State {
    /// The state before the first step.
    pub fn new(network: &Network, settings: &Settings) -> Result<Self> {
        let parameters = initial_parameters(network, settings.initialisation, settings.seed)?;
        let slots = parameters.list().iter().map(|parameter| match parameter.role {
            Role::Buffer => Vec::new(),
            _ => vec![vec![0.0; parameter.tensor.len()]; settings.optimizer.slots()],
        });
        Ok(Self { step: 0, slots: slots.collect(), parameters, epoch: EpochSums::default(), seconds: 0.0, best: None })
    }

    /// One update by the gradients of the plan, and the statistics of its batch into the buffers.
    pub fn update(&mut self, network: &Network, plan: &Plan, settings: &Settings, learning_rate: f64, machine: &Machine) {
        self.step += 1;
        let roles: Vec<Role> = self.parameters.list().iter().map(|parameter| parameter.role).collect();
        for (index, (values, slots)) in self.parameters.all_values_mut().zip(&mut self.slots).enumerate() {
            if roles[index] == Role::Buffer {
                continue;
            }
            let weight_decay = if decays(roles[index]) { settings.weight_decay } else { 0.0 };
            let update = Update { learning_rate, weight_decay, step: self.step };
            let mut slots: Vec<&mut [f32]> = slots.iter_mut().map(Vec::as_mut_slice).collect();
            settings.optimizer.update(machine, values, &plan.gradients()[index], &mut slots, &update);
        }
        plan.update_buffers(network, &mut self.parameters);
    }
}
