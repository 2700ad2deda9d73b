//! A result larger than the caches is written past them when it begins a cache line; that changes no bit of it.

use convnet_kernels::conv::{ALGORITHMS, Algorithm, ConvShape, Epilogue, Pass};
use convnet_kernels::memory::zeros;
use convnet_kernels::{Isa, Machine};

/// Numbers of a cache line.
const LINE: usize = 16;

/// The output, or the gradient of the input, written `beyond` numbers behind the beginning of a cache line.
fn compute(machine: &Machine, algorithm: &Algorithm<f32>, shape: &ConvShape, pass: Pass, beyond: usize) -> Vec<u32> {
    let numbers = |count: usize| (0..count).map(|place| (place * 7 % 23) as f32 - 11.0).collect::<Vec<f32>>();
    let mut packed = vec![f32::NAN; (algorithm.packed_len)(shape, machine.isa, pass)];
    let mut scratch = vec![f32::NAN; (algorithm.scratch_len)(shape, machine.isa, pass)];
    (algorithm.pack)(machine, shape, pass, &numbers(shape.weight_len()), &mut packed);
    let count = if pass == Pass::Forward { shape.output_len() } else { shape.input_len() };
    let mut memory = zeros::<f32>(count + 2 * LINE).unwrap();
    let first = memory.as_ptr().align_offset(4 * LINE) + beyond;
    let result = &mut memory[first..first + count];
    if pass == Pass::Forward {
        let (bias, x) = (numbers(shape.k()), numbers(shape.input_len()));
        let epilogue = Epilogue { bias: Some(&bias), residual: None, relu: true };
        (algorithm.forward)(machine, shape, &x, &packed, &epilogue, result, &mut scratch);
    } else {
        (algorithm.backward_input)(machine, shape, &numbers(shape.output_len()), &packed, result, &mut scratch);
    }
    memory[first..first + count].iter().map(|number| number.to_bits()).collect()
}

#[test]
fn a_large_result_has_the_same_bits_wherever_it_begins() {
    for isa in Isa::available() {
        let machine = Machine::new(isa, 2);
        for text in [
            "conv n1 c64 264x264 -> 64 w1 s1 p0",
            "conv n1 c64 264x264 -> 64 w3 s1 p1 g64",
            "conv n1 c16 528x528 -> 16 w3 s1 p1",
            "conv n1 c3 528x528 -> 64 w3 s2 p1",
        ] {
            let shape: ConvShape = text.parse().unwrap();
            let fast = &ALGORITHMS[..ALGORITHMS.len() - 1];
            for algorithm in fast.iter().filter(|algorithm| (algorithm.accepts)(&shape, isa).is_ok()) {
                for pass in [Pass::Forward, Pass::BackwardInput] {
                    let [inside, lined] = [1, 0].map(|beyond| compute(&machine, algorithm, &shape, pass, beyond));
                    assert!(inside.iter().any(|bits| *bits != 0), "{text}: only zeros");
                    assert!(inside == lined, "{text} {} {} {isa}", algorithm.name, pass.name());
                }
            }
        }
    }
}
