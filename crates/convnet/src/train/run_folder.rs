//! The run folder: everything of a training in one place.
//!
//! | file | holds |
//! |---|---|
//! | `network.txt` | the network, canonical text |
//! | `run.toml` | every setting, and which data |
//! | `tuning.json` | the times by which a training that was tuned chooses its algorithms |
//! | `metrics.jsonl` | a line for each logged step and each epoch |
//! | `checkpoint/last.safetensors`, `checkpoint/best.safetensors` | the training itself, to go on from |
//! | `look/epoch-NNN.safetensors` | the model after that epoch, where the settings ask for such snapshots; 000 is before the first step |
//! | `model.safetensors` | the trained model |
//! | `report.html` | one page to look at |

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convnet_kernels::conv::tuning::Tuning;
use convnet_kernels::{Machine, Precision};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::metrics::Record;
use crate::error::{Error, Result};
use crate::file::{read_whole, write_whole};
use crate::model::MODEL_FILE;
use crate::network::Network;
use crate::tuning::{self, Signature};

/// The file of a run folder with the measured times by which its training chooses algorithms.
const TUNING_FILE: &str = "tuning.json";

/// The folder of the snapshots, and what their names begin and end with.
const SNAPSHOTS: &str = "look";
const SNAPSHOT: &str = "epoch-";
const SNAPSHOT_END: &str = ".safetensors";

/// The largest text file of a run folder that is read.
const LIMIT: u64 = 256 << 20;

/// Which images a training runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecord {
    /// `embedded`, or the folder.
    pub source: String,
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// A number over every label and pixel.
    pub fingerprint: String,
}

/// What `run.toml` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Version of the program that began the run.
    pub convnet: String,
    /// Whether algorithms were chosen by measured times; these are in `tuning.json`, so that a training that goes on makes
    /// the same choices.
    #[serde(default)]
    pub tuned: bool,
    /// The precision of the products, with which a training also goes on; `f32` where nothing is said.
    #[serde(default, with = "precision_name", skip_serializing_if = "precision_name::is_usual")]
    pub precision: Precision,
    /// Which images.
    pub data: DataRecord,
    /// Which settings.
    pub settings: Settings,
}

/// A precision by its name.
mod precision_name {
    use convnet_kernels::Precision;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn is_usual(precision: &Precision) -> bool {
        *precision == Precision::F32
    }

    pub fn serialize<S: Serializer>(precision: &Precision, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(precision.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Precision, D::Error> {
        Precision::from_name(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A run folder in use by one training at a time.
#[derive(Debug)]
pub(super) struct RunFolder {
    path: PathBuf,
    /// Holds the lock as long as the training lasts.
    _lock: File,
    metrics: File,
}

impl RunFolder {
    /// Makes a new run folder, which must not exist yet or be empty.
    pub fn create(path: &Path, network: &Network, record: &RunRecord, machine: &Machine) -> Result<Self> {
        let existing = fs::read_dir(path).map(|mut entries| entries.next().is_some());
        match existing {
            Ok(true) => {
                return Err(Error::Argument(format!(
                    "{} exists and is not empty; choose another folder with --out, or go on with --resume {}",
                    path.display(),
                    path.display()
                )));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(path, "cannot look into the run folder")(error)),
            _ => {}
        }
        fs::create_dir_all(path.join("checkpoint")).map_err(Error::io(path, "cannot make the run folder"))?;
        let text = toml::to_string_pretty(record).map_err(|error| Error::format(path.join("run.toml"), error))?;
        write_whole(&path.join("run.toml"), text.as_bytes())?;
        write_whole(&path.join("network.txt"), format!("{network}\n").as_bytes())?;
        if let Some(tuning) = &machine.tuning {
            tuning::write(&path.join(TUNING_FILE), &Signature::of(machine), tuning)?;
        }
        write_whole(&path.join("metrics.jsonl"), b"")?;
        Self::open(path)
    }

    /// Opens a run folder to write on, and locks it.
    pub fn open(path: &Path) -> Result<Self> {
        let lock_path = path.join("run.toml");
        let lock = File::open(&lock_path).map_err(Error::io(&lock_path, "cannot open"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::Argument(format!(
                    "another training is writing to {}; stop it first or choose another folder",
                    path.display()
                )));
            }
            Err(fs::TryLockError::Error(error)) => return Err(Error::io(&lock_path, "cannot lock")(error)),
        }
        let metrics_path = path.join("metrics.jsonl");
        let metrics = File::options().append(true).open(&metrics_path).map_err(Error::io(&metrics_path, "cannot open"))?;
        Ok(Self { path: path.to_owned(), _lock: lock, metrics })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line to `metrics.jsonl`.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        let path = self.path.join("metrics.jsonl");
        let mut line = serde_json::to_string(record).map_err(|error| Error::format(&path, error))?;
        line.push('\n');
        self.metrics.write_all(line.as_bytes()).map_err(Error::io(&path, "cannot write"))
    }

    /// Leaves only the records up to a step, those behind a checkpoint being lost with the steps themselves.
    pub fn rewind(&mut self, step: u64) -> Result<Vec<Record>> {
        let path = self.path.join("metrics.jsonl");
        let mut records = read_metrics(&path)?;
        records.retain(|record| match record {
            Record::Step(record) => record.step as u64 <= step,
            Record::Epoch(record) => record.step as u64 <= step,
        });
        let mut text = String::new();
        for record in &records {
            text += &serde_json::to_string(record).map_err(|error| Error::format(&path, error))?;
            text.push('\n');
        }
        write_whole(&path, text.as_bytes())?;
        self.metrics = File::options().append(true).open(&path).map_err(Error::io(&path, "cannot open"))?;
        Ok(records)
    }

    pub fn last(&self) -> PathBuf {
        self.path.join("checkpoint").join("last.safetensors")
    }

    pub fn best(&self) -> PathBuf {
        self.path.join("checkpoint").join("best.safetensors")
    }

    /// Where the snapshot after so many epochs goes, in a folder that then exists.
    pub fn snapshot(&self, epoch: usize) -> Result<PathBuf> {
        let folder = self.path.join(SNAPSHOTS);
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "cannot make the folder of snapshots"))?;
        Ok(folder.join(format!("{SNAPSHOT}{epoch:03}{SNAPSHOT_END}")))
    }

    pub fn model(&self) -> PathBuf {
        self.path.join(MODEL_FILE)
    }

    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }
}

/// Reads the records of a run; an unfinished last line, as a power cut leaves it, is passed over.
///
/// # Errors
/// The file cannot be read, or a line is not a record.
pub fn read_metrics(path: &Path) -> Result<Vec<Record>> {
    let bytes = read_whole(path, LIMIT)?;
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = std::str::from_utf8(&bytes[..complete]).map_err(|error| Error::format(path, error))?;
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| Error::format(path, format!("line {}: {error}", number + 1)))
    };
    text.lines().enumerate().map(read).collect()
}

/// The snapshots of a run folder: finished epochs and model files, in order of the epochs. None if the run keeps none.
///
/// # Errors
/// The folder of the snapshots cannot be read.
pub fn snapshots(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let folder = folder.join(SNAPSHOTS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(&folder, "cannot look into the folder of snapshots")(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(&folder, "cannot look into the folder of snapshots"))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(SNAPSHOT)?.strip_suffix(SNAPSHOT_END)?.parse().ok());
        found.extend(number.map(|epoch| (epoch, path)));
    }
    found.sort();
    Ok(found)
}

/// Reads `run.toml` of a run folder.
///
/// # Errors
/// The folder is no run folder, or the file has a key that is not understood.
pub fn read_run(folder: &Path) -> Result<RunRecord> {
    let path = folder.join("run.toml");
    let bytes = read_whole(&path, LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|error| Error::format(&path, error))?;
    toml::from_str(&text).map_err(|error| Error::format(&path, error))
}

/// Reads `tuning.json` of a run folder whose training was tuned; `None` where it was not.
///
/// # Errors
/// The file is missing or damaged: the training could not go on with the same algorithms.
pub(super) fn read_tuning(folder: &Path, record: &RunRecord) -> Result<Option<Arc<Tuning>>> {
    if !record.tuned {
        return Ok(None);
    }
    tuning::read(&folder.join(TUNING_FILE)).map(|kept| Some(Arc::new(kept.tuning)))
}

/// Reads `network.txt` of a run folder.
///
/// # Errors
/// The folder is no run folder, or the text has a mistake.
pub fn read_network(folder: &Path) -> Result<Network> {
    let path = folder.join("network.txt");
    let bytes = read_whole(&path, LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|error| Error::format(&path, error))?;
    Network::parse(&text).map_err(|error| Error::format(&path, error))
}
