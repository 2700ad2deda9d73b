//! How much Winograd's convolution loses to rounding, against the direct one, for layers as networks have them.

use convnet_kernels::conv::{ALGORITHMS, ALGORITHMS_F64, Algorithm, ConvShape, Epilogue, Pass};
use convnet_kernels::{Isa, Machine, Real};

/// Numbers that look like activations and weights do: a sum of a few uniform ones, without a sign that is more common.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| uniform() + uniform() + uniform()).collect()
}

fn compute<T: Real>(algorithm: &Algorithm<T>, shape: &ConvShape, pass: Pass) -> Vec<T> {
    let machine = Machine::new(Isa::detect(), 2);
    let cast = |numbers: Vec<f32>| numbers.into_iter().map(T::from_f32).collect::<Vec<T>>();
    let (x, w) = (cast(numbers(shape.input_len(), 1)), cast(numbers(shape.weight_len(), 2)));
    let dy = cast(numbers(shape.output_len(), 3));
    let mut packed = vec![T::ZERO; (algorithm.packed_len)(shape, machine.isa, pass)];
    let mut scratch = vec![T::ZERO; (algorithm.scratch_len)(shape, machine.isa, pass)];
    (algorithm.pack)(&machine, shape, pass, &w, &mut packed);
    let length = match pass {
        Pass::Forward => shape.output_len(),
        Pass::BackwardInput => shape.input_len(),
        Pass::BackwardWeight => shape.weight_len(),
    };
    let mut result = vec![T::ZERO; length];
    match pass {
        Pass::Forward => (algorithm.forward)(&machine, shape, &x, &packed, &Epilogue::NONE, &mut result, &mut scratch),
        Pass::BackwardInput => (algorithm.backward_input)(&machine, shape, &dy, &packed, &mut result, &mut scratch),
        Pass::BackwardWeight => (algorithm.backward_weight)(&machine, shape, &x, &dy, &mut result, &mut scratch),
    }
    result
}

/// Root mean square of the error over that of the exact numbers.
fn error(result: &[f32], exact: &[f64]) -> f64 {
    let square = |sum: f64, number: f64| sum + number * number;
    let wrong = result.iter().zip(exact).map(|(result, exact)| f64::from(*result) - exact).fold(0.0, square);
    (wrong / exact.iter().copied().fold(0.0, square)).sqrt()
}

#[test]
fn tiles_of_2x2_lose_at_most_two_bits_and_tiles_of_4x4_at_most_three() {
    let of_name = |name: &str| ALGORITHMS.iter().find(|algorithm| algorithm.name == name).unwrap();
    for text in ["conv n2 c16 32x32 -> 16 w3 s1 p1", "conv n2 c64 14x14 -> 64 w3 s1 p1", "conv n1 c256 7x7 -> 128 w3 s1 p1"] {
        let shape: ConvShape = text.parse().unwrap();
        for pass in Pass::ALL {
            let exact = compute(&ALGORITHMS_F64[0], &shape, pass);
            let [direct, two, four] =
                ["direct", "winograd 2x2", "winograd 4x4"].map(|name| error(&compute(of_name(name), &shape, pass), &exact));
            println!("{text} {:15} direct {direct:.1e} 2x2 {two:.1e} 4x4 {four:.1e}", pass.name());
            assert!(two < 4.0 * direct.max(1e-7), "{text} {}: 2x2 {two:e}, direct {direct:e}", pass.name());
            assert!(four < 8.0 * direct.max(1e-7), "{text} {}: 4x4 {four:e}, direct {direct:e}", pass.name());
            assert!(four < 2e-6, "{text} {}: 4x4 {four:e}", pass.name());
        }
    }
}
