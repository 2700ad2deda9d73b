//! Times convolutions given as problem strings: `bench_conv "conv n1 c64 56x56 -> 64 w3 s1 p1" …`.
//!
//! Prints GFLOP/s and the per cent of the peak measured in the same run, for each pass and for 1 and 2 threads: the
//! median and the best of the rounds. Without arguments a standard list is run. `CONVNET_ISA` pins the instruction set;
//! `--portion SECONDS` sets the time for each measurement, `--pass NAME` picks one pass, `--threads N` one count,
//! `--algorithm NAME` one algorithm; `--pack` times the packing of the weights instead.

use std::time::Instant;

use convnet_kernels::conv::{ALGORITHMS, Algorithm, ConvShape, Epilogue, Pass, choose};
use convnet_kernels::memory::Buffer;
use convnet_kernels::{Isa, Machine, peak};

const PROBLEMS: [&str; 14] = [
    "conv n1 c64 224x224 -> 64 w3 s1 p1",
    "conv n1 c256 56x56 -> 256 w3 s1 p1",
    "conv n1 c512 14x14 -> 512 w3 s1 p1",
    "conv n1 c256 56x56 -> 64 w1 s1 p0",
    "conv n1 c1024 14x14 -> 256 w1 s1 p0",
    "conv n1 c128 56x56 -> 128 w3 s2 p1",
    "conv n128 c32 28x28 -> 64 w3 s1 p1",
    "conv n64 c64 14x14 -> 64 w3 s1 p1",
    "conv n128 c1 28x28 -> 32 w3 s1 p1",
    "conv n128 c3 32x32 -> 16 w3 s1 p1",
    "conv n1 c3 224x224 -> 64 w7 s2 p3",
    "conv n1 c32 112x112 -> 32 w3 s1 p1 g32",
    "conv n1 c96 112x112 -> 96 w3 s2 p1 g96",
    "conv n128 c2048 1x1 -> 1000 w1 s1 p0",
];

/// Median and best time of one call, in seconds, of at least seven rounds.
fn time(portion: f64, mut work: impl FnMut()) -> (f64, f64) {
    work();
    let start = Instant::now();
    work();
    let once = start.elapsed().as_secs_f64().max(1e-7);
    let calls = ((portion / 9.0 / once) as usize).clamp(1, 10_000);
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 7 || begin.elapsed().as_secs_f64() < portion {
        let start = Instant::now();
        for _ in 0..calls {
            work();
        }
        times.push(start.elapsed().as_secs_f64() / calls as f64);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[0])
}

fn bench(machine: &Machine, algorithm: &Algorithm<f32>, shape: &ConvShape, pass: Pass, portion: f64, pack: bool) -> (f64, f64) {
    let numbers = |length: usize| {
        let mut numbers = Buffer::<f32>::zeros(length).expect("the memory for a problem");
        numbers.iter_mut().enumerate().for_each(|(place, number)| *number = (place % 17) as f32 / 8.0 - 1.0);
        numbers
    };
    let (x, w, dy) = (numbers(shape.input_len()), numbers(shape.weight_len()), numbers(shape.output_len()));
    let mut packed = numbers((algorithm.packed_len)(shape, machine.isa, pass));
    let mut scratch = numbers((algorithm.scratch_len)(shape, machine.isa, pass));
    (algorithm.pack)(machine, shape, pass, &w, &mut packed);
    if pack {
        return time(portion, || (algorithm.pack)(machine, shape, pass, &w, &mut packed));
    }
    match pass {
        Pass::Forward => {
            let mut y = numbers(shape.output_len());
            time(portion, || (algorithm.forward)(machine, shape, &x, &packed, &Epilogue::NONE, &mut y, &mut scratch))
        }
        Pass::BackwardInput => {
            let mut dx = numbers(shape.input_len());
            time(portion, || (algorithm.backward_input)(machine, shape, &dy, &packed, &mut dx, &mut scratch))
        }
        Pass::BackwardWeight => {
            let mut dw = numbers(shape.weight_len());
            time(portion, || (algorithm.backward_weight)(machine, shape, &x, &dy, &mut dw, &mut scratch))
        }
    }
}

fn main() -> Result<(), String> {
    let isa = Isa::from_environment()?;
    let (mut portion, mut passes, mut counts, mut problems) = (0.15, Pass::ALL.to_vec(), vec![1, 2], Vec::new());
    let mut pack = false;
    let mut only: Option<&Algorithm<f32>> = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--portion" => portion = value()?.parse().map_err(|error| format!("--portion: {error}"))?,
            "--pack" => pack = true,
            "--threads" => counts = vec![value()?.parse().map_err(|error| format!("--threads: {error}"))?],
            "--algorithm" => {
                let name = value()?;
                only = Some(ALGORITHMS.iter().find(|algorithm| algorithm.name == name).ok_or_else(|| format!("no algorithm '{name}'"))?);
            }
            "--pass" => {
                let name = value()?;
                passes.retain(|pass| pass.name() == name);
            }
            _ => problems.push(argument),
        }
    }
    if problems.is_empty() {
        problems = PROBLEMS.map(String::from).to_vec();
    }
    let machines: Vec<Machine> = counts.iter().map(|&count| Machine::new(isa, count)).collect();
    let peaks: Vec<f64> = machines.iter().map(|machine| peak::fma_peak(machine, 0.3)).collect();
    for (machine, peak) in machines.iter().zip(&peaks) {
        println!("{isa}, {} threads: {:.1} GFLOP/s at most", machine.threads.count(), peak / 1e9);
    }
    for text in problems {
        let shape: ConvShape = text.parse()?;
        println!("{shape}   ({:.3} GFLOP)", 2e-9 * shape.macs() as f64);
        for &pass in &passes {
            let algorithm = only.unwrap_or_else(|| choose::<f32>(&shape, machines[0].means(), pass));
            print!("  {:16} {:12}", pass.name(), algorithm.name);
            if let Err(reason) = (algorithm.accepts)(&shape, isa) {
                println!("  {reason}");
                continue;
            }
            for (machine, peak) in machines.iter().zip(&peaks) {
                let (median, best) = bench(machine, algorithm, &shape, pass, portion, pack);
                let flops = 2.0 * shape.macs() as f64;
                let speed = |seconds: f64| format!("{:6.1} ({:3.0} %)", flops / seconds / 1e9, 100.0 * flops / seconds / peak);
                print!("  {} threads: median {} best {} {:9.1} µs", machine.threads.count(), speed(median), speed(best), median * 1e6);
            }
            println!();
        }
    }
    Ok(())
}
