//! One pass of a convolution by one algorithm, with everything that it reads and writes.

use convnet_kernels::Machine;
use convnet_kernels::conv::{Algorithm, ConvShape, Epilogue, Pass};
use convnet_kernels::memory::Buffer;

use super::layers::{stored, stored_sample};
use super::{sample, values};
use crate::error::Result;
use crate::shape::Shape;

/// One pass of a convolution with its buffers, channels last.
#[derive(Debug)]
pub(super) struct ConvWork {
    machine: Machine,
    shape: ConvShape,
    pass: Pass,
    algorithm: &'static Algorithm<f32>,
    /// The images, or empty where the pass does not read them.
    x: Buffer<f32>,
    weights: Buffer<f32>,
    dy: Buffer<f32>,
    packed: Buffer<f32>,
    scratch: Buffer<f32>,
    result: Buffer<f32>,
}

impl ConvWork {
    /// Sets everything aside for this algorithm, which accepts the shape, and packs the weights.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(shape: &ConvShape, pass: Pass, algorithm: &'static Algorithm<f32>, machine: &Machine) -> Result<Self> {
        let input = Shape::new(shape.n(), shape.c(), shape.h(), shape.w());
        let output = Shape::new(shape.n(), shape.k(), shape.oh(), shape.ow());
        let (x, dy) = match pass {
            Pass::Forward => (stored(0, input)?, Buffer::zeros(0)?),
            Pass::BackwardInput => (Buffer::zeros(0)?, stored(32, output)?),
            Pass::BackwardWeight => (stored(0, input)?, stored(32, output)?),
        };
        let result = match pass {
            Pass::Forward => shape.output_len(),
            Pass::BackwardInput => shape.input_len(),
            Pass::BackwardWeight => shape.weight_len(),
        };
        let mut work = Self {
            machine: machine.clone(),
            shape: *shape,
            pass,
            algorithm,
            x,
            weights: values(16, shape.weight_len())?,
            dy,
            packed: Buffer::zeros((algorithm.packed_len)(shape, machine.isa, pass))?,
            scratch: Buffer::zeros((algorithm.scratch_len)(shape, machine.isa, pass))?,
            result: Buffer::zeros(result)?,
        };
        work.pack();
        Ok(work)
    }

    /// The same problem and operands for another algorithm, which accepts the shape.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn with(mut self, algorithm: &'static Algorithm<f32>) -> Result<Self> {
        let (shape, pass, isa) = (&self.shape, self.pass, self.machine.isa);
        // The old buffers go before the new ones come.
        (self.packed, self.scratch) = (Buffer::zeros(0)?, Buffer::zeros(0)?);
        self.packed = Buffer::zeros((algorithm.packed_len)(shape, isa, pass))?;
        self.scratch = Buffer::zeros((algorithm.scratch_len)(shape, isa, pass))?;
        self.algorithm = algorithm;
        self.pack();
        Ok(self)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> &'static Algorithm<f32> {
        self.algorithm
    }

    /// Whether the algorithm packs the weights of this pass.
    pub fn packs(&self) -> bool {
        !self.packed.is_empty()
    }

    /// Packs the weights.
    pub fn pack(&mut self) {
        (self.algorithm.pack)(&self.machine, &self.shape, self.pass, &self.weights, &mut self.packed);
    }

    /// Computes the pass.
    pub fn run(&mut self) {
        let Self { machine, shape, algorithm, x, dy, packed, scratch, result, .. } = self;
        match self.pass {
            Pass::Forward => (algorithm.forward)(machine, shape, x, packed, &Epilogue::NONE, result, scratch),
            Pass::BackwardInput => (algorithm.backward_input)(machine, shape, dy, packed, result, scratch),
            Pass::BackwardWeight => (algorithm.backward_weight)(machine, shape, x, dy, result, scratch),
        }
    }

    /// The sample of the first run: gradients of weights are added to, so that later runs change them.
    pub fn first_sample(&mut self) -> Vec<f32> {
        self.run();
        match self.pass {
            Pass::Forward => stored_sample(Shape::new(self.shape.n(), self.shape.k(), self.shape.oh(), self.shape.ow()), &self.result),
            Pass::BackwardInput => stored_sample(Shape::new(self.shape.n(), self.shape.c(), self.shape.h(), self.shape.w()), &self.result),
            Pass::BackwardWeight => sample(&self.result),
        }
    }
}
