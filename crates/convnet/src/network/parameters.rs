//! The numbers of a network: one tensor for each parameter, in the order of the layers.

use std::sync::atomic::{AtomicU64, Ordering};

use convnet_kernels::Real;

use super::Network;
use crate::error::{Error, Result};
use crate::layer::Role;
use crate::shape::sizes_text;
use crate::tensor::Tensor;

/// Counts changes of any parameters in this process, so that no two states have the same number.
static VERSIONS: AtomicU64 = AtomicU64::new(1);

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter<T = f32> {
    /// Layer and parameter, `conv1.weight`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its values in logical order.
    pub tensor: Tensor<T>,
}

/// The parameters of one network.
///
/// Plans keep packed copies of weights; each change here gives the whole a new [`version`](Self::version), by which a
/// plan sees that its copies are out of date.
#[derive(Clone, Debug)]
pub struct Parameters<T = f32> {
    list: Vec<Parameter<T>>,
    version: u64,
}

impl<T: Real> Parameters<T> {
    /// All zero but for those whose initial value is a constant.
    ///
    /// # Errors
    /// They are more than memory can address.
    pub fn constant(network: &Network) -> Result<Self> {
        Self::build(network, |_, spec| match spec.initial {
            crate::layer::Initial::Constant(value) => vec![T::from_f32(value); spec.count()],
            _ => vec![T::ZERO; spec.count()],
        })
    }

    /// The values that `values(index, spec)` gives for each parameter.
    ///
    /// # Errors
    /// A parameter gets another number of values than its sizes say.
    pub fn build(network: &Network, mut values: impl FnMut(usize, &crate::layer::ParameterSpec) -> Vec<T>) -> Result<Self> {
        let list = network.parameters().enumerate().map(|(index, (name, spec))| {
            Ok(Parameter { name, role: spec.role, tensor: Tensor::new(spec.sizes.clone(), values(index, spec))? })
        });
        Ok(Self { list: list.collect::<Result<_>>()?, version: next_version() })
    }

    /// The tensors that `tensor(name)` gives.
    ///
    /// # Errors
    /// Those of `tensor`, or a tensor has other sizes than its parameter.
    pub fn from_tensors(network: &Network, mut tensor: impl FnMut(&str) -> Result<Tensor<T>>) -> Result<Self> {
        let list = network.parameters().map(|(name, spec)| {
            let tensor = tensor(&name)?;
            check_sizes(&name, &spec.sizes, tensor.sizes())?;
            Ok(Parameter { name, role: spec.role, tensor })
        });
        Ok(Self { list: list.collect::<Result<_>>()?, version: next_version() })
    }

    /// Every parameter in the order of the layers.
    pub fn list(&self) -> &[Parameter<T>] {
        &self.list
    }

    /// The values of parameter `index`.
    pub fn values(&self, index: usize) -> &[T] {
        self.list[index].tensor.values()
    }

    /// The values of parameter `index`, to be changed.
    pub fn values_mut(&mut self, index: usize) -> &mut [T] {
        self.version = next_version();
        self.list[index].tensor.values_mut()
    }

    /// Every parameter's values, to be changed.
    pub fn all_values_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.version = next_version();
        self.list.iter_mut().map(|parameter| parameter.tensor.values_mut())
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Parameter<T>> {
        self.list.iter().find(|parameter| parameter.name == name)
    }

    /// Replaces the values of the parameter of that name.
    ///
    /// # Errors
    /// There is no such parameter, or its sizes are others.
    pub fn set(&mut self, name: &str, tensor: Tensor<T>) -> Result<()> {
        let Some(parameter) = self.list.iter_mut().find(|parameter| parameter.name == name) else {
            return Err(Error::Argument(format!("the network has no parameter '{name}'")));
        };
        check_sizes(name, parameter.tensor.sizes(), tensor.sizes())?;
        parameter.tensor = tensor;
        self.version = next_version();
        Ok(())
    }

    /// A number that no other state of any parameters has.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Number of values in all, buffers included.
    pub fn count(&self) -> usize {
        self.list.iter().map(|parameter| parameter.tensor.len()).sum()
    }

    /// The same numbers in the other precision.
    pub fn cast<U: Real>(&self) -> Parameters<U> {
        let list = self.list.iter().map(|p| Parameter { name: p.name.clone(), role: p.role, tensor: p.tensor.cast() });
        Parameters { list: list.collect(), version: next_version() }
    }
}

fn check_sizes(name: &str, sizes: &[usize], found: &[usize]) -> Result<()> {
    if sizes != found {
        return Err(Error::Shape(format!("parameter '{name}' is {}, but {} were given", sizes_text(sizes), sizes_text(found))));
    }
    Ok(())
}

fn next_version() -> u64 {
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}
