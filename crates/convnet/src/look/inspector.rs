//! Every activation of a model for one image.

use convnet_kernels::Machine;

use super::attribution::Target;
use crate::error::{Error, Result};
use crate::layer::relu::RectifierRule;
use crate::model::{Model, check_image};
use crate::network::NodeId;
use crate::plan::{Plan, Purpose, Seed};
use crate::tensor::Tensor;

/// A model that has seen one image, with every activation kept.
///
/// ```no_run
/// use convnet::{look::Inspector, model::Model};
///
/// let model = Model::load("runs/1")?;
/// let image = convnet::data::read_image("shirt.png", model.image_size())?;
/// let maps = Inspector::new(&model, &image)?.activation("conv1")?; // [K, H, W]
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Debug)]
pub struct Inspector<'a> {
    model: &'a Model,
    plan: Plan,
}

impl<'a> Inspector<'a> {
    /// Shows the model an image: bytes 0 to 255, C×H×W, of the size that the network takes.
    ///
    /// # Errors
    /// The image has another size.
    pub fn new(model: &'a Model, image: &[u8]) -> Result<Self> {
        Self::on(model, image, &Machine::detect().map_err(Error::Argument)?)
    }

    /// As [`new`](Self::new), on this machine.
    ///
    /// # Errors
    /// The image has another size.
    pub fn on(model: &'a Model, image: &[u8], machine: &Machine) -> Result<Self> {
        check_image(model.network().input_shape(), image)?;
        let mut plan = Plan::new(model.network(), 1, Purpose::Inspect, machine)?;
        let mut values = vec![0.0; image.len()];
        model.normalisation().apply(image, &mut values);
        plan.forward(model.parameters(), &values, 0);
        Ok(Self { model, plan })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.model
    }

    /// The output of a layer by its name, C×H×W.
    ///
    /// # Errors
    /// There is no such layer; the message lists those there are.
    pub fn activation(&self, layer: &str) -> Result<Tensor> {
        self.value(self.model.network().find(layer)?)
    }

    /// Any value of the network, C×H×W: the normalised image is [`NodeId::IMAGE`].
    ///
    /// # Errors
    /// The network has no such value.
    pub fn value(&self, id: NodeId) -> Result<Tensor> {
        let value = self.plan.activation(id).ok_or_else(|| Error::Argument(format!("the network has no value {id}")))?;
        let shape = value.shape()?;
        Tensor::new(shape.chw().to_vec(), value.into_values())
    }

    /// Walks back from a target, the score of a class or any neuron, so that [`gradient`](Self::gradient) gives its gradient
    /// with respect to any value that it depends on. Gives the target's number.
    ///
    /// # Errors
    /// There is no such class, layer or place.
    pub fn differentiate(&mut self, target: &Target) -> Result<f32> {
        let network = self.model.network();
        let spot = target.spot(network)?;
        let mut seed = vec![0.0; network.shape(spot.value).image()];
        seed[spot.index] = 1.0;
        let number = self.value(spot.value)?.values()[spot.index];
        self.plan.backward_from(self.model.parameters(), &[Seed { at: spot.value, gradient: &seed }], RectifierRule::Gradient);
        Ok(number)
    }

    /// The gradient of what was [differentiated](Self::differentiate) last with respect to a value, C×H×W; `None` where it
    /// does not depend on it, and before anything was differentiated.
    pub fn gradient(&self, id: NodeId) -> Option<Tensor> {
        let gradient = self.plan.gradient(id)?;
        let shape = gradient.shape().ok()?;
        Tensor::new(shape.chw().to_vec(), gradient.into_values()).ok()
    }
}
