//! A plan: a network for one batch size and purpose on one machine. The only thing that runs.
//!
//! Building a plan fixes the order of the layers, what is joined, where everything lies, and which kernels compute;
//! running it cannot fail. Inside a plan images lie channels last (N×H×W×C); what goes in and comes out is N×C×H×W.
//!
//! | purpose | batch norm, dropout | keeps | backward |
//! |---|---|---|---|
//! | [`Purpose::Train`] | batch statistics, active | what backward needs | yes |
//! | [`Purpose::TrainRecomputing`] | the same | less of it: the rest is computed again in backward | yes |
//! | [`Purpose::Infer`] | running statistics, none | nothing | no |
//! | [`Purpose::Inspect`] | running statistics, none | every activation and gradient | yes |

mod arena;
mod fold;
mod inspect;
mod layout;
mod lives;
mod recompute;
mod run;
mod schedule;

use convnet_kernels::conv::Pass;
use convnet_kernels::conv::tuning::Question;
use convnet_kernels::memory::{self, Buffer, NoMemory};
use convnet_kernels::{Machine, Real};

use crate::error::Result;
use crate::layer::Role;
use crate::network::{MemoryUse, Network, NodeId, Parameters, RecomputationUse, Summary};
use crate::shape::Shape;

use layout::Layout;

pub use crate::layer::relu::RectifierRule;
pub use inspect::{Seed, Stored};

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forward and backward of training steps.
    Train,
    /// The same, to the bit, in less memory and more time: activations within segments of the network are dropped behind
    /// forward and computed again in backward.
    TrainRecomputing,
    /// Forward only, as fast and small as can be.
    Infer,
    /// Forward as in inference, but every activation is kept, and backward down to the image is possible.
    Inspect,
}

impl Purpose {
    /// Whether this is for training steps.
    pub fn trains(self) -> bool {
        matches!(self, Self::Train | Self::TrainRecomputing)
    }

    /// The machine as a plan of this purpose sees it: training uses weights once before it changes them.
    fn on(self, machine: &Machine) -> Machine {
        let machine = machine.clone();
        if self.trains() { machine.for_uses(1) } else { machine }
    }
}

/// What a plan takes of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanBytes {
    /// Activations, their gradients, what is kept from forward to backward, and working memory.
    pub arena: u64,
    /// Weights in the order in which the kernels read them.
    pub prepared: u64,
    /// Gradients of the parameters.
    pub gradients: u64,
}

impl PlanBytes {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.arena + self.prepared + self.gradients
    }

    /// What a plan would take, without building it.
    ///
    /// # Errors
    /// The batch is zero or too large to address.
    pub fn of<T: Real>(network: &Network, batch: usize, purpose: Purpose, machine: &Machine) -> Result<Self> {
        let machine = purpose.on(machine);
        Ok(Layout::new::<T>(network, batch, purpose, machine.means())?.bytes::<T>())
    }
}

/// A layer of a plan that is computed as a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Name of the layer.
    pub layer: String,
    /// The passes that the plan runs, each of which takes an algorithm of its own.
    pub questions: Vec<Question>,
}

/// The convolutions of a plan, without building it.
///
/// # Errors
/// The batch is zero or too large to address.
pub fn convolutions(network: &Network, batch: usize, purpose: Purpose, machine: &Machine) -> Result<Vec<Convolution>> {
    let machine = purpose.on(machine);
    let layout = Layout::new::<f32>(network, batch, purpose, machine.means())?;
    let convolutions = layout.steps.iter().filter_map(|placed| {
        let shape = placed.step.layer.convolution(&placed.input_shapes, placed.step.flattened)?;
        let passes = Pass::ALL.into_iter().filter(|pass| match pass {
            Pass::Forward => true,
            Pass::BackwardInput => placed.asks_input_gradient(),
            Pass::BackwardWeight => placed.backward,
        });
        Some(Convolution {
            layer: network.node(placed.step.node)?.name().to_owned(),
            questions: passes.map(|pass| Question::new(&shape, pass, machine.uses)).collect(),
        })
    });
    Ok(convolutions.collect())
}

/// The sizes of a network with the memory that plans for this machine take, at a batch and with an optimiser that keeps
/// `slots` numbers for each parameter.
///
/// # Errors
/// The batch is zero or too large to address.
pub fn summary(network: &Network, batch: usize, machine: &Machine, slots: usize) -> Result<Summary> {
    let bytes = |purpose| PlanBytes::of::<f32>(network, batch, purpose, machine);
    let (infer, train) = (bytes(Purpose::Infer)?, bytes(Purpose::Train)?);
    Ok(network.summary_for(batch).with_memory(memory_use(network, infer, 0), memory_use(network, train, slots)))
}

/// What [`Purpose::TrainRecomputing`] takes of memory, and what it computes more than [`Purpose::Train`].
///
/// # Errors
/// The batch is zero or too large to address.
pub fn recomputation(network: &Network, batch: usize, machine: &Machine, slots: usize) -> Result<RecomputationUse> {
    let purpose = Purpose::TrainRecomputing;
    let machine = purpose.on(machine);
    let layout = Layout::new::<f32>(network, batch, purpose, machine.means())?;
    let (again, step) = (layout.macs_again(), layout.macs_of_step());
    Ok(RecomputationUse {
        memory: memory_use(network, layout.bytes::<f32>(), slots),
        segments: layout.segments,
        macs: again / batch as u64,
        step_macs: step / batch as u64,
    })
}

fn memory_use(network: &Network, bytes: PlanBytes, slots: usize) -> MemoryUse {
    let size = std::mem::size_of::<f32>() as u64;
    let values: u64 = network.parameters().map(|(_, spec)| spec.count() as u64).sum();
    let trained: u64 = network.parameters().filter(|(_, spec)| spec.role != Role::Buffer).map(|(_, spec)| spec.count() as u64).sum();
    MemoryUse {
        parameters: values * size,
        prepared: bytes.prepared,
        gradients: bytes.gradients,
        optimizer: trained * slots as u64 * size,
        activations: bytes.arena,
    }
}

/// A network ready to run. See the [module](self).
///
/// ```
/// use convnet::network::{Network, Parameters};
/// use convnet::plan::{Plan, Purpose};
/// use convnet::{Error, Machine};
///
/// let network = Network::parse("input 1x4x4 -> conv 1 3x3 -> relu")?;
/// let ones = Parameters::build(&network, |_, spec| vec![1.0; spec.count()])?;
/// let machine = Machine::detect().map_err(Error::Argument)?;
/// let mut plan = Plan::<f32>::new(&network, 1, Purpose::Infer, &machine)?;
/// assert_eq!(plan.forward(&ones, &[2.0; 16], 0), [19.0; 4]); // nine products of 2·1, and the bias
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Debug)]
pub struct Plan<T = f32> {
    machine: Machine,
    purpose: Purpose,
    batch: usize,
    layout: Layout,
    input_shape: Shape,
    output: NodeId,
    output_shape: Shape,
    shapes: Vec<Shape>,
    roles: Vec<Role>,
    arena: Buffer<T>,
    indices: Buffer<u32>,
    prepared: Buffer<T>,
    /// Version of the parameters that `prepared` was written from.
    prepared_version: u64,
    gradients: Vec<Vec<T>>,
    /// The output in logical order.
    logical_output: Buffer<T>,
    /// Addresses the random numbers of the last forward pass.
    random: u64,
    /// The values that the last forward pass has computed.
    computed: Vec<bool>,
    /// The values whose gradients the last backward pass has computed.
    differentiated: Vec<bool>,
}

impl<T: Real> Plan<T> {
    /// Plans a network.
    ///
    /// # Errors
    /// The batch is zero, or the memory cannot be addressed or had.
    pub fn new(network: &Network, batch: usize, purpose: Purpose, machine: &Machine) -> Result<Self> {
        let machine = purpose.on(machine);
        let layout = Layout::new::<T>(network, batch, purpose, machine.means())?;
        Self::of(layout, network, batch, purpose, machine)
    }

    fn of(layout: Layout, network: &Network, batch: usize, purpose: Purpose, machine: Machine) -> Result<Self> {
        let output_shape = network.output_shape().with_batch(batch);
        let shapes = std::iter::once(network.input_shape()).chain(network.nodes().iter().map(|node| node.output_shape()));
        let roles: Vec<Role> = network.parameters().map(|(_, spec)| spec.role).collect();
        let gradients = network.parameters().map(|(_, spec)| match (purpose, spec.role) {
            (Purpose::Infer, _) | (_, Role::Buffer) => Ok(Vec::new()),
            _ => memory::zeros(spec.count()),
        });
        let mut arena = Buffer::zeros(layout.arena)?;
        arena.fill(T::ZERO);
        Ok(Self {
            machine,
            purpose,
            batch,
            input_shape: network.input_shape().with_batch(batch),
            output: network.output(),
            output_shape,
            shapes: shapes.map(|shape| shape.with_batch(batch)).collect(),
            roles,
            arena,
            indices: Buffer::zeros(layout.indices)?,
            prepared: Buffer::zeros(layout.prepared)?,
            prepared_version: 0,
            gradients: gradients.collect::<Result<_, NoMemory>>()?,
            logical_output: Buffer::zeros(output_shape.count())?,
            random: 0,
            computed: vec![false; layout.values.len()],
            differentiated: vec![false; layout.values.len()],
            layout,
        })
    }

    /// Number of images in a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Shape of the images, with the batch.
    pub fn input_shape(&self) -> Shape {
        self.input_shape
    }

    /// Shape of the output, with the batch.
    pub fn output_shape(&self) -> Shape {
        self.output_shape
    }

    /// The machine that the plan was made for.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What the plan takes of memory: what its buffers really hold.
    pub fn bytes(&self) -> PlanBytes {
        let size = std::mem::size_of::<T>() as u64;
        PlanBytes {
            arena: (self.arena.len() + self.logical_output.len()) as u64 * size + self.indices.len() as u64 * 4,
            prepared: self.prepared.len() as u64 * size,
            gradients: self.gradients.iter().map(|gradient| gradient.len() as u64).sum::<u64>() * size,
        }
    }

    /// The gradient of each parameter after [`backward`](Self::backward), in the order of the network's parameters; empty
    /// for buffers.
    pub fn gradients(&self) -> &[Vec<T>] {
        &self.gradients
    }

    /// The gradient of each parameter, to be changed (such as clipped).
    pub fn gradients_mut(&mut self) -> &mut [Vec<T>] {
        &mut self.gradients
    }

    /// Folds the statistics of the last training batch into the buffers of batch norms.
    pub fn update_buffers(&self, network: &Network, parameters: &mut Parameters<T>) {
        use crate::layer::LayerRules;
        for placed in &self.layout.steps {
            let buffers = placed.parameters.clone().filter(|&index| self.roles[index] == Role::Buffer);
            let buffers: Vec<usize> = buffers.collect();
            let (Some(node), false) = (network.node(placed.step.node), buffers.is_empty()) else { continue };
            let saved = &self.arena[placed.saved.clone()];
            let mut values: Vec<Vec<T>> = buffers.iter().map(|&index| parameters.values(index).to_vec()).collect();
            node.layer().update_buffers(&placed.input_shapes, saved, &mut values.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            for (index, values) in buffers.into_iter().zip(values) {
                parameters.values_mut(index).copy_from_slice(&values);
            }
        }
    }
}
