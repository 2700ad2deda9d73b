//! `--tune`: algorithms by measured times.

use convnet::bench::tune;
use convnet::network::Network;
use convnet::plan::Purpose;
use convnet::tuning::Cache;
use convnet::{Machine, Result};

use crate::output::{Output, duration};

/// The machine with the times of every convolution of these plans (batch and purpose): from the cache, or measured now and
/// kept there. A cache that cannot be used or written is told and stops nothing.
pub fn tuned(machine: Machine, network: &Network, plans: &[(usize, Purpose)], output: &Output) -> Result<Machine> {
    let mut cache = match Cache::folder() {
        Ok(folder) => Some(Cache::open(&folder, &machine)),
        Err(error) => {
            output.note(format!("warning: {error}"));
            None
        }
    };
    if let Some(reason) = cache.as_ref().and_then(Cache::ignored) {
        output.note(format!("warning: {reason}"));
    }
    let known = cache.as_ref().map_or_else(Default::default, |cache| cache.tuning().clone());
    let tuned = tune(network, plans, &machine, &known)?;
    let mut line = format!(
        "tuning: {} of {} convolution passes with a choice of algorithms measured in {}",
        tuned.measured,
        tuned.questions,
        duration(tuned.seconds)
    );
    if let (Some(cache), Some(tuning), true) = (&mut cache, &tuned.machine.tuning, tuned.measured > 0) {
        match cache.add(tuning) {
            Ok(()) => line += &format!(", kept in {}", cache.path().display()),
            Err(error) => output.note(format!("warning: {error}")),
        }
    }
    output.note(line);
    Ok(tuned.machine)
}
