//! Routines that treat every number alike. They work in place where that saves a pass over memory.

use crate::threads::Threads;
use crate::{Machine, Real, per_isa};

/// Numbers that one piece of work covers: large enough to be worth a thread, small enough for a first-level cache.
const PIECE: usize = 8192;

/// Calls `work(offset, chunk)` for pieces of `data`.
fn pieces<T: Real>(threads: &Threads, data: &mut [T], work: impl Fn(usize, &mut [T]) + Sync) {
    threads.chunks_mut(data, PIECE, |index, chunk| work(index * PIECE, chunk));
}

per_isa! {
    fn relu_piece<T: Real>(y: &mut [T]) {
        for y in y {
            *y = if *y < T::ZERO { T::ZERO } else { *y };
        }
    }
}

/// y ← max(y, 0). A NaN stays.
pub fn relu<T: Real>(machine: &Machine, y: &mut [T]) {
    pieces(&machine.threads, y, |_, y| relu_piece(machine.isa, y));
}

per_isa! {
    fn relu_gradient_piece<T: Real>(y: &[T], d: &mut [T]) {
        for (d, &y) in d.iter_mut().zip(y) {
            *d = if y > T::ZERO { *d } else { T::ZERO };
        }
    }
}

/// d ← d where y > 0, else 0: the gradient of [`relu`] from its output `y`.
pub fn relu_gradient<T: Real>(machine: &Machine, y: &[T], d: &mut [T]) {
    pieces(&machine.threads, d, |start, d| relu_gradient_piece(machine.isa, &y[start..start + d.len()], d));
}

per_isa! {
    fn add_piece<T: Real>(a: &[T], b: &[T], y: &mut [T]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

/// y ← a + b.
pub fn add<T: Real>(machine: &Machine, a: &[T], b: &[T], y: &mut [T]) {
    pieces(&machine.threads, y, |start, y| {
        let range = start..start + y.len();
        add_piece(machine.isa, &a[range.clone()], &b[range], y);
    });
}

per_isa! {
    fn add_to_piece<T: Real>(x: &[T], y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// y ← y + x.
pub fn add_to<T: Real>(machine: &Machine, x: &[T], y: &mut [T]) {
    pieces(&machine.threads, y, |start, y| add_to_piece(machine.isa, &x[start..start + y.len()], y));
}
