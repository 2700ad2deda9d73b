//! How gradients change parameters.

use convnet_kernels::update::{Adam, Momentum, adam, approach, descent, momentum};

use crate::runs::{EPSILON, Exact, Runs, assert_close, numbers, random_cases, rows_and_channels};

#[test]
fn every_update_is_its_formula_with_the_same_bits_everywhere() {
    let runs = Runs::new();
    random_cases(50, |seed, random| {
        let [rows, channels] = rows_and_channels(random);
        let length = rows * channels - random.below(2);
        let what = format!("{seed} update of {length}");
        let [g, p, v, m] = std::array::from_fn(|_| numbers(random, length, -1.0, 1.0));
        let s = numbers(random, length, 0.0, 1.0);
        let (keep, rate, retain, take) = (0.99, 0.1, 0.9, 0.5);
        let look_ahead = (random.below(2) == 0).then_some(0.9);
        let (beta1, beta2, correction, epsilon) = (0.9, 0.999, 3.0, 1e-8);
        let results = runs.same(&what, |run| {
            let machine = &run.machine;
            let g = run.holding(&g);
            let [mut descended, mut moved, mut adapted, mut averaged] = std::array::from_fn(|_| run.holding(&p));
            let (mut v, mut m, mut s) = (run.holding(&v), run.holding(&m), run.holding(&s));
            descent(machine, keep, rate, &g, &mut descended);
            momentum(machine, &Momentum { keep, rate, retain, take, look_ahead }, &g, &mut v, &mut moved);
            adam(machine, &Adam { keep, rate, beta1, beta2, correction, epsilon }, &g, &mut m, &mut s, &mut adapted);
            approach(machine, 0.01, &g, &mut averaged);
            [&descended, &v, &moved, &m, &s, &adapted, &averaged].map(|buffer| buffer.to_vec())
        });
        let exact = (0..length).map(|place| {
            let [g, p, v, m, s] = [&g, &p, &v, &m, &s].map(|list| f64::from(list[place]));
            let v = retain * v + take * g;
            let push = look_ahead.map_or(v, |look_ahead| g + look_ahead * v);
            let (m, s) = (beta1 * m + (1.0 - beta1) * g, beta2 * s + (1.0 - beta2) * g * g);
            let divisor = correction * s.sqrt() + epsilon;
            let adapted = keep * p - rate * m / divisor;
            let mut exact = [keep * p - rate * g, v, keep * p - rate * push, m, s, adapted, p + 0.01 * (g - p)]
                .map(|value| Exact { value, tolerance: 4.0 * EPSILON });
            exact[5].tolerance *= 1.0 + rate / divisor;
            exact
        });
        let exact: Vec<_> = exact.collect();
        for (which, found) in results.iter().enumerate() {
            assert_close(&format!("{what} result {which}"), found, &exact.iter().map(|exact| exact[which]).collect::<Vec<_>>());
        }
    });
}
