//! Looking inside a plan for inspection: any value, forward as far as one is needed, and the gradient of any sum of values
//! down to the image.
//!
//! ```
//! use convnet::network::{Network, NodeId, Parameters};
//! use convnet::plan::{Plan, Purpose, RectifierRule, Seed};
//! use convnet::{Error, Machine};
//!
//! let network = Network::parse("input 1x3x3 -> conv 2 3x3 -> relu -> flatten -> fc 10")?;
//! let ones = Parameters::build(&network, |_, spec| vec![1.0; spec.count()])?;
//! let machine = Machine::detect().map_err(Error::Argument)?;
//! let mut plan = Plan::<f32>::new(&network, 1, Purpose::Inspect, &machine)?;
//! let conv = network.find("conv1")?;
//! plan.forward_until(&ones, &[0.5; 9], conv); // no other layer runs
//! assert_eq!(plan.activation(conv).unwrap().values(), [5.5, 5.5]);
//! assert!(plan.activation(network.output()).is_none());
//! // What the image does to the first filter's output, and twice that of the second.
//! plan.backward_from(&ones, &[Seed { at: conv, gradient: &[1.0, 2.0] }], RectifierRule::Gradient);
//! assert_eq!(plan.gradient(NodeId::IMAGE).unwrap().values(), [3.0; 9]);
//! # Ok::<(), convnet::Error>(())
//! ```

use convnet_kernels::Real;

use super::layout::GradientTarget;
use super::run::{Walk, Work, backward_step, forward_step};
use super::{Plan, Purpose};
use crate::layer::relu::RectifierRule;
use crate::network::{NodeId, Parameters};
use crate::shape::Shape;
use crate::tensor::{Tensor, from_channels_last, to_channels_last};

/// A gradient that enters the network at a value, as if what is differentiated were Σ gradient · value.
#[derive(Clone, Copy, Debug)]
pub struct Seed<'a, T = f32> {
    /// The value.
    pub at: NodeId,
    /// N×C×H×W, as many numbers as the value has for the whole batch.
    pub gradient: &'a [T],
}

/// A value, or its gradient, as it lies in the plan: nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a, T = f32> {
    /// The shape in which the numbers lie: the value's own; but for a value behind a flatten that was left out, which
    /// still lies as what was flattened does.
    pub shape: Shape,
    /// Channels last, N×H×W×C.
    pub values: &'a [T],
}

impl<T: Real> Plan<T> {
    /// The value after the last forward pass, N×C×H×W. A plan for inspection has every value that was computed; others
    /// have those that nothing was written over, which cannot be told apart, so they give none.
    pub fn activation(&self, id: NodeId) -> Option<Tensor<T>> {
        self.logical(self.stored_activation(id)?, id)
    }

    /// The gradient of a value after the last backward pass, N×C×H×W; only for plans for inspection. `None` for a value
    /// that this pass did not reach: nothing that was differentiated depends on it, or nothing was asked from above it.
    pub fn gradient(&self, id: NodeId) -> Option<Tensor<T>> {
        self.logical(self.stored_gradient(id)?, id)
    }

    /// As [`activation`](Self::activation), without copying.
    pub fn stored_activation(&self, id: NodeId) -> Option<Stored<'_, T>> {
        let range = self.layout.values.get(id.index())?.clone()?;
        let known = self.purpose == Purpose::Inspect && self.computed[id.index()];
        known.then(|| Stored { shape: self.layout.stored[id.index()], values: &self.arena[range] })
    }

    /// As [`gradient`](Self::gradient), without copying.
    pub fn stored_gradient(&self, id: NodeId) -> Option<Stored<'_, T>> {
        let range = self.layout.gradients.get(id.index())?.clone()?;
        let known = self.purpose == Purpose::Inspect && self.differentiated[id.index()];
        known.then(|| Stored { shape: self.layout.stored[id.index()], values: &self.arena[range] })
    }

    fn logical(&self, stored: Stored<'_, T>, id: NodeId) -> Option<Tensor<T>> {
        let shape = self.shapes[id.index()];
        let mut logical = vec![T::ZERO; stored.values.len()];
        from_channels_last(stored.shape, stored.values, &mut logical);
        Tensor::new(vec![shape.n, shape.c, shape.h, shape.w], logical).ok()
    }

    /// Runs only the layers that `last` depends on, for a batch of images, N×C×H×W. Of all other values there is no
    /// [`activation`](Self::activation) afterwards, and no gradient can enter there.
    ///
    /// # Panics
    /// If the plan is not for inspection, the network has no such value, the images are not exactly one batch, or the
    /// parameters belong to another network.
    pub fn forward_until(&mut self, parameters: &Parameters<T>, images: &[T], last: NodeId) {
        assert!(self.purpose == Purpose::Inspect, "only a plan for inspection stops at a value");
        self.begin(parameters, images, 0);
        self.computed.fill(false);
        self.computed[last.index()] = true;
        self.computed[NodeId::IMAGE.index()] = true;
        for placed in self.layout.steps.iter().rev() {
            if self.computed[placed.step.output.index()] {
                for input in &placed.step.inputs {
                    self.computed[input.index()] = true;
                }
            }
        }
        let arena = &mut self.arena[..];
        let walk = Walk { machine: &self.machine, purpose: self.purpose, random: 0, rectifier: RectifierRule::Gradient };
        for placed in &self.layout.steps {
            if !placed.step.alias && self.computed[placed.step.output.index()] {
                let work = Work { arena, indices: &mut self.indices, prepared: &self.prepared };
                forward_step(&walk, placed, &placed.forward, parameters, work);
            }
        }
    }

    /// The gradient of Σ over seeds of Σ gradient · value, at the last forward pass, with respect to the image and every
    /// value in between: read it with [`gradient`](Self::gradient). Seeds may enter at several values, and several at
    /// one. Only the layers below the seeds run, and no gradient of a parameter is computed. One forward pass may be
    /// followed by any number of these.
    ///
    /// # Panics
    /// If the plan is not for inspection, a seed has another length than its value, or the last forward pass did not
    /// compute that value.
    pub fn backward_from(&mut self, parameters: &Parameters<T>, seeds: &[Seed<'_, T>], rule: RectifierRule) {
        assert!(self.purpose == Purpose::Inspect, "only a plan for inspection differentiates any value");
        for seed in seeds {
            let shape = self.shapes[seed.at.index()];
            assert_eq!(seed.gradient.len(), shape.count(), "a seed of {shape} numbers is expected");
            assert!(self.computed[seed.at.index()], "the last forward pass did not compute the value that a seed enters at");
        }
        self.differentiated.fill(false);
        let walk = Walk { machine: &self.machine, purpose: self.purpose, random: self.random, rectifier: rule };
        let arena = &mut self.arena[..];
        let mut targets = Vec::new();
        for placed in self.layout.steps.iter().rev() {
            let output = placed.step.output;
            // All readers of the output have been walked back, so that nothing is written over what is sown now.
            for seed in seeds.iter().filter(|seed| seed.at == output) {
                sow(self.layout.stored[output.index()], seed, &mut self.differentiated, &mut arena[placed.grad_output.clone()]);
            }
            if !self.differentiated[output.index()] {
                continue;
            }
            targets.clear();
            for (input, target) in placed.step.inputs.iter().zip(&placed.grad_inputs) {
                let first = !std::mem::replace(&mut self.differentiated[input.index()], true);
                targets.push(match target {
                    GradientTarget::Add(_, sum) if first => GradientTarget::Write(sum.clone()),
                    target => target.clone(),
                });
            }
            let work = Work { arena, indices: &mut self.indices, prepared: &self.prepared };
            backward_step(&walk, placed, &targets, parameters, work, &mut []);
        }
        let image = self.layout.gradients[NodeId::IMAGE.index()].clone().unwrap_or(0..0);
        for seed in seeds.iter().filter(|seed| seed.at == NodeId::IMAGE) {
            sow(self.layout.stored[NodeId::IMAGE.index()], seed, &mut self.differentiated, &mut arena[image.clone()]);
        }
    }
}

/// Writes a seed to the gradient of its value, or adds it where there is one already.
fn sow<T: Real>(stored: Shape, seed: &Seed<'_, T>, differentiated: &mut [bool], gradient: &mut [T]) {
    if !std::mem::replace(&mut differentiated[seed.at.index()], true) {
        to_channels_last(stored, seed.gradient, gradient);
        return;
    }
    for (image, sum) in seed.gradient.chunks_exact(stored.image()).zip(gradient.chunks_exact_mut(stored.image())) {
        for (channel, plane) in image.chunks_exact(stored.pixels()).enumerate() {
            for (pixel, value) in plane.iter().enumerate() {
                sum[pixel * stored.c + channel] += *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use convnet_kernels::{Isa, Machine};

    use super::*;
    use crate::layer::single::GRADIENT_TOLERANCE;
    use crate::network::Network;
    use crate::random::{Address, Purpose as For};

    fn noise<T: Real>(count: usize, salt: u64) -> Vec<T> {
        let mut random = Address::new(salt, For::Check).random();
        (0..count).map(|_| T::from_f64(2.0 * random.uniform_f64() - 1.0)).collect()
    }

    fn residual() -> Network {
        let text = "input 2x6x5 -> conv 4 3x3 pad 1 -> bn -> relu \
            -> add( conv 4 3x3 pad 1 -> relu -> conv 4 1x1 -> bn | identity | identity ) -> relu -> layernorm \
            -> add( identity | leaky relu ) -> maxpool 2 -> flatten -> relu -> fc 5 -> softmax";
        Network::parse(text).unwrap()
    }

    fn inception() -> Network {
        let text = "input 3x7x6 -> conv 4 3x3 pad 1 -> relu \
            -> concat( conv 3 1x1 -> relu | conv 2 1x1 -> relu -> conv 3 3x3 pad 1 | maxpool 3 stride 1 pad 1 -> conv 2 1x1 ) \
            -> scale -> silu -> global avgpool -> flatten -> fc 4";
        Network::parse(text).unwrap()
    }

    fn parameters<T: Real>(network: &Network) -> Parameters<T> {
        let values = |index: usize, spec: &crate::layer::ParameterSpec| -> Vec<T> {
            let values: Vec<T> = noise(spec.count(), 100 + index as u64);
            // A variance is positive.
            if spec.name == "running_var" { values.into_iter().map(|value| value * value + T::ONE).collect() } else { values }
        };
        Parameters::build(network, values).unwrap()
    }

    fn plan<T: Real>(network: &Network, batch: usize, threads: usize) -> Plan<T> {
        Plan::new(network, batch, Purpose::Inspect, &Machine::new(Isa::detect(), threads)).unwrap()
    }

    fn ids(network: &Network) -> Vec<NodeId> {
        std::iter::once(NodeId::IMAGE).chain(network.layers().map(|(id, _)| id)).collect()
    }

    #[test]
    fn the_gradient_from_any_value_is_that_of_forward() {
        for network in [residual(), inception()] {
            let (parameters, mut plan) = (parameters::<f64>(&network), plan::<f64>(&network, 2, 1));
            let mut images: Vec<f64> = noise(plan.input_shape().count(), 1);
            let seeds: Vec<Vec<f64>> =
                ids(&network).iter().map(|id| noise(network.shape(*id).count() * 2, 7 + id.index() as u64)).collect();
            let seed = |id: NodeId| Seed { at: id, gradient: &seeds[id.index()] };
            let mut gradients = Vec::new();
            for id in ids(&network) {
                plan.forward_until(&parameters, &images, id);
                plan.backward_from(&parameters, &[seed(id)], RectifierRule::Gradient);
                gradients.push(plan.gradient(NodeId::IMAGE).unwrap().into_values());
            }
            let step = 1e-6;
            for place in 0..images.len() {
                let mut sums = [1.0, -1.0].map(|sign| {
                    let kept = images[place];
                    images[place] += sign * step;
                    plan.forward(&parameters, &images, 0);
                    images[place] = kept;
                    let value = |id: &NodeId| -> f64 {
                        plan.activation(*id).unwrap().values().iter().zip(&seeds[id.index()]).map(|(value, seed)| value * seed).sum()
                    };
                    ids(&network).iter().map(value).collect::<Vec<f64>>()
                });
                let [up, down] = sums.each_mut();
                for (id, gradient) in gradients.iter().enumerate() {
                    let difference = (up[id] - down[id]) / (2.0 * step);
                    let error = (difference - gradient[place]).abs() / difference.abs().max(1.0);
                    assert!(error < GRADIENT_TOLERANCE, "value {id}, image at {place}: {} and {difference}", gradient[place]);
                }
            }
        }
    }

    #[test]
    fn seeds_at_several_values_add_up_in_every_value_and_leave_the_parameters_alone() {
        for network in [residual(), inception()] {
            let (parameters, mut plan) = (parameters::<f64>(&network), plan::<f64>(&network, 2, 1));
            let images: Vec<f64> = noise(plan.input_shape().count(), 1);
            plan.forward(&parameters, &images, 0);
            let all = ids(&network);
            let seeds: Vec<Vec<f64>> = all.iter().map(|id| noise(network.shape(*id).count() * 2, 7 + id.index() as u64)).collect();
            let mut list: Vec<Seed<'_, f64>> = all.iter().map(|id| Seed { at: *id, gradient: &seeds[id.index()] }).collect();
            // One value may have two.
            list.push(list[3]);
            let mut sums: Vec<Vec<f64>> = seeds.iter().map(|seed| vec![0.0; seed.len()]).collect();
            for seed in &list {
                plan.backward_from(&parameters, &[*seed], RectifierRule::Gradient);
                for id in &all {
                    let gradient = plan.gradient(*id);
                    assert!(gradient.is_some() || *id != NodeId::IMAGE);
                    for (sum, value) in sums[id.index()].iter_mut().zip(gradient.iter().flat_map(|gradient| gradient.values())) {
                        *sum += value;
                    }
                }
            }
            plan.backward_from(&parameters, &list, RectifierRule::Gradient);
            for id in &all {
                let together = plan.gradient(*id).unwrap();
                for (sum, value) in sums[id.index()].iter().zip(together.values()) {
                    assert!((sum - value).abs() < 1e-11 * sum.abs().max(1.0), "{id}: {sum} and {value}");
                }
            }
            assert!(plan.gradients().iter().flatten().all(|gradient| *gradient == 0.0));
        }
    }

    #[test]
    fn only_what_a_value_depends_on_runs() {
        let network = inception();
        let (parameters, mut plan) = (parameters::<f32>(&network), plan::<f32>(&network, 1, 1));
        let images: Vec<f32> = noise(plan.input_shape().count(), 1);
        let [stem, branch, other] = ["relu1", "conv4", "conv2"].map(|name| network.find(name).unwrap());
        plan.forward(&parameters, &images, 0);
        let expected = plan.activation(branch).unwrap();
        plan.forward_until(&parameters, &images, branch);
        assert_eq!(plan.activation(branch).unwrap(), expected);
        assert!(plan.activation(stem).is_some() && plan.activation(other).is_none() && plan.activation(network.output()).is_none());
        let seed = vec![1.0; network.shape(branch).count()];
        plan.backward_from(&parameters, &[Seed { at: branch, gradient: &seed }], RectifierRule::Gradient);
        assert!(plan.gradient(stem).is_some() && plan.gradient(other).is_none() && plan.gradient(network.output()).is_none());
    }

    #[test]
    fn the_same_bits_come_out_of_any_number_of_threads_and_of_a_second_walk() {
        for (network, rule) in [residual(), inception()].iter().flat_map(|network| RectifierRule::ALL.map(|rule| (network, rule))) {
            let parameters = parameters::<f32>(network);
            let run = |threads: usize, walks: usize| {
                let mut plan = plan::<f32>(network, 5, threads);
                let images: Vec<f32> = noise(plan.input_shape().count(), 1);
                plan.forward(&parameters, &images, 0);
                let seed: Vec<f32> = noise(plan.output_shape().count(), 2);
                for _ in 0..walks {
                    plan.backward_from(&parameters, &[Seed { at: network.output(), gradient: &seed }], rule);
                }
                let bits = |id: &NodeId| plan.gradient(*id).unwrap().values().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                ids(network).iter().map(bits).collect::<Vec<_>>()
            };
            let one = run(1, 1);
            for (threads, walks) in [(1, 2), (2, 1), (3, 2)] {
                assert!(run(threads, walks) == one, "{threads} threads, {walks} walks, {rule:?}");
            }
        }
    }

    #[test]
    fn from_the_output_it_is_the_gradient_of_backward() {
        let network = residual();
        let (parameters, mut plan) = (parameters::<f64>(&network), plan::<f64>(&network, 2, 1));
        let images: Vec<f64> = noise(plan.input_shape().count(), 1);
        let seed: Vec<f64> = noise(plan.output_shape().count(), 2);
        plan.forward(&parameters, &images, 0);
        assert!(plan.gradient(NodeId::IMAGE).is_none(), "nothing was differentiated yet");
        plan.backward(&parameters, &seed);
        let expected = ids(&network).iter().map(|id| plan.gradient(*id).unwrap()).collect::<Vec<_>>();
        plan.backward_from(&parameters, &[Seed { at: network.output(), gradient: &seed }], RectifierRule::Gradient);
        assert!(ids(&network).iter().map(|id| plan.gradient(*id).unwrap()).eq(expected));
    }

    #[test]
    fn each_rule_lets_through_what_it_says() {
        let network = Network::parse("input 1x1x4 -> relu").unwrap();
        let parameters = Parameters::constant(&network).unwrap();
        let mut plan = plan::<f32>(&network, 3, 1);
        // The second image is silent; the third has its only positive number where no gradient comes.
        let images = [-1.0, 2.0, 0.0, 4.0, -1.0, -2.0, 0.0, -4.0, -1.0, 2.0, -3.0, -4.0];
        let gradient = [1.0, -1.0, 2.0, 3.0, 1.0, -1.0, 2.0, 0.0, -5.0, 0.0, 6.0, 0.0];
        plan.forward(&parameters, &images, 0);
        for (rule, expected) in [
            (RectifierRule::Gradient, [0.0, -1.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (RectifierRule::Guided, [0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (RectifierRule::Deconv, [1.0, 0.0, 2.0, 3.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 6.0, 0.0]),
            (RectifierRule::Redirected, [0.0, -1.0, 0.0, 3.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 6.0, 0.0]),
        ] {
            plan.backward_from(&parameters, &[Seed { at: network.output(), gradient: &gradient }], rule);
            assert_eq!(plan.gradient(NodeId::IMAGE).unwrap().values(), expected, "{rule:?}");
        }
    }

    #[test]
    fn what_is_stored_is_what_is_told() {
        let network = residual();
        let (parameters, mut plan) = (parameters::<f32>(&network), plan::<f32>(&network, 2, 1));
        let images: Vec<f32> = noise(plan.input_shape().count(), 1);
        plan.forward(&parameters, &images, 0);
        for id in ids(&network) {
            let (stored, told) = (plan.stored_activation(id).unwrap(), plan.activation(id).unwrap());
            let mut logical = vec![0.0; stored.values.len()];
            from_channels_last(stored.shape, stored.values, &mut logical);
            assert_eq!(logical, told.values());
        }
        assert_eq!(plan.stored_activation(network.find("flatten1").unwrap()).unwrap().shape, Shape::new(2, 4, 3, 2));
    }
}
