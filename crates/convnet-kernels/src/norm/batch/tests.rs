use super::*;
use crate::Isa;

const EPSILON: f64 = 1e-5;

/// Numbers that depend on their place alone, with a mean and a deviation of about 0 and 1 for every channel.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let uniform = |place: usize| {
        let mixed = (place as u32).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(0x85eb_ca6b);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d);
        (mixed ^ (mixed >> 12)).wrapping_mul(0x297a_2d39) >> 8
    };
    (0..count).map(|place| uniform(place) as f32 / (1 << 24) as f32 * 3.46 - 1.73).collect()
}

struct Outcome {
    statistics: Vec<f32>,
    y: Vec<f32>,
    /// The output with a residual and a ReLU.
    added: Vec<f32>,
    dx: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
}

fn run(machine: &Machine, norm: BatchNorm, x: &[f32], relu: bool) -> Outcome {
    let (count, channels) = (x.len(), norm.channels);
    let (weight, bias, residual, dy) = (numbers(channels, 1), numbers(channels, 2), numbers(count, 3), numbers(count, 4));
    let mut out = Outcome {
        statistics: vec![0.0; STATISTICS * channels],
        y: vec![0.0; count],
        added: vec![0.0; count],
        dx: vec![f32::NAN; count],
        dweight: vec![0.0; channels],
        dbias: vec![0.0; channels],
    };
    norm.batch_statistics(machine, x, &mut out.statistics, &mut vec![f32::NAN; norm.statistics_scratch()]);
    for (residual, relu, y) in [(None, relu, &mut out.y), (Some(&residual[..]), true, &mut out.added)] {
        let (affine, scratch) = (Some([&weight[..], &bias]), &mut vec![f32::NAN; norm.forward_scratch()]);
        norm.forward(machine, Forward { x: Some(x), statistics: &out.statistics, affine, residual, relu, y, scratch });
    }
    norm.backward(
        machine,
        Backward {
            x,
            dy: Some(&dy),
            relu,
            statistics: &out.statistics,
            of_batch: true,
            affine: Some([&weight, &bias]),
            dx: Some(&mut out.dx),
            daffine: Some([&mut out.dweight, &mut out.dbias]),
            scratch: &mut vec![f32::NAN; norm.backward_scratch()],
        },
    );
    out
}

/// The same by the definition, in `f64`: output, that with a residual and a ReLU, gradient of the input, of the weight and of the
/// bias.
fn defined(norm: BatchNorm, x: &[f32], relu: bool) -> [Vec<f64>; 5] {
    let (count, channels) = (x.len(), norm.channels);
    let [weight, bias, residual, dy] = [numbers(channels, 1), numbers(channels, 2), numbers(count, 3), numbers(count, 4)];
    let m = norm.rows as f64;
    let mut out = [vec![0.0; count], vec![0.0; count], vec![0.0; count], vec![0.0; channels], vec![0.0; channels]];
    for channel in 0..channels {
        let places = || (channel..count).step_by(channels);
        let at = |values: &[f32], place: usize| f64::from(values[place]);
        let mean = places().map(|place| at(x, place)).sum::<f64>() / m;
        let variance = places().map(|place| (at(x, place) - mean).powi(2)).sum::<f64>() / m;
        let inverse = 1.0 / (variance + norm.epsilon).sqrt();
        let normal = |place: usize| (at(x, place) - mean) * inverse;
        let (weight, bias) = (at(&weight, channel), at(&bias, channel));
        let mut d = vec![0.0; count];
        for place in places() {
            let value = normal(place) * weight + bias;
            out[0][place] = if relu { value.max(0.0) } else { value };
            out[1][place] = (value + at(&residual, place)).max(0.0);
            d[place] = if relu && value <= 0.0 { 0.0 } else { at(&dy, place) };
        }
        out[3][channel] = places().map(|place| d[place] * normal(place)).sum();
        out[4][channel] = places().map(|place| d[place]).sum();
        for place in places() {
            out[2][place] = weight * inverse * (d[place] - out[4][channel] / m - normal(place) * out[3][channel] / m);
        }
    }
    out
}

fn largest_difference(values: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(values.len(), exact.len());
    values.iter().zip(exact).map(|(&value, exact)| (f64::from(value) - exact).abs()).fold(0.0, f64::max)
}

#[test]
fn both_passes_equal_the_definition_on_every_instruction_set() {
    for (rows, channels) in [(2, 5), (7, 1), (90, 8), (1300, 3), (500, 64), (3000, 100), (40, 700)] {
        let norm = BatchNorm { rows, channels, epsilon: EPSILON };
        let x = numbers(rows * channels, 9);
        for (isa, relu) in Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, true)]) {
            let out = run(&Machine::new(isa, 2), norm, &x, relu);
            let [y, added, dx, dweight, dbias] = defined(norm, &x, relu);
            // Two numbers per channel can be so near each other that 1/σ is large.
            let unit =
                f64::from(f32::EPSILON) * f64::from(out.statistics[2 * channels..3 * channels].iter().fold(1.0, |a: f32, &b| a.max(b)));
            let problem = format!("{isa}, {rows} rows, {channels} channels, relu {relu}");
            assert!(largest_difference(&out.y, &y) <= 8.0 * unit, "{problem}: y");
            assert!(largest_difference(&out.added, &added) <= 8.0 * unit, "{problem}: with a residual");
            assert!(largest_difference(&out.dx, &dx) <= 16.0 * unit, "{problem}: dx");
            for (sums, exact) in [(&out.dweight, &dweight), (&out.dbias, &dbias)] {
                let largest = exact.iter().fold(0.0_f64, |largest, sum| largest.max(sum.abs()));
                assert!(largest_difference(sums, exact) <= 4.0 * unit * ((rows as f64).sqrt() + largest), "{problem}: sums");
            }
        }
    }
}

#[test]
fn a_large_mean_and_an_odd_first_value_cost_no_accuracy() {
    let (rows, channels) = (20_000, 12);
    let norm = BatchNorm { rows, channels, epsilon: 0.0 };
    for (mean, deviation) in [(1e4_f32, 1.0_f32), (-3e5, 10.0), (1e-3, 1e-6)] {
        let mut x: Vec<f32> = numbers(rows * channels, 5).iter().map(|x| mean + deviation * x).collect();
        // The value from which differences are taken is then far from the mean.
        x[..channels].fill(mean + 100.0 * deviation);
        let mut statistics = vec![0.0_f32; STATISTICS * channels];
        let scratch = &mut vec![0.0; norm.statistics_scratch()];
        norm.batch_statistics(&Machine::new(Isa::detect(), 2), &x, &mut statistics, scratch);
        for channel in 0..channels {
            let values = || x.iter().skip(channel).step_by(channels).map(|&x| f64::from(x));
            let exact = values().sum::<f64>() / rows as f64;
            let variance = values().map(|x| (x - exact).powi(2)).sum::<f64>() / rows as f64;
            let found = f64::from(statistics[channel]) + f64::from(statistics[channels + channel]);
            assert!((found - exact).abs() <= 1e-6 * variance.sqrt(), "mean {mean}: {found} instead of {exact}");
            let found = f64::from(statistics[3 * channels + channel]);
            assert!((found / variance - 1.0).abs() <= 2e-6, "mean {mean}: variance {found} instead of {variance}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (rows, channels) in [(30_000, 8), (3000, 96)] {
        let norm = BatchNorm { rows, channels, epsilon: EPSILON };
        let x = numbers(rows * channels, 6);
        for isa in Isa::available() {
            let one = run(&Machine::new(isa, 1), norm, &x, true);
            for threads in [2, 3, 8] {
                let many = run(&Machine::new(isa, threads), norm, &x, true);
                assert_eq!(one.statistics, many.statistics);
                assert_eq!([&one.y, &one.added, &one.dx], [&many.y, &many.added, &many.dx]);
                assert_eq!([&one.dweight, &one.dbias], [&many.dweight, &many.dbias]);
            }
        }
    }
}

#[test]
fn constant_statistics_give_the_gradient_of_a_straight_line() {
    let norm = BatchNorm { rows: 3, channels: 2, epsilon: 0.0 };
    let mut statistics = [0.0_f64; STATISTICS * 2];
    norm.running_statistics(&[1.0, -1.0], &[4.0, 0.25], &mut statistics);
    let (x, mut y) = ([3.0, 0.0, 1.0, 0.0, -1.0, -1.0], [0.0; 6]);
    let mut dx = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let affine = [&[3.0, 1.0][..], &[0.5, 0.0]];
    let (machine, scratch) = (Machine::new(Isa::detect(), 1), &mut vec![0.0; norm.backward_scratch()]);
    y.copy_from_slice(&x);
    norm.forward(
        &machine,
        Forward { x: None, statistics: &statistics, affine: Some(affine), residual: None, relu: false, y: &mut y, scratch },
    );
    assert_eq!(y, [3.5, 2.0, 0.5, 2.0, -2.5, 0.0]);
    let (mut dweight, mut dbias) = ([1.0, 1.0], [1.0, 1.0]);
    norm.backward(
        &machine,
        Backward {
            x: &x,
            dy: None,
            relu: false,
            statistics: &statistics,
            of_batch: false,
            affine: Some(affine),
            dx: Some(&mut dx),
            daffine: Some([&mut dweight, &mut dbias]),
            scratch,
        },
    );
    assert_eq!(dx, [1.5, 4.0, 4.5, 8.0, 7.5, 12.0]);
    assert_eq!((dweight, dbias), ([1.0 + 1.0 - 5.0, 1.0 + 4.0 + 8.0], [10.0, 13.0]));
}
