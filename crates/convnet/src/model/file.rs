//! The model file: parameters as tensors, the rest as metadata of a safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use convnet_formats::safetensors::{self, TensorData, TensorFile};
use convnet_kernels::memory::zeros;

use super::Model;
use crate::data::Normalisation;
use crate::error::{Error, Result};
use crate::file::{open, write_whole};
use crate::network::{Network, Parameters};
use crate::tensor::Tensor;

/// The value of the key `format`.
const FORMAT: &str = "convnet model 1";

/// The largest model file that is read.
const LIMIT: u64 = 16 << 30;

const KEYS: [&str; 4] = ["classes", "format", "network", "normalisation"];

pub(super) fn save(model: &Model, path: &Path) -> Result<()> {
    let json = |value: serde_json::Result<String>| value.map_err(|error| Error::format(path, error));
    let metadata = BTreeMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("network".to_owned(), model.network.to_string()),
        ("classes".to_owned(), json(serde_json::to_string(&model.classes))?),
        ("normalisation".to_owned(), json(serde_json::to_string(&model.normalisation))?),
    ]);
    let file = TensorFile { metadata, tensors: tensors_of(&model.parameters, "") };
    write_whole(path, &safetensors::write(&file).map_err(|error| Error::format(path, error))?)
}

pub(super) fn load(path: &Path) -> Result<Model> {
    let wrong = |reason: String| Error::format(path, reason);
    let mut file = read_tensors(path, LIMIT)?;
    if file.metadata.get("format").map(String::as_str) != Some(FORMAT) {
        return Err(wrong(format!("this safetensors file is not a model of convnet: its metadata lacks format = \"{FORMAT}\"")));
    }
    if let Some(key) = file.metadata.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(wrong(format!("the metadata key '{key}' is not understood; this version knows {}", KEYS.join(", "))));
    }
    let text = |key: &str| file.metadata.get(key).map(String::as_str).ok_or_else(|| wrong(format!("the metadata lacks '{key}'")));
    let network = Network::parse(text("network")?).map_err(|error| wrong(format!("the network text in the metadata: {error}")))?;
    let classes: Vec<String> =
        serde_json::from_str(text("classes")?).map_err(|error| wrong(format!("the class names in the metadata: {error}")))?;
    let normalisation: Normalisation =
        serde_json::from_str(text("normalisation")?).map_err(|error| wrong(format!("the normalisation in the metadata: {error}")))?;
    let parameters = parameters_from(&network, &mut file, "").map_err(wrong)?;
    Model::new(network, parameters, classes, normalisation).map_err(|error| wrong(error.to_string()))
}

/// Reads a safetensors file of at most `limit` bytes, straight into its tensors.
pub(crate) fn read_tensors(path: &Path, limit: u64) -> Result<TensorFile> {
    let (file, length) = open(path, limit)?;
    let read = safetensors::read_from(file, length, room).map_err(Error::io(path, "cannot read"))?;
    read.map_err(|error| Error::format(path, error))
}

/// Memory for so many numbers, in large pages where there are such.
fn room(count: usize) -> Vec<f32> {
    let mut room = zeros(count).unwrap_or_default();
    room.clear();
    room
}

/// The parameters as tensors, each name with this prefix.
pub(crate) fn tensors_of(parameters: &Parameters, prefix: &str) -> BTreeMap<String, TensorData> {
    let list = parameters.list().iter();
    list.map(|parameter| (format!("{prefix}{}", parameter.name), TensorData::f32(parameter.tensor.sizes(), parameter.tensor.values())))
        .collect()
}

/// The network's parameters from the tensors whose names begin with this prefix: all of them, and no others. They are taken
/// out of the file.
pub(crate) fn parameters_from(network: &Network, file: &mut TensorFile, prefix: &str) -> Result<Parameters, String> {
    let sum = |counts: &mut dyn Iterator<Item = usize>| counts.fold(0usize, usize::saturating_add);
    let needed = sum(&mut network.parameters().map(|(_, spec)| spec.count()));
    let held = sum(&mut file.tensors.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, tensor)| tensor.values.len()));
    // Compared before anything is allocated: the text may ask for far more than the file holds.
    if needed != held {
        return Err(format!("the network has {needed} parameters, but the file holds {held}"));
    }
    let parameters = Parameters::from_tensors(network, |name| {
        let tensor = file.tensors.remove(&format!("{prefix}{name}"));
        let tensor = tensor.ok_or_else(|| Error::Argument(format!("the file lacks the tensor '{prefix}{name}'")))?;
        Tensor::new(tensor.dims, tensor.values.into_f32())
    });
    parameters.map_err(|error| error.to_string())
}
