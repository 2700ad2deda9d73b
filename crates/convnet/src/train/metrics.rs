//! What is recorded of a training: one line of JSON for each logged step and each epoch, in `metrics.jsonl`.

use serde::{Deserialize, Serialize};

/// Loss and accuracy over some images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean loss.
    pub loss: f64,
    /// Share of images whose best score is their class, 0 to 1.
    pub accuracy: f64,
}

/// One logged step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Step since the beginning of the training, from 1.
    pub step: usize,
    /// Mean loss of the batch, before the update.
    pub loss: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
}

/// One finished epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Steps since the beginning of the training.
    pub step: usize,
    /// Over the batches of the epoch, each as it was before its update (augmented, in training mode).
    pub train: Score,
    /// Over the test images, after the epoch; `None` where the epoch was not evaluated.
    pub test: Option<Score>,
    /// Learning rate of the last update.
    pub learning_rate: f64,
    /// Seconds since the beginning of the training, evaluations included, pauses between a stop and a resume not.
    pub seconds: f64,
    /// Training images per second in this epoch, evaluation not included.
    pub images_per_second: f64,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A logged step.
    Step(StepRecord),
    /// A finished epoch.
    Epoch(EpochRecord),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_json_that_reads_back() {
        let record = Record::Step(StepRecord { epoch: 1, step: 10, loss: 2.25, learning_rate: 0.1 });
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(line, r#"{"kind":"step","epoch":1,"step":10,"loss":2.25,"learning_rate":0.1}"#);
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }
}
