//! How fast this machine computes: single layers, whole networks, training steps, and what it could do at best.
//!
//! Every figure is the median of several rounds after one that is not counted. What is measured is prepared once and can be
//! measured again and again, so that another program can be measured in turn with it; and every record carries a sample of
//! the numbers that were computed, from inputs that any program can repeat ([`value`]), so that the two can be compared.

mod convolution;
mod layers;
mod nets;
mod tune;

use std::time::Instant;

use convnet_kernels::isa::Amx;
use convnet_kernels::memory::Buffer;
use convnet_kernels::{Isa, Machine, Precision, Threads, peak};
use serde::Serialize;

use crate::error::Result;
use crate::tuning::Signature;

pub use layers::{LayerBench, LayerTiming, PASSES, PROBLEMS, Problem};
pub use nets::{ModelBench, NetTiming, TrainBench, varied_parameters, write_model};
pub use tune::{Tuned, tune};

/// Seconds that a measurement of the machine takes.
const PEAK_SECONDS: f64 = 0.3;

/// How many numbers of a result a record carries.
pub const SAMPLE: usize = 16;

/// What can be measured again and again.
pub trait Bench {
    /// What one measurement tells.
    type Timing: Serialize;

    /// Works once without counting, then `rounds` times (at least once), and takes the median.
    fn measure(&mut self, rounds: usize) -> Self::Timing;
}

/// What the machine can do at best, for percentages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// 10⁹ floating-point operations per second of fused multiply-adds in registers.
    pub gflops: f64,
    /// The same of products of bfloat16 tiles, where the instruction set has any.
    pub tile_gflops: Option<f64>,
    /// 10⁹ bytes per second read from memory.
    pub gigabytes_per_second: f64,
}

impl Limits {
    /// Measures them, for about half a second.
    pub fn measure(machine: &Machine) -> Self {
        Self {
            gflops: peak::fma_peak(machine, PEAK_SECONDS) / 1e9,
            tile_gflops: peak::tile_peak(machine, PEAK_SECONDS).map(|flops| flops / 1e9),
            gigabytes_per_second: peak::memory_bandwidth(machine, PEAK_SECONDS) / 1e9,
        }
    }

    /// 10⁹ operations per second that products of this precision can have at best: those of the tiles, divided by the products
    /// of parts that each takes, or of fused multiply-adds for `f32` and where there are no tiles.
    pub fn gflops_of(&self, precision: Precision) -> f64 {
        match self.tile_gflops.filter(|_| precision != Precision::F32) {
            Some(gflops) => gflops / precision.products() as f64,
            None => self.gflops,
        }
    }
}

/// What the machine has and can do.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// The processor's name, where the system tells it.
    pub cpu: Option<String>,
    /// The instruction set in use.
    pub isa: &'static str,
    /// Every instruction set that could be used.
    pub available_isas: Vec<&'static str>,
    /// Why there are no tiles of AMX, if there are none.
    pub no_amx: Option<&'static str>,
    /// Threads in use.
    pub threads: usize,
    /// Threads that this process may run at once.
    pub available_threads: usize,
    /// 10⁹ floating-point operations per second of fused multiply-adds in registers.
    pub peak_gflops: f64,
    /// 10⁹ floating-point operations per second of bfloat16 products in tiles, where they are in use.
    pub tile_peak_gflops: Option<f64>,
    /// 10⁹ bytes per second read from memory.
    pub memory_gigabytes_per_second: f64,
    /// Microseconds to start and end work on all threads.
    pub parallel_region_microseconds: f64,
}

/// Measures the machine.
pub fn machine_report(machine: &Machine) -> MachineReport {
    let limits = Limits::measure(machine);
    MachineReport {
        cpu: Signature::of(machine).cpu,
        isa: machine.isa.name(),
        available_isas: Isa::available().into_iter().map(Isa::name).collect(),
        no_amx: Amx::offered().err(),
        threads: machine.threads.count(),
        available_threads: Threads::available(),
        peak_gflops: limits.gflops,
        tile_peak_gflops: limits.tile_gflops,
        memory_gigabytes_per_second: limits.gigabytes_per_second,
        parallel_region_microseconds: 1e6
            * median(7, || {
                for _ in 0..100 {
                    machine.threads.run(machine.threads.count(), |_| {});
                }
            })
            / 100.0,
    }
}

/// The most memory that this process has held at once, where the system tells it.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Number `place` of the inputs of a measurement, from −1/2 up to but not 1/2: a mixed bit pattern, so that sums behave as
/// those of random numbers do. All arithmetic is modulo 2³², and every step is exact:
///
/// ```text
/// h ← place · 0x9E3779B1 + stream · 0x85EBCA77
/// h ← (h xor (h >> 15)) · 0x2C1B3C6D
/// h ← (h xor (h >> 12)) · 0x297A2D39
/// value = ((h xor (h >> 15)) >> 8) / 2²⁴ − 1/2
/// ```
///
/// Places count in logical order, N×C×H×W. Input i of a layer is stream i, its parameter i stream 16 + i, and the gradient
/// of its output stream 32; the images of a network are stream 0, its parameter i stream 64 + i.
pub fn value(stream: u32, place: usize) -> f32 {
    let mut mixed = (place as u32).wrapping_mul(0x9E37_79B1).wrapping_add(stream.wrapping_mul(0x85EB_CA77));
    mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2C1B_3C6D);
    mixed = (mixed ^ (mixed >> 12)).wrapping_mul(0x297A_2D39);
    ((mixed ^ (mixed >> 15)) >> 8) as f32 / 16_777_216.0 - 0.5
}

/// The first `count` numbers of a stream.
///
/// # Errors
/// The memory cannot be had.
fn values(stream: u32, count: usize) -> Result<Buffer<f32>> {
    let mut values = Buffer::zeros(count)?;
    values.iter_mut().enumerate().for_each(|(place, number)| *number = value(stream, place));
    Ok(values)
}

/// The places of a sample in a result of `count` numbers: evenly spaced, the first and the last among them.
fn sample_places(count: usize) -> impl Iterator<Item = usize> {
    (0..SAMPLE as u128).map(move |number| (number * count.saturating_sub(1) as u128 / (SAMPLE as u128 - 1)) as usize)
}

/// A sample of numbers in logical order.
fn sample(numbers: &[f32]) -> Vec<f32> {
    sample_places(numbers.len()).filter_map(|place| numbers.get(place).copied()).collect()
}

/// Median seconds of `work` over at least one round, after one that is not counted.
fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut seconds: Vec<f64> = (0..rounds.max(1))
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_formula() {
        // By Python's integers: the 24 bits that each place gives.
        let expected = [(0, 0, 0), (0, 1, 2_121_476), (16, 0, 5_497_805), (32, 123_456_789, 9_528_930)];
        for (stream, place, bits) in expected {
            assert_eq!(f64::from(value(stream, place)), f64::from(bits) / 16_777_216.0 - 0.5, "{stream} {place}");
        }
        let values: Vec<f32> = (0..100_000).map(|place| value(3, place)).collect();
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / 1e5;
        let square = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.004 && (square - 1.0 / 12.0).abs() < 0.002, "{mean} {square}");
    }

    #[test]
    fn a_sample_has_both_ends_and_even_steps() {
        assert_eq!(sample_places(31).collect::<Vec<_>>(), (0..16).map(|place| 2 * place).collect::<Vec<_>>());
        assert_eq!(sample(&[1.5]), [1.5; SAMPLE]);
        assert!(sample(&[]).is_empty());
    }
}
