//! Batch and layer normalisation.

use convnet_kernels::norm::{batch, layer};

use crate::random::Random;
use crate::runs::{EPSILON, Exact, Run, Runs, assert_close, numbers, random_cases, rows_and_channels};

fn double(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&number| f64::from(number)).collect()
}

/// Numbers around a mean that is sometimes large against them.
fn around_a_mean(random: &mut Random, count: usize) -> Vec<f32> {
    let mean = [0.0, 0.5, 100.0][random.below(3)];
    numbers(random, count, mean - 1.0, mean + 1.0)
}

/// Mean, 1/√(σ² + ε) and the largest distance from the mean.
fn statistics(x: &[f64], epsilon: f64) -> [f64; 3] {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    [mean, 1.0 / (variance + epsilon).sqrt(), x.iter().fold(0.0, |most, x| f64::max(most, (x - mean).abs()))]
}

/// One case of batch normalisation.
#[derive(Debug)]
struct Batch {
    norm: batch::BatchNorm,
    x: Vec<f32>,
    dy: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    residual: Option<Vec<f32>>,
    /// Mean and variance, where they are not those of x.
    running: Option<[Vec<f32>; 2]>,
    relu: bool,
    dweight: Vec<f32>,
}

impl Batch {
    fn new(random: &mut Random) -> Self {
        let [rows, channels] = rows_and_channels(random);
        let all = rows * channels;
        Self {
            norm: batch::BatchNorm { rows, channels, epsilon: [1e-5, 1e-3][random.below(2)] },
            x: around_a_mean(random, all),
            dy: numbers(random, all, -1.0, 1.0),
            weight: numbers(random, channels, 0.5, 1.5),
            bias: numbers(random, channels, -1.0, 1.0),
            residual: (random.below(3) == 0).then(|| numbers(random, all, -1.0, 1.0)),
            running: (random.below(3) == 0).then(|| [numbers(random, channels, -1.0, 1.0), numbers(random, channels, 0.1, 2.0)]),
            relu: random.below(2) == 0,
            dweight: numbers(random, channels, -1.0, 1.0),
        }
    }

    /// Whether there is a ReLU that backward is to look through: none behind a residual.
    fn cuts(&self) -> bool {
        self.relu && self.residual.is_none()
    }

    /// Output, and gradients of input, weight and bias.
    fn compute(&self, run: &Run) -> [Vec<f32>; 4] {
        let (norm, machine) = (&self.norm, &run.machine);
        let (x, dy, weight, bias) = (run.holding(&self.x), run.holding(&self.dy), run.holding(&self.weight), run.holding(&self.bias));
        let mut statistics = run.empty(batch::STATISTICS * norm.channels);
        match &self.running {
            None => norm.batch_statistics(machine, &x, &mut statistics, &mut run.empty(norm.statistics_scratch())),
            Some([mean, variance]) => norm.running_statistics(&run.holding(mean), &run.holding(variance), &mut statistics),
        }
        let residual = self.residual.as_ref().map(|residual| run.holding(residual));
        let forward = |x: Option<&[f32]>, y: &mut [f32]| {
            let scratch = &mut run.empty(norm.forward_scratch());
            let (residual, affine) = (residual.as_deref(), Some([&*weight, &*bias]));
            norm.forward(machine, batch::Forward { x, statistics: &statistics, affine, residual, relu: self.relu, y, scratch });
        };
        let (mut y, mut in_place) = (run.empty(x.len()), run.holding(&self.x));
        forward(Some(&x), &mut y);
        forward(None, &mut in_place);
        assert_eq!(&*y, &*in_place, "other outputs in place");
        let backward = |dy: Option<&[f32]>, dx: Option<&mut [f32]>| {
            let (mut dweight, mut dbias) = (run.holding(&self.dweight), run.holding(&self.dweight));
            let pass = batch::Backward {
                x: &x,
                dy,
                relu: self.cuts(),
                statistics: &statistics,
                of_batch: self.running.is_none(),
                affine: Some([&*weight, &*bias]),
                dx,
                daffine: Some([&mut dweight, &mut dbias]),
                scratch: &mut run.empty(norm.backward_scratch()),
            };
            norm.backward(machine, pass);
            [dweight.to_vec(), dbias.to_vec()]
        };
        let (mut dx, mut in_place) = (run.empty(x.len()), run.holding(&self.dy));
        let parameters = backward(Some(&dy), Some(&mut dx));
        assert_eq!(backward(None, Some(&mut in_place)), parameters, "other gradients of the parameters in place");
        assert_eq!(backward(Some(&dy), None), parameters, "other gradients of the parameters alone");
        assert_eq!(&*dx, &*in_place, "other gradients in place");
        let [dweight, dbias] = parameters;
        [y.to_vec(), dx.to_vec(), dweight, dbias]
    }

    /// Checks the result by the formulas, channel by channel.
    fn check(&self, what: &str, [y, dx, dweight, dbias]: &[Vec<f32>; 4]) {
        let (rows, channels) = (self.norm.rows, self.norm.channels);
        let doubt = (16.0 + 4.0 * (rows as f64).sqrt()) * EPSILON;
        for channel in 0..channels {
            let column = |list: &[f32]| list.iter().skip(channel).step_by(channels).copied().collect::<Vec<_>>();
            let (x, output) = (double(&column(&self.x)), column(y));
            let [mut mean, mut inverse, mut most] = statistics(&x, self.norm.epsilon);
            if let Some([means, variances]) = &self.running {
                mean = means[channel].into();
                inverse = 1.0 / (f64::from(variances[channel]) + self.norm.epsilon).sqrt();
                most = x.iter().fold(0.0, |most, x| f64::max(most, (x - mean).abs()));
            }
            let (weight, bias) = (f64::from(self.weight[channel]), f64::from(self.bias[channel]));
            let residual = self.residual.as_ref().map_or_else(|| vec![0.0; rows], |residual| double(&column(residual)));
            let exact: Vec<_> = x
                .iter()
                .zip(&residual)
                .map(|(x, residual)| {
                    let value = (x - mean) * inverse * weight + bias + residual;
                    let tolerance = doubt * (weight * inverse * most + bias.abs() + residual.abs());
                    Exact { value: if self.relu { value.max(0.0) } else { value }, tolerance }
                })
                .collect();
            assert_close(&format!("{what} y of channel {channel}"), &output, &exact);

            let cut = |(dy, y): (f64, &f32)| if self.cuts() && *y <= 0.0 { 0.0 } else { dy };
            let d: Vec<f64> = double(&column(&self.dy)).into_iter().zip(&output).map(cut).collect();
            let normal: Vec<f64> = x.iter().map(|x| (x - mean) * inverse).collect();
            let sum: f64 = d.iter().sum();
            let product: f64 = d.iter().zip(&normal).map(|(d, normal)| d * normal).sum();
            let before = f64::from(self.dweight[channel]);
            let size = (most * inverse).max(1.0);
            let exact = |value: f64, size: f64| [Exact { value: before + value, tolerance: doubt * (1.0 + (rows as f64).sqrt() * size) }];
            assert_close(&format!("{what} dweight {channel}"), &dweight[channel..=channel], &exact(product, size));
            assert_close(&format!("{what} dbias {channel}"), &dbias[channel..=channel], &exact(sum, 1.0));

            let shares = if self.running.is_none() { [sum / rows as f64, product / rows as f64] } else { [0.0; 2] };
            let exact: Vec<_> = d
                .iter()
                .zip(&normal)
                .map(|(d, normal)| Exact {
                    value: weight * inverse * (d - shares[0] - normal * shares[1]),
                    tolerance: doubt * weight * inverse * (1.0 + size * size),
                })
                .collect();
            assert_close(&format!("{what} dx of channel {channel}"), &column(dx), &exact);
        }
    }
}

#[test]
fn batch_normalisation_is_its_formula_in_both_directions() {
    let runs = Runs::new();
    random_cases(50, |seed, random| {
        let case = Batch::new(random);
        let kinds = [(case.relu, "relu"), (case.residual.is_some(), "residual"), (case.running.is_some(), "running")];
        let kinds: Vec<_> = kinds.iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
        let what = format!("{seed} {:?} {kinds:?}", case.norm);
        for (what, result) in runs.each(&what, |run| case.compute(run)) {
            case.check(&what, &result);
        }
    });
}

#[test]
fn layer_normalisation_is_its_formula_in_both_directions() {
    let runs = Runs::new();
    random_cases(50, |seed, random| {
        let [rows, channels] = rows_and_channels(random);
        let norm = layer::LayerNorm { rows, channels, epsilon: [1e-6, 1e-3][random.below(2)] };
        let (x, dy) = (around_a_mean(random, rows * channels), numbers(random, rows * channels, -1.0, 1.0));
        let (weight, bias, before) =
            (numbers(random, channels, 0.5, 1.5), numbers(random, channels, -1.0, 1.0), numbers(random, channels, -1.0, 1.0));
        for (what, [y, dx, dweight, dbias]) in runs.each(&format!("{seed} {norm:?}"), |run| {
            let (x, weight, bias) = (run.holding(&x), run.holding(&weight), run.holding(&bias));
            let (mut y, mut in_place, mut kept) = (run.empty(x.len()), run.holding(&x), run.empty(norm.statistics()));
            norm.forward(&run.machine, Some(&x), [&weight, &bias], &mut y, &mut kept);
            norm.forward(&run.machine, None, [&weight, &bias], &mut in_place, &mut []);
            assert_eq!(&*y, &*in_place, "other outputs in place");
            let backward = |dy: Option<&[f32]>, dx: Option<&mut [f32]>| {
                let (mut dweight, mut dbias) = (run.holding(&before), run.holding(&before));
                let scratch = &mut run.empty(norm.backward_scratch());
                let (x, statistics, weight, dweight_now, dbias_now) = (&*x, &*kept, &*weight, &mut *dweight, &mut *dbias);
                let pass = layer::Backward { x, dy, statistics, weight, dx, dweight: dweight_now, dbias: dbias_now, scratch };
                norm.backward(&run.machine, pass);
                [dweight.to_vec(), dbias.to_vec()]
            };
            let (mut dx, mut in_place) = (run.empty(x.len()), run.holding(&dy));
            let [dweight, dbias] = backward(Some(&run.holding(&dy)), Some(&mut dx));
            backward(None, Some(&mut in_place));
            assert_eq!(&*dx, &*in_place, "other gradients in place");
            [y.to_vec(), dx.to_vec(), dweight, dbias]
        }) {
            let (weight, bias, before) = (double(&weight), double(&bias), double(&before));
            let doubt = (16.0 + 4.0 * (channels as f64).sqrt()) * EPSILON;
            let mut sums = vec![[0.0; 2]; channels];
            let mut largest = 1.0_f64;
            for row in 0..rows {
                let range = row * channels..(row + 1) * channels;
                let (x, dy) = (double(&x[range.clone()]), double(&dy[range.clone()]));
                let [mean, inverse, most] = statistics(&x, norm.epsilon);
                let normal: Vec<f64> = x.iter().map(|x| (x - mean) * inverse).collect();
                let size = (most * inverse).max(1.0);
                largest = largest.max(size);
                let exact: Vec<_> = (0..channels)
                    .map(|c| Exact { value: normal[c] * weight[c] + bias[c], tolerance: doubt * (weight[c] * size + bias[c].abs()) })
                    .collect();
                assert_close(&format!("{what} y of row {row}"), &y[range.clone()], &exact);
                let g: Vec<f64> = dy.iter().zip(&weight).map(|(dy, weight)| dy * weight).collect();
                let sum = g.iter().sum::<f64>() / channels as f64;
                let product = g.iter().zip(&normal).map(|(g, normal)| g * normal).sum::<f64>() / channels as f64;
                let exact: Vec<_> = (0..channels)
                    .map(|c| Exact {
                        value: inverse * (g[c] - sum - normal[c] * product),
                        tolerance: doubt * 1.5 * inverse * (1.0 + size * size),
                    })
                    .collect();
                assert_close(&format!("{what} dx of row {row}"), &dx[range], &exact);
                for (sums, (dy, normal)) in sums.iter_mut().zip(dy.iter().zip(&normal)) {
                    *sums = [sums[0] + dy * normal, sums[1] + dy];
                }
            }
            let doubt = (16.0 + 4.0 * (channels as f64).sqrt() + 4.0 * (rows as f64).sqrt()) * EPSILON;
            for (which, (found, size)) in [(&dweight, largest), (&dbias, 1.0)].into_iter().enumerate() {
                let tolerance = doubt * (1.0 + (rows as f64).sqrt() * size);
                let exact: Vec<_> =
                    sums.iter().zip(&before).map(|(sums, before)| Exact { value: before + sums[which], tolerance }).collect();
                assert_close(&format!("{what} parameter {which}"), found, &exact);
            }
        }
    });
}
