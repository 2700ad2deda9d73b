//! A model that is shown many images, a batch at a time.

use std::ops::Range;

use convnet_kernels::{Machine, Real};

use crate::error::Result;
use crate::model::Model;
use crate::network::{Network, NodeId};
use crate::plan::{Plan, PlanBytes, Purpose};

/// Memory that a plan for looking should stay below, where one image allows it.
const BUDGET: u64 = 192 << 20;

/// Most images that are worth going through a network together.
const MOST: usize = 32;

/// Images of a batch for looking inside this network. It depends on nothing else, so that results do not either.
///
/// # Errors
/// A single image cannot be addressed.
pub(super) fn batch_for<T: Real>(network: &Network, machine: &Machine) -> Result<usize> {
    let one = PlanBytes::of::<T>(network, 1, Purpose::Inspect, machine)?.arena.max(1);
    Ok(usize::try_from(BUDGET / one).unwrap_or(MOST).clamp(1, MOST))
}

/// A model with a plan that keeps every activation of a batch.
#[derive(Debug)]
pub(super) struct Viewer<'a> {
    model: &'a Model,
    plan: Plan,
    images: Vec<f32>,
}

impl<'a> Viewer<'a> {
    /// For `count` images, as many of them at a time as suits the network; `count` is at least 1.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(model: &'a Model, count: usize, machine: &Machine) -> Result<Self> {
        let network = model.network();
        let batch = batch_for::<f32>(network, machine)?.min(count.max(1));
        let plan = Plan::new(network, batch, Purpose::Inspect, machine)?;
        let images = vec![0.0; plan.input_shape().count()];
        Ok(Self { model, plan, images })
    }

    /// Shows `count` images, which `write(number, values)` writes as the network sees them, C×H×W, and hands each batch's
    /// numbers to `read` with the plan that has seen them: everything, or what one value depends on.
    pub fn show(
        &mut self,
        count: usize,
        until: Option<NodeId>,
        mut write: impl FnMut(usize, &mut [f32]),
        mut read: impl FnMut(Range<usize>, &Plan),
    ) {
        let (batch, length) = (self.plan.batch(), self.plan.input_shape().image());
        for first in (0..count).step_by(batch) {
            let here = first..(first + batch).min(count);
            for (number, image) in here.clone().zip(self.images.chunks_exact_mut(length)) {
                write(number, image);
            }
            match until {
                Some(value) => self.plan.forward_until(self.model.parameters(), &self.images, value),
                None => _ = self.plan.forward(self.model.parameters(), &self.images, 0),
            }
            read(here, &self.plan);
        }
    }
}
