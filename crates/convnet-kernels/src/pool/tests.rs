//! Every routine against the definition, for every instruction set, several channel counts and both number types.

use super::*;
use crate::{Isa, Machine, Real};

/// Sliding windows with every kind of setting, and adaptive ones.
fn shapes(n: usize, c: usize) -> Vec<PoolShape> {
    let axis = |size: usize, stride: usize, before: usize, after: usize, dilation: usize| Axis {
        size,
        stride,
        pad_before: before,
        pad_after: after,
        dilation,
    };
    let sliding = [
        (axis(2, 2, 0, 0, 1), axis(2, 2, 0, 0, 1), [6, 8], Rounding::Floor),
        (axis(2, 2, 0, 0, 1), axis(2, 2, 0, 0, 1), [7, 9], Rounding::Ceil),
        (axis(3, 2, 1, 1, 1), axis(3, 2, 1, 1, 1), [8, 7], Rounding::Ceil),
        (axis(3, 1, 1, 1, 1), axis(2, 3, 0, 1, 1), [5, 8], Rounding::Floor),
        (axis(1, 2, 0, 0, 1), axis(3, 2, 0, 1, 1), [6, 6], Rounding::Ceil),
        (axis(3, 2, 1, 0, 2), axis(2, 1, 1, 1, 3), [9, 7], Rounding::Floor),
        (axis(2, 1, 1, 1, 3), axis(5, 5, 0, 0, 1), [2, 5], Rounding::Floor),
    ];
    let sliding = sliding.map(|(h, w, size, rounding)| PoolShape::sliding(n, c, size, Window { h, w }, rounding).unwrap());
    let adaptive =
        [([5, 6], [1, 1]), ([7, 10], [3, 4]), ([3, 2], [7, 5])].map(|(input, output)| PoolShape::adaptive(n, c, input, output).unwrap());
    sliding.into_iter().chain(adaptive).collect()
}

/// The elements of a window of one axis by its definition, without any of the short cuts.
fn elements(axis: &PoolAxis, output: usize) -> Vec<usize> {
    match axis.windows {
        Windows::Sliding(window) => window.taps(output, axis.input).map(|tap| window.position(output, tap) as usize).collect(),
        Windows::Adaptive => {
            let ratio = axis.input as f64 / axis.output as f64;
            ((output as f64 * ratio + 1e-9).floor() as usize..((output + 1) as f64 * ratio - 1e-9).ceil() as usize).collect()
        }
    }
}

/// Calls `visit(output, inputs)` with the place of each output number and those of its window, row by row.
fn windows(shape: &PoolShape, mut visit: impl FnMut(usize, Vec<usize>)) {
    for place in 0..shape.output_len() {
        let (c, rest) = (place % shape.c, place / shape.c);
        let (ox, rest) = (rest % shape.ow(), rest / shape.ow());
        let (oy, n) = (rest % shape.oh(), rest / shape.oh());
        let mut inputs = Vec::new();
        for iy in elements(&shape.h, oy) {
            for ix in elements(&shape.w, ox) {
                inputs.push(((n * shape.h.input + iy) * shape.w.input + ix) * shape.c + c);
            }
        }
        visit(place, inputs);
    }
}

/// Whole numbers, many of them equal.
fn numbers<T: Real>(count: usize, seed: usize) -> Vec<T> {
    (0..count).map(|place| T::from_f64(((place * 7919 + seed) % 23) as f64 - 11.0)).collect()
}

fn check_all(check: impl Fn(&Machine, &PoolShape)) {
    for isa in Isa::available() {
        for c in [1, 3, 8, 11, 32, 45] {
            for shape in shapes(2, c) {
                check(&Machine::new(isa, 2), &shape);
            }
        }
    }
}

fn max_is_its_definition<T: Real>(machine: &Machine, shape: &PoolShape) {
    let mut x: Vec<T> = numbers(shape.input_len(), 1);
    for place in (5..x.len()).step_by(17) {
        x[place] = T::from_f64(f64::NAN);
    }
    for place in (3..x.len()).step_by(7) {
        x[place] = T::NEG_INFINITY;
    }
    let dy: Vec<T> = numbers(shape.output_len(), 2);
    let (mut y, mut indices) = (vec![T::ZERO; dy.len()], vec![0; dy.len()]);
    let (mut without, mut dx) = (y.clone(), vec![T::from_f64(f64::NAN); x.len()]);
    max_forward(machine, shape, &x, &mut y, &mut indices);
    max_forward(machine, shape, &x, &mut without, &mut []);
    max_backward(machine, shape, &dy, &indices, &mut dx);
    let mut expected_dx = vec![T::ZERO; x.len()];
    windows(shape, |place, inputs| {
        let mut best = inputs.first().copied();
        for input in inputs {
            let so_far = best.map_or(T::NEG_INFINITY, |best| x[best]);
            if !so_far.is_nan() && (x[input] > so_far || x[input].is_nan()) {
                best = Some(input);
            }
        }
        let expected = best.map_or(T::NEG_INFINITY, |best| x[best]);
        let pixels = shape.h.input * shape.w.input;
        let index = best.map_or(NO_ELEMENT, |best| (best / shape.c % pixels) as u32);
        assert!(y[place] == expected || y[place].is_nan() && expected.is_nan(), "{shape:?}: {} {expected}", y[place]);
        assert!(without[place] == y[place] || y[place].is_nan() && without[place].is_nan(), "{shape:?}");
        assert_eq!(indices[place], index, "{shape:?}");
        if let Some(best) = best {
            expected_dx[best] += dy[place];
        }
    });
    assert_eq!(dx, expected_dx, "{shape:?}");
}

#[test]
fn the_maximum_is_the_first_of_the_largest_and_takes_the_gradient() {
    check_all(|machine, shape| {
        max_is_its_definition::<f32>(machine, shape);
        max_is_its_definition::<f64>(machine, shape);
    });
}

/// A sum, and the sum of its terms' magnitudes, which its rounding errors are in proportion to.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    magnitude: f64,
}

impl Sum {
    fn add(&mut self, term: f64) {
        self.value += term;
        self.magnitude += term.abs();
    }
}

fn assert_close<T: Real>(found: &[T], expected: &[Sum], shape: &PoolShape) {
    for (place, (&found, &Sum { value: expected, magnitude })) in found.iter().zip(expected).enumerate() {
        let (found, tolerance) = (found.to_f64(), 8.0 * T::EPSILON.to_f64() * magnitude);
        assert!((found - expected).abs() <= tolerance, "{shape:?} at {place}: {found}, not {expected}");
    }
}

/// What Torch divides by: the elements of the window inside the input, or inside the padded input.
fn counted(axis: &PoolAxis, output: usize, count_padding: bool) -> usize {
    match axis.windows {
        Windows::Sliding(window) if count_padding => {
            let end = (axis.input + window.pad_after) as isize;
            (0..window.size).filter(|&tap| window.position(output, tap) < end).count()
        }
        _ => elements(axis, output).len(),
    }
}

fn divisor(shape: &PoolShape, place: usize, count_padding: bool) -> f64 {
    let (oy, ox) = (place / shape.c / shape.ow() % shape.oh(), place / shape.c % shape.ow());
    let count = counted(&shape.h, oy, count_padding) * counted(&shape.w, ox, count_padding);
    count.max(1) as f64
}

fn is_dilated(shape: &PoolShape) -> bool {
    [shape.h, shape.w].iter().any(|axis| matches!(axis.windows, Windows::Sliding(window) if window.dilation > 1))
}

fn average_is_its_definition<T: Real>(machine: &Machine, shape: &PoolShape, count_padding: bool) {
    let (x, dy): (Vec<T>, Vec<T>) = (numbers(shape.input_len(), 1), numbers(shape.output_len(), 2));
    let (mut y, mut dx) = (vec![T::ZERO; dy.len()], vec![T::from_f64(f64::NAN); x.len()]);
    average_forward(machine, shape, count_padding, &x, &mut y);
    average_backward(machine, shape, count_padding, &dy, &mut dx);
    let (mut expected, mut expected_dx) = (vec![Sum::default(); y.len()], vec![Sum::default(); x.len()]);
    windows(shape, |place, inputs| {
        let divisor = divisor(shape, place, count_padding);
        for input in inputs {
            expected[place].add(x[input].to_f64() / divisor);
            expected_dx[input].add(dy[place].to_f64() / divisor);
        }
    });
    assert_close(&y, &expected, shape);
    assert_close(&dx, &expected_dx, shape);
}

#[test]
fn the_average_divides_by_what_torch_divides_by() {
    check_all(|machine, shape| {
        for count_padding in [false, true].into_iter().filter(|_| !is_dilated(shape)) {
            average_is_its_definition::<f32>(machine, shape, count_padding);
            average_is_its_definition::<f64>(machine, shape, count_padding);
        }
    });
}

fn lp_is_its_definition<T: Real>(machine: &Machine, shape: &PoolShape, p: f64) {
    // Odd powers of negative numbers may have no root: only positive numbers, and whole windows of zeros.
    let mut x: Vec<T> = numbers::<T>(shape.input_len(), 1).iter().map(|x| x.abs() / T::from_f64(4.0)).collect();
    x[..shape.input_image()].fill(T::ZERO);
    let dy: Vec<T> = numbers(shape.output_len(), 2);
    let (mut y, mut dx) = (vec![T::ZERO; dy.len()], vec![T::from_f64(f64::NAN); x.len()]);
    lp_forward(machine, shape, T::from_f64(p), &x, &mut y);
    lp_backward(machine, shape, T::from_f64(p), &x, &y, &dy, &mut dx);
    let (mut expected, mut expected_dx) = (vec![Sum::default(); y.len()], vec![Sum::default(); x.len()]);
    windows(shape, |place, inputs| {
        let kernel = match (shape.h.windows, shape.w.windows) {
            (Windows::Sliding(h), Windows::Sliding(w)) => (h.size * w.size) as f64,
            _ => inputs.len() as f64,
        };
        let scale = kernel / divisor(shape, place, true);
        let sum = inputs.iter().map(|&input| x[input].to_f64().powf(p)).sum::<f64>() * scale;
        expected[place].add(sum.powf(1.0 / p));
        for input in inputs.into_iter().filter(|_| sum > 0.0 || p == 1.0) {
            let slope = if p == 1.0 { scale } else { scale * x[input].to_f64().powf(p - 1.0) * sum.powf((1.0 - p) / p) };
            expected_dx[input].add(dy[place].to_f64() * slope);
        }
    });
    assert_close(&y, &expected, shape);
    assert_close(&dx, &expected_dx, shape);
}

#[test]
fn the_norm_is_its_definition_and_has_no_slope_at_zero() {
    check_all(|machine, shape| {
        for p in [1.0, 2.0, 3.0, 2.5].into_iter().filter(|_| !is_dilated(shape)) {
            lp_is_its_definition::<f32>(machine, shape, p);
            lp_is_its_definition::<f64>(machine, shape, p);
        }
    });
}

#[test]
fn an_odd_norm_of_a_negative_sum_is_not_a_number_as_in_pytorch() {
    let shape = PoolShape::adaptive(1, 1, [1, 2], [1, 1]).unwrap();
    let mut y = [0.0f32];
    lp_forward(&Machine::new(Isa::Portable, 1), &shape, 3.0, &[1.0, -2.0], &mut y);
    assert!(y[0].is_nan());
    lp_forward(&Machine::new(Isa::Portable, 1), &shape, 2.0, &[3.0, -4.0], &mut y);
    assert_eq!(y, [5.0]);
}

#[test]
fn the_example_of_the_course_gives_6_8_3_4() {
    let x = [1., 1., 2., 4., 5., 6., 7., 8., 3., 2., 1., 0., 1., 2., 3., 4.];
    let window = Window::square(Axis::new(2).stride(2));
    let shape = PoolShape::sliding(1, 1, [4, 4], window, Rounding::Floor).unwrap();
    let (mut y, mut indices) = ([0.0f32; 4], [0; 4]);
    max_forward(&Machine::new(Isa::detect(), 1), &shape, &x, &mut y, &mut indices);
    assert_eq!((y, indices), ([6., 8., 3., 4.], [5, 7, 8, 15]));
}

#[test]
fn results_are_the_same_bits_for_any_number_of_threads() {
    let window = Window::square(Axis::new(3).stride(2).pad(1));
    let shape = PoolShape::sliding(3, 40, [31, 33], window, Rounding::Floor).unwrap();
    let x: Vec<f32> = numbers::<f32>(shape.input_len(), 3).iter().map(|x| x / 7.0).collect();
    let run = |threads| {
        let machine = Machine::new(Isa::detect(), threads);
        let (mut y, mut indices, mut dx) = (vec![0.0; shape.output_len()], vec![0; shape.output_len()], vec![0.0; x.len()]);
        let mut all = Vec::new();
        max_forward(&machine, &shape, &x, &mut y, &mut indices);
        max_backward(&machine, &shape, &y, &indices, &mut dx);
        all.push((y.clone(), dx.clone()));
        average_forward(&machine, &shape, true, &x, &mut y);
        average_backward(&machine, &shape, true, &y, &mut dx);
        all.push((y.clone(), dx.clone()));
        all
    };
    let one = run(1);
    assert!([2, 3, 8].into_iter().all(|threads| run(threads) == one));
}

#[test]
fn a_window_beside_the_input_is_found() {
    let shape = |axis: Axis, size, rounding| PoolShape::sliding(1, 1, [size, 4], Window { h: axis, w: Axis::new(1) }, rounding).unwrap();
    assert!(shape(Axis::new(1).stride(2), 6, Rounding::Ceil).has_empty_window());
    assert!(shape(Axis::new(2).dilation(3).pad(1), 2, Rounding::Floor).has_empty_window());
    assert!(!shape(Axis::new(3).stride(2).pad(1), 6, Rounding::Ceil).has_empty_window());
}

#[test]
fn impossible_and_absurd_sizes_are_refused() {
    assert!(PoolShape::adaptive(1, 3, [4, 4], [0, 1]).unwrap_err().contains("at least 1"));
    assert!(PoolShape::adaptive(1, 1 << 40, [1 << 10, 1 << 10], [1, 1]).unwrap_err().contains("too large"));
    assert!(PoolShape::adaptive(1, 1, [1 << 16, 1 << 16], [1, 1]).unwrap_err().contains("more pixels"));
    assert!(PoolShape::sliding(1, 1, [2, 2], Window::new(3, 3), Rounding::Floor).unwrap_err().contains("height: a window of 3"));
}
