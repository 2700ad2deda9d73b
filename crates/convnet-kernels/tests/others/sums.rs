//! Routines that add up: reductions to one number, sums of columns, and a factor for each channel with its gradient.

use convnet_kernels::columns::{add_column_sums, column_sums_scratch};
use convnet_kernels::reduce::{argmax, has_non_finite, max, sum, sum_of_squares};
use convnet_kernels::scale::{gradient_scratch, scale, scale_gradient, scale_scratch};

use crate::runs::{EPSILON, Exact, Runs, assert_close, numbers, random_cases, rows_and_channels};

#[test]
fn one_number_from_many_is_its_definition() {
    let runs = Runs::new();
    random_cases(60, |seed, random| {
        let [rows, channels] = rows_and_channels(random);
        let length = rows * channels - random.below(2);
        // Few different values, so that the largest is there several times.
        let mut x: Vec<f32> = (0..length).map(|_| random.below(500) as f32 / 8.0 - 30.0).collect();
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0][random.below(4)];
        let is_odd = odd != 0.0 && length > 0 && random.below(2) == 0;
        if is_odd {
            let place = random.below(length);
            x[place] = odd;
        }
        let what = format!("{seed} reduction of {length}");
        let finite = || x.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x));
        let most = x.iter().copied().filter(|x| !x.is_nan()).fold(f32::NEG_INFINITY, f32::max);
        let first = x.iter().position(|&x| x == most);
        for (what, [found]) in runs.each(&what, |run| {
            let (machine, x) = (&run.machine, run.holding(&x));
            assert_eq!(max(machine, &x), most, "{what}");
            assert_eq!(argmax(machine, &x), first, "{what}");
            assert_eq!(has_non_finite(machine, &x), is_odd, "{what}");
            let sums = [sum(machine, &x), sum_of_squares(machine, &x)];
            if !is_odd {
                // Multiples of 1/8, and their squares, are added exactly in `f64`.
                assert_eq!(sums, [finite().sum::<f64>(), finite().map(|x| x * x).sum::<f64>()], "{what}");
            }
            [sums.iter().flat_map(|sum| [(sum.to_bits() >> 32) as u32, sum.to_bits() as u32]).map(f32::from_bits).collect()]
        }) {
            assert_eq!(found.len(), 4, "{what}");
        }
    });
}

#[test]
fn the_sums_of_columns_are_added_to_what_was_there() {
    let runs = Runs::new();
    random_cases(60, |seed, random| {
        let [rows, columns] = rows_and_channels(random);
        let (x, before) = (numbers(random, rows * columns, -1.0, 1.0), numbers(random, columns, -1.0, 1.0));
        let what = format!("{seed} column sums of {rows}x{columns}");
        let column = |column: usize| x.iter().skip(column).step_by(columns).chain([&before[column]]).map(|&x| f64::from(x));
        let exact: Vec<_> = (0..columns).map(|index| Exact::sum(column(index))).collect();
        for (what, [sums]) in runs.each(&what, |run| {
            let (x, mut sums) = (run.holding(&x), run.holding(&before));
            let mut scratch = run.empty(column_sums_scratch(x.len(), columns));
            add_column_sums(&run.machine, &x, &mut sums, &mut scratch);
            [sums.to_vec()]
        }) {
            assert_close(&what, &sums, &exact);
        }
    });
}

#[test]
fn a_factor_for_each_channel_is_its_formula_in_both_directions() {
    let runs = Runs::new();
    random_cases(60, |seed, random| {
        let [rows, channels] = rows_and_channels(random);
        let [x, dy] = std::array::from_fn(|_| numbers(random, rows * channels, -1.0, 1.0));
        let [weight, before] = std::array::from_fn(|_| numbers(random, channels, -1.0, 1.0));
        let what = format!("{seed} scale of {rows}x{channels}");
        let product = |a: f32, b: f32| f64::from(a) * f64::from(b);
        let exact = x.iter().enumerate().map(|(place, &x)| {
            let value = product(x, weight[place % channels]);
            Exact { value, tolerance: EPSILON * value.abs() }
        });
        let exact: Vec<_> = exact.collect();
        let column =
            |column: usize| (column..x.len()).step_by(channels).map(|place| product(x[place], dy[place])).chain([before[column].into()]);
        let exact_dweight: Vec<_> = (0..channels).map(|index| Exact::sum(column(index))).collect();
        for (what, [y, in_place, dweight]) in runs.each(&what, |run| {
            let (x, dy, weight) = (run.holding(&x), run.holding(&dy), run.holding(&weight));
            let (mut y, mut in_place, mut dweight) = (run.empty(x.len()), run.holding(&x), run.holding(&before));
            let mut scratch = run.empty(scale_scratch(rows, channels));
            scale(&run.machine, Some(&x), &weight, &mut y, &mut scratch);
            scale(&run.machine, None, &weight, &mut in_place, &mut scratch);
            let mut scratch = run.empty(gradient_scratch(rows, channels));
            scale_gradient(&run.machine, &x, &dy, &mut dweight, &mut scratch);
            [y.to_vec(), in_place.to_vec(), dweight.to_vec()]
        }) {
            assert_eq!(y, in_place, "{what}");
            assert_close(&what, &y, &exact);
            assert_close(&format!("{what} gradient"), &dweight, &exact_dweight);
        }
    });
}
