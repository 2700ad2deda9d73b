//! The report of a run.
use std::path::Path;
use convnet_kernels::Machine;
use super::Run;
use crate::data::Dataset;
use crate::error::Result;
pub(super) fn write(_run: &Run, _data: &Dataset, _machine: &Machine, _path: &Path) -> Result<()> { Ok(()) }
