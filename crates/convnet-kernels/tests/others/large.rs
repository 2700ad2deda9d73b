//! Results of many megabytes, which routines may write in another way than small ones.

use convnet_kernels::elementwise as e;
use convnet_kernels::norm::batch;

use crate::random::Random;
use crate::runs::{Runs, numbers};

/// Numbers in 16 megabytes.
const LARGE: usize = 4 << 20;

#[test]
fn simple_functions_of_many_megabytes_are_exact() {
    let runs = Runs::new();
    // The guards put one of two equal results at a page's beginning and the other at its end: with the first length both
    // begin a cache line, with the second only one of them.
    for length in [LARGE + 48, LARGE + 37] {
        let x: Vec<f32> = (0..length).map(|place| (place % 1013) as f32 - 500.0).collect();
        let d: Vec<f32> = (0..length).map(|place| (place % 611) as f32 - 300.0).collect();
        let [relu, gradient, sum, copy] = runs.same(&format!("{length} numbers"), |run| {
            let (machine, x, d) = (&run.machine, run.holding(&x), run.holding(&d));
            let [mut relu, mut gradient, mut sum, mut copy] = std::array::from_fn(|_| run.empty(length));
            e::relu(machine, Some(&x), &mut relu);
            e::relu_gradient(machine, &x, Some(&d), &mut gradient);
            e::add_all(machine, Some(&x), &[&d], &mut sum);
            e::copy(machine, &x, &mut copy);
            [relu, gradient, sum, copy].map(|buffer| buffer.to_vec())
        });
        assert!(relu.iter().zip(&x).all(|(relu, x)| *relu == x.max(0.0)));
        assert!(gradient.iter().zip(x.iter().zip(&d)).all(|(gradient, (x, d))| *gradient == if *x > 0.0 { *d } else { 0.0 }));
        assert!(sum.iter().zip(x.iter().zip(&d)).all(|(sum, (x, d))| *sum == x + d));
        assert_eq!(copy, x);
    }
}

#[test]
fn batch_normalisation_of_many_megabytes_is_that_of_its_parts() {
    let runs = Runs::new();
    for channels in [16, 37] {
        let rows = LARGE / channels + 3;
        let mut random = Random::new(channels as u64);
        let [x, dy, residual] = std::array::from_fn(|_| numbers(&mut random, rows * channels, -1.0, 1.0));
        let statistics: Vec<f32> = numbers(&mut random, batch::STATISTICS * channels, 0.5, 1.0);
        // The statistics are given, so every row is on its own, and few rows are not large.
        let compute = |rows: std::ops::Range<usize>| {
            let norm = batch::BatchNorm { rows: rows.len(), channels, epsilon: 1e-5 };
            let range = rows.start * channels..rows.end * channels;
            runs.each(&format!("{norm:?}"), |run| {
                let [x, dy, residual] = [&x, &dy, &residual].map(|list| run.holding(&list[range.clone()]));
                let statistics = run.holding(&statistics);
                let (mut y, mut dx) = (run.empty(x.len()), run.empty(x.len()));
                let scratch = &mut run.empty(norm.forward_scratch());
                let (x, statistics, residual) = (Some(&*x), &*statistics, Some(&*residual));
                norm.forward(&run.machine, batch::Forward { x, statistics, affine: None, residual, relu: true, y: &mut y, scratch });
                let pass = batch::Backward {
                    x: x.expect("it was just put there"),
                    dy: Some(&dy),
                    relu: true,
                    statistics,
                    of_batch: false,
                    affine: None,
                    dx: Some(&mut dx),
                    daffine: None,
                    scratch: &mut run.empty(norm.backward_scratch()),
                };
                norm.backward(&run.machine, pass);
                [y.to_vec(), dx.to_vec()]
            })
        };
        let whole = compute(0..rows);
        for first in (0..rows).step_by(rows / 5) {
            let part = first..(first + 100).min(rows);
            for ((name, whole), (_, few)) in whole.iter().zip(compute(part.clone())) {
                for (whole, few) in whole.iter().zip(few) {
                    assert_eq!(whole[part.start * channels..part.end * channels], few, "{name}: rows {part:?}");
                }
            }
        }
    }
}
