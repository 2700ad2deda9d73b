//! How fast this machine computes: single convolutions, whole networks, training steps, and what it could do at best.
//!
//! Every figure is the median of several rounds after one that is not counted.

use std::time::Instant;

use convnet_kernels::conv::{ConvShape, Epilogue, Pass, choose};
use convnet_kernels::{Isa, Machine, peak};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::initialise::{Initialisation, initial_parameters};
use crate::loss::Loss;
use crate::network::Network;
use crate::optim::{Optimizer, Update};
use crate::plan::{Plan, Purpose};

/// Seconds that a measurement of the machine takes.
const PEAK_SECONDS: f64 = 0.3;

/// Plain gradient descent, in steps that change next to nothing.
const DESCENT: Optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, dampening: 0.0 };
const UPDATE: Update = Update { learning_rate: 1e-6, weight_decay: 0.0, step: 1 };

/// Convolutions that stand for many: the layers of VGG-16, ResNet-50 and MobileNetV2, and nets for small images.
pub const PROBLEMS: [&str; 14] = [
    "conv n1 c64 224x224 -> 64 w3 s1 p1",
    "conv n1 c256 56x56 -> 256 w3 s1 p1",
    "conv n1 c512 14x14 -> 512 w3 s1 p1",
    "conv n1 c3 224x224 -> 64 w7 s2 p3",
    "conv n1 c256 56x56 -> 64 w1 s1 p0",
    "conv n1 c1024 14x14 -> 256 w1 s1 p0",
    "conv n1 c128 56x56 -> 128 w3 s2 p1",
    "conv n1 c32 112x112 -> 32 w3 s1 p1 g32",
    "conv n1 c96 112x112 -> 96 w3 s2 p1 g96",
    "conv n128 c3 32x32 -> 64 w3 s1 p1",
    "conv n128 c64 32x32 -> 64 w3 s1 p1",
    "conv n64 c1 28x28 -> 32 w3 s1 p1",
    "conv n64 c32 28x28 -> 64 w3 s1 p1",
    "conv n64 c64 14x14 -> 64 w3 s1 p1",
];

/// The time of one pass of one convolution.
#[derive(Clone, Debug, Serialize)]
pub struct LayerTiming {
    /// The convolution.
    pub problem: String,
    /// `forward`, `backward_input` or `backward_weight`.
    pub pass: &'static str,
    /// Threads that worked.
    pub threads: usize,
    /// Median of the rounds.
    pub seconds: f64,
    /// 10⁹ floating-point operations per second, two for each multiplication with addition of the definition.
    pub gflops: f64,
    /// Of the fused multiply-adds that the same threads do at best.
    pub percent_of_peak: f64,
    /// The algorithm that was chosen.
    pub algorithm: &'static str,
}

/// The time of a network's forward pass, or of a training step.
#[derive(Clone, Debug, Serialize)]
pub struct NetTiming {
    /// The network.
    pub net: String,
    /// Images at once.
    pub batch: usize,
    /// Threads that worked.
    pub threads: usize,
    /// Of the products: `f32`.
    pub precision: &'static str,
    /// Median of the rounds, for one batch.
    pub seconds: f64,
    /// Images per second.
    pub images_per_second: f64,
    /// The most memory that the process has held, in bytes; that of the plan where the system does not tell.
    pub peak_bytes: u64,
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
    /// Threads in use.
    pub threads: usize,
    /// Threads that this process may run at once.
    pub available_threads: usize,
    /// 10⁹ floating-point operations per second of fused multiply-adds in registers.
    pub peak_gflops: f64,
    /// 10⁹ bytes per second read from memory.
    pub memory_gigabytes_per_second: f64,
    /// Microseconds to start and end work on all threads.
    pub parallel_region_microseconds: f64,
}

/// Measures the machine.
pub fn machine_report(machine: &Machine) -> MachineReport {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu_info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    MachineReport {
        cpu: name.map(|(_, name)| name.trim().to_owned()),
        isa: machine.isa.name(),
        available_isas: Isa::available().into_iter().map(Isa::name).collect(),
        threads: machine.threads.count(),
        available_threads: convnet_kernels::Threads::available(),
        peak_gflops: peak_gflops(machine),
        memory_gigabytes_per_second: peak::memory_bandwidth(machine, PEAK_SECONDS) / 1e9,
        parallel_region_microseconds: 1e6
            * median(7, || {
                for _ in 0..100 {
                    machine.threads.run(machine.threads.count(), |_| {});
                }
            })
            / 100.0,
    }
}

/// 10⁹ floating-point operations per second of fused multiply-adds in registers.
pub fn peak_gflops(machine: &Machine) -> f64 {
    peak::fma_peak(machine, PEAK_SECONDS) / 1e9
}

/// Times one pass of a convolution.
pub fn time_layer(shape: &ConvShape, pass: Pass, machine: &Machine, rounds: usize, peak_gflops: f64) -> LayerTiming {
    let algorithm = choose::<f32>(shape, machine.isa);
    let values = |count: usize| -> Vec<f32> { (0..count).map(|place| (place % 251) as f32 / 251.0 - 0.5).collect() };
    let (x, w, dy) = (values(shape.input_len()), values(shape.weight_len()), values(shape.output_len()));
    let mut packed = vec![0.0; (algorithm.packed_len)(shape, machine.isa, pass)];
    let mut scratch = vec![0.0; (algorithm.scratch_len)(shape, machine.isa, pass)];
    (algorithm.pack)(machine, shape, pass, &w, &mut packed);
    let seconds = match pass {
        Pass::Forward => {
            let mut y = vec![0.0; shape.output_len()];
            median(rounds, || (algorithm.forward)(machine, shape, &x, &packed, &Epilogue::NONE, &mut y, &mut scratch))
        }
        Pass::BackwardInput => {
            let mut dx = vec![0.0; shape.input_len()];
            median(rounds, || (algorithm.backward_input)(machine, shape, &dy, &packed, &mut dx, &mut scratch))
        }
        Pass::BackwardWeight => {
            let mut dw = vec![0.0; shape.weight_len()];
            median(rounds, || (algorithm.backward_weight)(machine, shape, &x, &dy, &mut dw, &mut scratch))
        }
    };
    let gflops = 2.0 * shape.macs() as f64 / seconds / 1e9;
    LayerTiming {
        problem: shape.to_string(),
        pass: pass.name(),
        threads: machine.threads.count(),
        seconds,
        gflops,
        percent_of_peak: 100.0 * gflops / peak_gflops,
        algorithm: algorithm.name,
    }
}

/// Times the forward pass for inference.
///
/// # Errors
/// The memory cannot be had.
pub fn time_model(network: &Network, name: &str, batch: usize, machine: &Machine, rounds: usize) -> Result<NetTiming> {
    let parameters = initial_parameters(network, Initialisation::He, 0)?;
    let mut plan = Plan::<f32>::new(network, batch, Purpose::Infer, machine)?;
    let images = vec![0.5; plan.input_shape().count()];
    let seconds = median(rounds, || {
        plan.forward(&parameters, &images, 0);
    });
    Ok(net_timing(name, batch, machine, seconds, plan.bytes().total()))
}

/// Times a training step: forward, loss, backward, and an update by gradient descent.
///
/// # Errors
/// The network has no scores to train, or the memory cannot be had.
pub fn time_train(network: &Network, name: &str, batch: usize, machine: &Machine, rounds: usize) -> Result<NetTiming> {
    let output = network.output_shape();
    if output.pixels() != 1 {
        return Err(Error::Argument(format!(
            "the output of {name} is {}x{}x{}; a training step needs one score for each class",
            output.c, output.h, output.w
        )));
    }
    let mut parameters = initial_parameters(network, Initialisation::He, 0)?;
    let mut plan = Plan::<f32>::new(network, batch, Purpose::Train, machine)?;
    let images: Vec<f32> = (0..plan.input_shape().count()).map(|place| (place % 251) as f32 / 125.0 - 1.0).collect();
    let labels: Vec<usize> = (0..batch).map(|image| image % output.c).collect();
    let mut gradient = vec![0.0; plan.output_shape().count()];
    let seconds = median(rounds, || {
        let scores = plan.forward(&parameters, &images, 0);
        Loss::default().value_and_gradient(scores, output.c, &labels, &mut gradient);
        plan.backward(&parameters, &gradient);
        // Buffers have no gradient.
        for (values, gradient) in parameters.all_values_mut().zip(plan.gradients()).filter(|(_, gradient)| !gradient.is_empty()) {
            DESCENT.update(machine, values, gradient, &mut [], &UPDATE);
        }
        plan.update_buffers(network, &mut parameters);
    });
    Ok(net_timing(name, batch, machine, seconds, plan.bytes().total()))
}

fn net_timing(name: &str, batch: usize, machine: &Machine, seconds: f64, plan_bytes: u64) -> NetTiming {
    NetTiming {
        net: name.into(),
        batch,
        threads: machine.threads.count(),
        precision: "f32",
        seconds,
        images_per_second: batch as f64 / seconds,
        peak_bytes: peak_resident_bytes().unwrap_or(plan_bytes),
    }
}

/// The most memory that this process has held at once, where the system tells it.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
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
