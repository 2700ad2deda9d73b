//! Pooling: maximum, mean and L_p norm of windows.

use convnet_kernels::pool::{NO_ELEMENT, PoolShape, average_backward, average_forward, lp_backward, lp_forward, max_backward, max_forward};
use convnet_kernels::window::{Axis, Rounding, Window};

use crate::random::Random;
use crate::runs::{Exact, Runs, assert_close, numbers, random_cases};

/// How the windows of one axis lie.
#[derive(Clone, Copy, Debug)]
enum Windows {
    Sliding(Axis),
    /// As many as there are outputs.
    Adaptive(usize),
}

/// A pooling, with all that its definition needs.
#[derive(Clone, Debug)]
struct Pool {
    n: usize,
    c: usize,
    size: [usize; 2],
    windows: [Windows; 2],
    shape: PoolShape,
}

/// The elements of one axis in one window, and how many places of it lie in the padded input.
struct Covered {
    elements: Vec<usize>,
    padded: usize,
    kernel: usize,
}

fn random_axis(random: &mut Random) -> Axis {
    let largest = [9, 3, 3, 3][random.below(4)];
    let size = random.within(1, largest);
    let dilation = [1, 1, 1, 2, 3][random.below(5)];
    Axis { size, stride: random.within(1, 4), pad_before: random.below(size + 1), pad_after: random.below(size + 1), dilation }
}

impl Pool {
    /// `dilated`: whether windows may have gaps.
    fn random(random: &mut Random, dilated: bool) -> Self {
        loop {
            let n = random.within(1, 4);
            let c = [1, random.within(2, 8), random.within(9, 70), 16 * random.within(1, 5)][random.below(4)];
            let largest = [1, 4, 14][random.below(3)];
            let size = [random.within(1, largest), random.within(1, largest)];
            let pool = if random.below(4) == 0 {
                let output = [random.within(1, 6), random.within(1, 6)];
                let shape = PoolShape::adaptive(n, c, size, output);
                shape.map(|shape| Self { n, c, size, windows: output.map(Windows::Adaptive), shape })
            } else {
                let mut axes = [random_axis(random), random_axis(random)];
                if !dilated {
                    axes = axes.map(|axis| axis.dilation(1));
                }
                let rounding = [Rounding::Floor, Rounding::Ceil][random.below(2)];
                let shape = PoolShape::sliding(n, c, size, Window { h: axes[0], w: axes[1] }, rounding);
                shape.map(|shape| Self { n, c, size, windows: axes.map(Windows::Sliding), shape })
            };
            if let Ok(pool) = pool {
                return pool;
            }
        }
    }

    fn covered(&self, axis: usize, output: usize) -> Covered {
        let input = self.size[axis];
        match self.windows[axis] {
            Windows::Sliding(Axis { size, stride, pad_before, pad_after, dilation }) => {
                let places: Vec<usize> = (0..size).map(|tap| output * stride + tap * dilation).collect();
                let inside = |&&place: &&usize| place >= pad_before && place < pad_before + input;
                Covered {
                    elements: places.iter().filter(inside).map(|place| place - pad_before).collect(),
                    padded: places.iter().filter(|place| **place < pad_before + input + pad_after).count(),
                    kernel: size,
                }
            }
            Windows::Adaptive(outputs) => {
                let elements: Vec<usize> =
                    (0..input).filter(|i| (i + 1) * outputs > output * input && i * outputs < (output + 1) * input).collect();
                let count = elements.len();
                Covered { elements, padded: count, kernel: count }
            }
        }
    }

    /// Calls `visit(place of an output, places of its elements, places in the padded input, places of the kernel)`.
    fn windows(&self, mut visit: impl FnMut(usize, &[usize], f64, f64)) {
        let [height, width] = self.size;
        let mut place = 0;
        for n in 0..self.n {
            for oy in 0..self.shape.oh() {
                for ox in 0..self.shape.ow() {
                    let [rows, cols] = [self.covered(0, oy), self.covered(1, ox)];
                    for c in 0..self.c {
                        let row = |&y: &usize| cols.elements.iter().map(move |x| ((n * height + y) * width + x) * self.c + c);
                        let elements: Vec<usize> = rows.elements.iter().flat_map(row).collect();
                        visit(place, &elements, (rows.padded * cols.padded) as f64, (rows.kernel * cols.kernel) as f64);
                        place += 1;
                    }
                }
            }
        }
        assert_eq!(place, self.shape.output_len());
    }

    fn pixel(&self, place: usize) -> u32 {
        (place / self.c % (self.size[0] * self.size[1])) as u32
    }
}

#[test]
fn the_maximum_is_the_first_of_the_largest_and_takes_the_gradient() {
    let runs = Runs::new();
    random_cases(200, |seed, random| {
        let pool = Pool::random(random, true);
        let what = format!("{seed} max {pool:?}");
        // Few different values, so that many are equal.
        let value = |random: &mut Random| [f32::NEG_INFINITY, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0][random.below(7)];
        let mut x: Vec<f32> = (0..pool.shape.input_len()).map(|_| value(random)).collect();
        if random.below(3) == 0 {
            let place = random.below(x.len());
            x[place] = f32::NAN;
        }
        let dy: Vec<f32> = (0..pool.shape.output_len()).map(|_| random.within(1, 9) as f32).collect();
        let [y, indices, dx] = runs.same(&what, |run| {
            let (x, dy) = (run.holding(&x), run.holding(&dy));
            let (mut y, mut without, mut dx) = (run.empty(dy.len()), run.empty(dy.len()), run.empty(x.len()));
            let mut indices = run.empty::<u32>(dy.len());
            max_forward(&run.machine, &pool.shape, &x, &mut y, &mut indices);
            max_forward(&run.machine, &pool.shape, &x, &mut without, &mut []);
            max_backward(&run.machine, &pool.shape, &dy, &indices, &mut dx);
            assert!(y.iter().zip(&*without).all(|(y, without)| y == without || y.is_nan() && without.is_nan()), "{what}");
            // A NaN may come out with any sign.
            let y = y.iter().map(|&y| if y.is_nan() { f32::NAN } else { y }).collect();
            [y, indices.iter().map(|&index| f32::from_bits(index)).collect(), dx.to_vec()]
        });
        let mut exact_dx = vec![0.0; x.len()];
        pool.windows(|place, elements, _, _| {
            let larger = |best: usize, next: usize| if x[best].is_nan() || x[next] <= x[best] { best } else { next };
            let best = elements.iter().copied().reduce(larger);
            let exact = best.map_or(f32::NEG_INFINITY, |best| x[best]);
            assert!(y[place] == exact || y[place].is_nan() && exact.is_nan(), "{what}: number {place} is {}, not {exact}", y[place]);
            let index = best.map_or(NO_ELEMENT, |best| pool.pixel(best));
            assert_eq!(indices[place].to_bits(), index, "{what}: index {place}");
            if let Some(best) = best {
                exact_dx[best] += dy[place];
            }
        });
        assert_eq!(dx, exact_dx, "{what}");
    });
}

#[test]
fn the_mean_is_the_sum_over_the_elements_that_count() {
    let runs = Runs::new();
    random_cases(200, |seed, random| {
        let (pool, count_padding) = (Pool::random(random, false), random.below(2) == 0);
        let what = format!("{seed} average {count_padding} {pool:?}");
        let x = numbers(random, pool.shape.input_len(), -1.0, 1.0);
        let dy = numbers(random, pool.shape.output_len(), -1.0, 1.0);
        let (mut exact, mut shares) = (Vec::new(), vec![Vec::new(); x.len()]);
        pool.windows(|place, elements, padded, _| {
            let divisor = if count_padding { padded } else { elements.len() as f64 }.max(1.0);
            exact.push(Exact::sum(elements.iter().map(|&element| f64::from(x[element]) / divisor)));
            elements.iter().for_each(|&element| shares[element].push(f64::from(dy[place]) / divisor));
        });
        let exact_dx: Vec<_> = shares.into_iter().map(Exact::sum).collect();
        for (what, [y, dx]) in runs.each(&what, |run| {
            let (x, dy, mut y, mut dx) = (run.holding(&x), run.holding(&dy), run.empty(dy.len()), run.empty(x.len()));
            average_forward(&run.machine, &pool.shape, count_padding, &x, &mut y);
            average_backward(&run.machine, &pool.shape, count_padding, &dy, &mut dx);
            [y.to_vec(), dx.to_vec()]
        }) {
            assert_close(&what, &y, &exact);
            assert_close(&format!("{what} gradient"), &dx, &exact_dx);
        }
    });
}

#[test]
fn the_norm_is_the_root_of_the_sum_of_powers_and_has_no_slope_at_zero() {
    let runs = Runs::new();
    random_cases(100, |seed, random| {
        let (pool, p) = (Pool::random(random, false), [1.0, 2.0, 2.5, 3.0][random.below(4)]);
        let what = format!("{seed} norm {p} {pool:?}");
        let zeros = [0, 2, 9][random.below(3)];
        let number = |random: &mut Random| if random.below(10) < zeros { 0.0 } else { random.between(0.1, 2.0) };
        let x: Vec<f32> = (0..pool.shape.input_len()).map(|_| number(random)).collect();
        let dy = numbers(random, pool.shape.output_len(), -1.0, 1.0);
        let (mut exact, mut shares) = (Vec::new(), vec![Vec::new(); x.len()]);
        pool.windows(|place, elements, padded, kernel| {
            let scale = kernel / padded.max(1.0);
            let sum = Exact::sum(elements.iter().map(|&element| scale * f64::from(x[element]).powf(p)));
            let root = sum.value.powf(1.0 / p);
            exact.push(Exact { value: root, tolerance: 4.0 * if root > 0.0 { sum.tolerance * root / sum.value } else { 0.0 } });
            for &element in elements.iter().filter(|_| root > 0.0 || p == 1.0) {
                let slope = if p == 1.0 { scale } else { scale * (f64::from(x[element]) / root).powf(p - 1.0) };
                shares[element].push(f64::from(dy[place]) * slope);
            }
        });
        let wider = |sum: Exact| Exact { tolerance: 4.0 * sum.tolerance, ..sum };
        let exact_dx: Vec<_> = shares.into_iter().map(|terms| wider(Exact::sum(terms))).collect();
        for (what, [y, dx]) in runs.each(&what, |run| {
            let (x, dy, mut y, mut dx) = (run.holding(&x), run.holding(&dy), run.empty(dy.len()), run.empty(x.len()));
            lp_forward(&run.machine, &pool.shape, p as f32, &x, &mut y);
            lp_backward(&run.machine, &pool.shape, p as f32, &x, &y, &dy, &mut dx);
            [y.to_vec(), dx.to_vec()]
        }) {
            assert_close(&what, &y, &exact);
            assert_close(&format!("{what} gradient"), &dx, &exact_dx);
        }
    });
}
