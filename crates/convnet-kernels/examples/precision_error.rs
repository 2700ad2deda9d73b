//! By how much each precision is off: `precision_error [PROBLEM …]` prints, for each convolution and pass, the root mean square
//! of the error against `f64`, and the largest one, both divided by the root mean square of the result.
//!
//! Inputs are sums of a few uniform numbers; half of the activations are zero, as behind a ReLU. What is measured is the same
//! on every computer: one without tiles computes the same bits.

use convnet_kernels::conv::{ALGORITHMS, ALGORITHMS_F64, Algorithm, ConvShape, Epilogue, Pass};
use convnet_kernels::{Machine, Real};

/// Layers of ResNet-50, VGG-16 and networks for images of 32×32 pixels.
const PROBLEMS: [&str; 12] = [
    "conv n1 c64 56x56 -> 64 w1 s1 p0",
    "conv n1 c64 56x56 -> 64 w3 s1 p1",
    "conv n1 c256 56x56 -> 64 w1 s1 p0",
    "conv n1 c128 28x28 -> 128 w3 s2 p1",
    "conv n1 c1024 14x14 -> 256 w1 s1 p0",
    "conv n1 c512 7x7 -> 512 w3 s1 p1",
    "conv n16 c2048 1x1 -> 1000 w1 s1 p0",
    "conv n1 c64 112x112 -> 128 w3 s1 p1",
    "conv n1 c512 14x14 -> 512 w3 s1 p1",
    "conv n8 c64 32x32 -> 64 w3 s1 p1",
    "conv n32 c128 8x8 -> 128 w3 s1 p1",
    "conv n64 c256 4x4 -> 256 w3 s1 p1",
];

/// The rows whose errors are printed.
const NAMES: [&str; 4] = ["direct", "tiles f32x6", "tiles f32x3", "tiles bf16"];

/// `count` numbers with mean 0, or what a ReLU makes of them.
fn numbers(state: &mut u64, count: usize, rectified: bool) -> Vec<f32> {
    let mut uniform = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f32 / (1 << 24) as f32
    };
    let mut number = || uniform() + uniform() + uniform() + uniform() - 2.0;
    (0..count).map(|_| if rectified { number().max(0.0) } else { number() }).collect()
}

struct Operands<T> {
    x: Vec<T>,
    weights: Vec<T>,
    dy: Vec<T>,
}

fn result<T: Real>(algorithm: &Algorithm<T>, machine: &Machine, shape: &ConvShape, pass: Pass, operands: &Operands<T>) -> Vec<T> {
    let mut packed = vec![T::ZERO; (algorithm.packed_len)(shape, machine.isa, pass)];
    let mut scratch = vec![T::ZERO; (algorithm.scratch_len)(shape, machine.isa, pass)];
    (algorithm.pack)(machine, shape, pass, &operands.weights, &mut packed);
    let length = [shape.output_len(), shape.input_len(), shape.weight_len()][pass as usize];
    let mut result = vec![T::ZERO; length];
    match pass {
        Pass::Forward => (algorithm.forward)(machine, shape, &operands.x, &packed, &Epilogue::NONE, &mut result, &mut scratch),
        Pass::BackwardInput => (algorithm.backward_input)(machine, shape, &operands.dy, &packed, &mut result, &mut scratch),
        Pass::BackwardWeight => (algorithm.backward_weight)(machine, shape, &operands.x, &operands.dy, &mut result, &mut scratch),
    }
    result
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = if arguments.is_empty() { PROBLEMS.to_vec() } else { arguments.iter().map(String::as_str).collect() };
    let machine = Machine::detect()?;
    let definition = ALGORITHMS_F64.last().ok_or("no definition")?;
    println!("| convolution | pass | {} |", NAMES.map(|name| name.trim_start_matches("tiles ")).join(" | "));
    println!("|---|---|{}", "---|".repeat(NAMES.len()));
    for text in texts {
        let shape: ConvShape = text.parse()?;
        let mut state = 1;
        let operands = Operands {
            x: numbers(&mut state, shape.input_len(), true),
            weights: numbers(&mut state, shape.weight_len(), false),
            dy: numbers(&mut state, shape.output_len(), false),
        };
        let wide = |numbers: &[f32]| numbers.iter().map(|&number| f64::from(number)).collect::<Vec<_>>();
        let exact = Operands { x: wide(&operands.x), weights: wide(&operands.weights), dy: wide(&operands.dy) };
        for pass in Pass::ALL {
            let expected = result(definition, &machine, &shape, pass, &exact);
            let mean_square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>() / expected.len() as f64;
            let size = mean_square(&mut expected.iter().copied()).sqrt();
            let mut line = format!("| {text} | {} |", pass.name());
            for name in NAMES {
                let row = ALGORITHMS.iter().find(|row| row.name == name).ok_or("no such algorithm")?;
                let computed = result(row, &machine, &shape, pass, &operands);
                let error = |place: usize| f64::from(computed[place]) - expected[place];
                let rms = mean_square(&mut (0..expected.len()).map(error)).sqrt();
                let largest = (0..expected.len()).map(|place| error(place).abs()).fold(0.0, f64::max);
                line += &format!(" {:.1e} ({:.1e}) |", rms / size, largest / size);
            }
            println!("{line}");
        }
    }
    Ok(())
}
