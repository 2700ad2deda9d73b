//! What a training leaves in memory.

use std::path::PathBuf;

use super::metrics::{EpochRecord, Record, StepRecord};
use super::run_folder::RunRecord;
use crate::model::{Evaluation, Model};

/// A finished, or stopped, training.
#[derive(Debug)]
pub struct Run {
    /// The trained model.
    pub model: Model,
    /// Every record, in order.
    pub records: Vec<Record>,
    /// How the model does on the test images.
    pub evaluation: Evaluation,
    /// Every setting.
    pub record: RunRecord,
    /// The run folder, if there is one.
    pub folder: Option<PathBuf>,
    /// Whether all epochs are done.
    pub finished: bool,
    /// Finished steps.
    pub steps: usize,
    /// Seconds of training.
    pub seconds: f64,
}

impl Run {
    /// The records of the epochs.
    pub fn epochs(&self) -> Vec<EpochRecord> {
        let epoch = |record: &Record| if let Record::Epoch(epoch) = record { Some(*epoch) } else { None };
        self.records.iter().filter_map(epoch).collect()
    }

    /// The records of the logged steps.
    pub fn logged_steps(&self) -> Vec<StepRecord> {
        let step = |record: &Record| if let Record::Step(step) = record { Some(*step) } else { None };
        self.records.iter().filter_map(step).collect()
    }
}
