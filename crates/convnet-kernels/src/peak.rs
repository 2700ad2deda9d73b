//! What this computer can do at best: multiply-adds per second, and bytes read from memory per second.
//!
//! Both are measured, not looked up, so that a percentage of peak means what the computer gives today, to this process.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::isa::portable::F32x4;
use crate::isa::vector::Vector;
use crate::{Isa, Machine};

/// Sums that run through the loop at once: at least latency times units of any CPU, fewer than there are registers.
const SUMS: usize = if cfg!(target_arch = "aarch64") { 20 } else { 12 };
/// Rounds of the loop in one piece of work, about a millisecond.
const ROUNDS: usize = 200_000;
/// Bytes that the bandwidth is measured with: more than caches hold.
const BYTES: usize = 192 << 20;

/// Floating-point operations per second (a multiply-add counts as two) of a loop that touches registers only, on all
/// threads of the machine, with its instruction set: the best of the rounds that fit into `seconds`.
pub fn fma_peak(machine: &Machine, seconds: f64) -> f64 {
    let pieces = 2 * machine.threads.count();
    let flops = 2.0 * (pieces * ROUNDS * SUMS * machine.isa.f32_lanes()) as f64;
    best(seconds, || machine.threads.run(pieces, |_| multiply_add(machine.isa, ROUNDS))).map_or(0.0, |time| flops / time)
}

/// Floating-point operations per second of products of bfloat16 tiles in registers, counted and measured as those of
/// [`fma_peak`]; `None` for instructions without tiles.
pub fn tile_peak(machine: &Machine, seconds: f64) -> Option<f64> {
    const TILE_ROUNDS: usize = 20_000;
    let multiply_tiles = tile_multiplication(machine.isa)?;
    let pieces = 2 * machine.threads.count();
    let flops = 2.0 * (pieces * TILE_ROUNDS * 4 * 16 * 16 * 32) as f64;
    best(seconds, || machine.threads.run(pieces, |_| multiply_tiles(TILE_ROUNDS))).map(|time| flops / time)
}

/// The loop over products of tiles, which takes the number of its rounds, where the instruction set has any.
fn tile_multiplication(isa: Isa) -> Option<fn(usize)> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token exists only where the CPU and the operating system offer these instructions.
        Isa::Amx(_) => Some(|rounds| unsafe { multiply_tiles(rounds) }),
        _ => None,
    }
}

/// Four sums that run through the loop at once, as those of a block of 32×32.
///
/// # Safety
/// The CPU and the operating system offer AMX.
#[cfg(target_arch = "x86_64")]
unsafe fn multiply_tiles(rounds: usize) {
    use crate::isa::amx::{configure, dot, release};
    // SAFETY: by the contract; configured tiles are all zero, and they are released at the end.
    unsafe {
        configure();
        for _ in 0..rounds {
            dot::<0, 0>();
            dot::<0, 1>();
            dot::<1, 0>();
            dot::<1, 1>();
        }
        release();
    }
}

/// Bytes per second that all threads of the machine together read from memory: the best of the rounds that fit into
/// `seconds`. It takes 192 MB for the time of the measurement.
pub fn memory_bandwidth(machine: &Machine, seconds: f64) -> f64 {
    let numbers = vec![1.0f32; BYTES / 4];
    let length = 1 << 18;
    let pieces = numbers.len() / length;
    let read = || machine.threads.run(pieces, |piece| sum(machine.isa, &numbers[piece * length..(piece + 1) * length]));
    best(seconds, read).map_or(0.0, |time| BYTES as f64 / time)
}

/// The shortest time of one call, in seconds, of as many calls as fit into `seconds` (at least two; the first one warms up).
fn best(seconds: f64, mut work: impl FnMut()) -> Option<f64> {
    work();
    let begin = Instant::now();
    let mut shortest: Option<Duration> = None;
    while shortest.is_none() || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        work();
        let time = start.elapsed();
        shortest = Some(shortest.map_or(time, |shortest| shortest.min(time)));
    }
    shortest.map(|time| time.as_secs_f64().max(1e-9))
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn multiply_add_loop<V: Vector>(rounds: usize) {
    // SAFETY: by this function's contract; no memory is touched but the array.
    unsafe {
        // Numbers from memory: of equal lanes the compiler would make something else.
        let numbers = |start: f32| black_box([start; 16]);
        let (factor, term, first) = (numbers(0.5), numbers(1.0), numbers(1.0));
        let (factor, term) = (V::load(factor.as_ptr()), V::load(term.as_ptr()));
        let mut sums = [V::load(first.as_ptr()); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, term);
            }
        }
        let mut total = V::zero();
        for sum in sums {
            total = total.add(sum);
        }
        let mut lanes = [0.0f32; 16];
        total.store(lanes.as_mut_ptr());
        black_box(lanes);
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn sum_loop<V: Vector>(numbers: &[f32]) {
    // SAFETY: by this function's contract; chunks have 8·LANES numbers.
    unsafe {
        let mut sums = [V::zero(); 8];
        for chunk in numbers.chunks_exact(8 * V::LANES) {
            for (place, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(V::load(chunk.as_ptr().add(place * V::LANES)));
            }
        }
        let mut lanes = [0.0f32; 16];
        for sum in sums {
            sum.store(lanes.as_mut_ptr());
            black_box(lanes);
        }
    }
}

/// A function for every instruction set, chosen by the token.
macro_rules! dispatch {
    ($name:ident, $body:ident, $argument:ident: $type:ty) => {
        fn $name(isa: Isa, $argument: $type) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($argument: $type) {
                // SAFETY: the instructions are this function's features.
                unsafe { $body::<std::arch::x86_64::__m512>($argument) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($argument: $type) {
                // SAFETY: the instructions are this function's features.
                unsafe { $body::<std::arch::x86_64::__m256>($argument) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon($argument: $type) {
                // SAFETY: the instructions are this function's features.
                unsafe { $body::<std::arch::aarch64::float32x4_t>($argument) }
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token exists only where the CPU has these instructions.
                Isa::Avx512(_) | Isa::Amx(_) => unsafe { avx512($argument) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Isa::Avx2(_) => unsafe { avx2($argument) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as above.
                Isa::Neon(_) => unsafe { neon($argument) },
                // SAFETY: portable operations need nothing.
                _ => unsafe { $body::<F32x4>($argument) },
            }
        }
    };
}

dispatch!(multiply_add, multiply_add_loop, rounds: usize);
dispatch!(sum, sum_loop, numbers: &[f32]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_a_peak() {
        // Not that of wider vectors is higher: some processors split them.
        let peaks: Vec<f64> = Isa::available().into_iter().map(|isa| fma_peak(&Machine::new(isa, 1), 0.02)).collect();
        assert!(peaks.iter().all(|peak| peak.is_finite() && *peak > 1e7), "{peaks:?}");
    }

    #[test]
    fn tiles_have_a_peak_where_there_are_any() {
        for isa in Isa::available() {
            let machine = Machine::new(isa, 1);
            let tiles = tile_peak(&machine, 0.02);
            assert_eq!(tiles.is_some(), matches!(isa, Isa::Amx(_)), "{isa}");
            assert!(tiles.is_none_or(f64::is_finite), "{tiles:?}");
        }
    }

    #[test]
    fn memory_can_be_read() {
        let bandwidth = memory_bandwidth(&Machine::new(Isa::detect(), 1), 0.01);
        assert!(bandwidth.is_finite() && bandwidth > 1e8, "{bandwidth}");
    }
}
