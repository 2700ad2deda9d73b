//! A training in one file: parameters, the optimiser's memory, and where the training stands.
//!
//! The file is a safetensors file. `parameter/NAME` and `slotN/NAME` are tensors; the metadata key `state` holds the rest
//! as JSON. Sums are kept as the bits of their `f64`, so that a resumed training continues with exactly the same numbers.

use std::collections::BTreeMap;
use std::path::Path;

use convnet_formats::safetensors::{self, TensorData, TensorFile};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::state::{EpochSums, State};
use crate::error::{Error, Result};
use crate::file::write_whole;
use crate::layer::Role;
use crate::model::{parameters_from, read_tensors, tensors_of};
use crate::network::Network;

const FORMAT: &str = "convnet checkpoint 1";

/// The largest checkpoint that is read.
const LIMIT: u64 = 48 << 30;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    step: u64,
    epoch_loss_bits: u64,
    epoch_correct: u64,
    epoch_images: u64,
    epoch_seconds_bits: u64,
    seconds_bits: u64,
    best_bits: Option<u64>,
    /// Of the data that the training runs on.
    fingerprint: String,
}

/// Writes a checkpoint, whole or not at all.
pub(super) fn save(path: &Path, state: &State, fingerprint: &str) -> Result<()> {
    let saved = Saved {
        step: state.step,
        epoch_loss_bits: state.epoch.loss.to_bits(),
        epoch_correct: state.epoch.correct,
        epoch_images: state.epoch.images,
        epoch_seconds_bits: state.epoch.seconds.to_bits(),
        seconds_bits: state.seconds.to_bits(),
        best_bits: state.best.map(f64::to_bits),
        fingerprint: fingerprint.to_owned(),
    };
    let json = serde_json::to_string(&saved).map_err(|error| Error::format(path, error))?;
    let mut tensors = tensors_of(&state.parameters, "parameter/");
    for (parameter, slots) in state.parameters.list().iter().zip(&state.slots) {
        for (slot, values) in slots.iter().enumerate() {
            tensors.insert(format!("slot{slot}/{}", parameter.name), TensorData::f32(parameter.tensor.sizes(), values.as_slice()));
        }
    }
    let metadata = BTreeMap::from([("format".to_owned(), FORMAT.to_owned()), ("state".to_owned(), json)]);
    write_whole(path, &safetensors::write(&TensorFile { metadata, tensors }).map_err(|error| Error::format(path, error))?)
}

/// Reads a checkpoint of this network and these settings; the data must have the same fingerprint.
pub(super) fn load(path: &Path, network: &Network, settings: &Settings, fingerprint: &str) -> Result<State> {
    let wrong = |reason: String| Error::format(path, reason);
    let mut file = read_tensors(path, LIMIT)?;
    if file.metadata.get("format").map(String::as_str) != Some(FORMAT) {
        return Err(wrong(format!("this is not a checkpoint of this version: its metadata lacks format = \"{FORMAT}\"")));
    }
    let saved = file.metadata.get("state").ok_or_else(|| wrong("the metadata lacks 'state'".into()))?;
    let saved: Saved = serde_json::from_str(saved).map_err(|error| wrong(format!("the state in the metadata: {error}")))?;
    if saved.fingerprint != fingerprint {
        return Err(wrong(format!(
            "the training ran on other images (fingerprint {}, here {fingerprint}); resume with the same --data",
            saved.fingerprint
        )));
    }
    let parameters = parameters_from(network, &mut file, "parameter/").map_err(wrong)?;
    let slots = parameters.list().iter().map(|parameter| {
        let count = if parameter.role == Role::Buffer { 0 } else { settings.optimizer.slots() };
        let read = |slot: usize| {
            let name = format!("slot{slot}/{}", parameter.name);
            let tensor = file.tensors.remove(&name).ok_or_else(|| wrong(format!("the file lacks the tensor '{name}'")))?;
            if tensor.dims != parameter.tensor.sizes() {
                return Err(wrong(format!("the tensor '{name}' is {:?}, its parameter {:?}", tensor.dims, parameter.tensor.sizes())));
            }
            Ok(tensor.values.into_f32())
        };
        (0..count).map(read).collect::<Result<Vec<_>>>()
    });
    let slots = slots.collect::<Result<Vec<_>>>()?;
    let epoch = EpochSums {
        loss: f64::from_bits(saved.epoch_loss_bits),
        correct: saved.epoch_correct,
        images: saved.epoch_images,
        seconds: f64::from_bits(saved.epoch_seconds_bits),
    };
    let (seconds, best) = (f64::from_bits(saved.seconds_bits), saved.best_bits.map(f64::from_bits));
    Ok(State { step: saved.step, parameters, slots, epoch, seconds, best })
}
