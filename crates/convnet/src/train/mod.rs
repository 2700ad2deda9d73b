//! Training: the loop, and everything that keeps it safe to stop and to repeat.
//!
//! ```no_run
//! use convnet::{data::Dataset, network::Network, train::Trainer};
//!
//! let data = Dataset::embedded();
//! let network = Network::parse("input 1x28x28 -> conv 16 3x3 pad 1 -> relu -> maxpool 2 -> flatten -> fc 10")?;
//! let run = Trainer::new(&network).epochs(3).seed(7).fit(&data)?;
//! println!("{:.1} % of the test images", 100.0 * run.evaluation.accuracy);
//! # Ok::<(), convnet::Error>(())
//! ```
//!
//! Every random number is a function of the seed, its purpose and its place (epoch, sample, step), work is cut by the
//! problem's size, and a checkpoint holds all that changes. So the same settings give the same bits with any number of
//! threads, and a training that was stopped and resumed gives the bits of one that was not.

mod checkpoint;
mod fingerprint;
mod metrics;
mod page;
pub mod report;
mod run;
mod run_folder;
mod settings;
mod state;
mod trainer;

pub use fingerprint::fingerprint;
pub use metrics::{EpochRecord, Record, Score, StepRecord};
pub use run::Run;
pub use run_folder::{DataRecord, RunRecord, read_metrics, read_network, read_run, snapshots};
pub use settings::Settings;
pub use trainer::{Event, Trainer};
