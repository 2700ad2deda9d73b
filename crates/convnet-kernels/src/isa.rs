//! Which instructions this computer has, found once at run time and passed as a value.
//!
//! A token such as [`Avx512`] can only be made by asking the CPU, so holding one *proves* that its instructions may be
//! executed. [`per_isa!`](crate::per_isa) compiles one portable function body once per instruction set.

use std::fmt;
use std::sync::Arc;

use crate::Precision;
use crate::conv::tuning::Tuning;
use crate::threads::Threads;

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
pub(crate) mod vector;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof that the CPU has AVX-512 F, BW, DQ and VL (and AVX2 and FMA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

/// Proof that the CPU has AMX-TILE and AMX-BF16 beside AVX-512 F, BW, DQ and VL, and that the operating system lets this process
/// use the tile registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amx(());

/// Proof that the CPU is one of 64-bit ARM and has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(OnArm);

/// What there is on 64-bit ARM only, so that elsewhere the compiler leaves every choice of NEON out.
#[cfg(target_arch = "aarch64")]
type OnArm = ();
#[cfg(not(target_arch = "aarch64"))]
type OnArm = std::convert::Infallible;

impl Avx2 {
    /// The token, if the CPU has these instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Some(Self(()));
        }
        None
    }
}

impl Avx512 {
    /// The token, if the CPU and the operating system offer these instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Some(Self(()));
        }
        None
    }
}

impl Amx {
    /// The token, if the CPU and the operating system offer these instructions.
    pub fn detect() -> Option<Self> {
        Self::offered().ok()
    }

    /// The token, asking the kernel for the permission to use tile registers the first time.
    ///
    /// # Errors
    /// Why this process has none, in words.
    pub fn offered() -> Result<Self, &'static str> {
        #[cfg(target_arch = "x86_64")]
        {
            static OFFERED: std::sync::OnceLock<Result<(), &'static str>> = std::sync::OnceLock::new();
            OFFERED.get_or_init(amx::offered).map(Self)
        }
        #[cfg(not(target_arch = "x86_64"))]
        Err("the processor has no AMX")
    }
}

impl Neon {
    /// The token, if the CPU has these instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Some(Self(()));
        }
        None
    }
}

/// An instruction set that this computer is known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the compiler's target guarantees; no detection needed.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2(Avx2),
    /// 512-bit vectors with masks.
    Avx512(Avx512),
    /// AVX-512, and tiles for products of reduced [`Precision`].
    Amx(Amx),
    /// 128-bit vectors of 64-bit ARM with fused multiply-add.
    Neon(Neon),
}

impl Isa {
    /// The best instruction set of this computer.
    pub fn detect() -> Self {
        *Self::available().last().unwrap_or(&Self::Portable)
    }

    /// Every instruction set of this computer, slowest first. `Portable` is always there.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        sets.extend(Avx2::detect().map(Self::Avx2));
        sets.extend(Avx512::detect().map(Self::Avx512));
        sets.extend(Amx::detect().map(Self::Amx));
        sets.extend(Neon::detect().map(Self::Neon));
        sets
    }

    /// What the environment variable `CONVNET_ISA` asks for, or the best there is when it is not set.
    ///
    /// # Errors
    /// The variable names an instruction set that is unknown or that this computer does not have.
    pub fn from_environment() -> Result<Self, String> {
        match std::env::var("CONVNET_ISA") {
            Ok(name) if !name.is_empty() => Self::from_name(&name).map_err(|error| format!("CONVNET_ISA={name}: {error}")),
            _ => Ok(Self::detect()),
        }
    }

    /// The instruction set of that name, if this computer has it.
    ///
    /// # Errors
    /// The name is unknown, or the CPU lacks the instructions; the message lists what is available.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let available = Self::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
            format!("this computer has no instruction set '{name}'; it has {}", names.join(", "))
        })
    }

    /// The name used by `CONVNET_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2(_) => "avx2",
            Self::Avx512(_) => "avx512",
            Self::Amx(_) => "amx",
            Self::Neon(_) => "neon",
        }
    }

    /// How many `f32` one vector register holds.
    pub fn f32_lanes(self) -> usize {
        match self {
            Self::Portable | Self::Neon(_) => 4,
            Self::Avx2(_) => 8,
            Self::Avx512(_) | Self::Amx(_) => 16,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What a routine needs to know about the computer: its instructions and its threads.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The instructions that may be executed.
    pub isa: Isa,
    /// Who does the work.
    pub threads: Threads,
    /// Whether algorithms that are not exact, such as Winograd's, may be chosen.
    pub inexact: bool,
    /// How often weights are used before they change, at least 1: so often an algorithm gains from what it prepared.
    pub uses: usize,
    /// The precision of products. Convolutions that have no algorithm for it are computed in `f32`.
    pub precision: Precision,
    /// Measured times, by which algorithms are chosen where there are any.
    pub tuning: Option<Arc<Tuning>>,
}

/// What an algorithm may be chosen from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Means<'a> {
    /// The instructions that may be executed.
    pub isa: Isa,
    /// Whether algorithms that are not exact may be chosen.
    pub inexact: bool,
    /// How often weights are used before they change, at least 1.
    pub uses: usize,
    /// The precision of products.
    pub precision: Precision,
    /// Measured times, by which to choose where there are any.
    pub tuning: Option<&'a Tuning>,
}

impl Machine {
    /// This instruction set and this many threads (at least one).
    pub fn new(isa: Isa, threads: usize) -> Self {
        Self { isa, threads: Threads::new(threads), inexact: true, uses: usize::MAX, precision: Precision::F32, tuning: None }
    }

    /// The same machine, on which every sum is one of the definition's products.
    #[must_use]
    pub fn exact(self) -> Self {
        Self { inexact: false, ..self }
    }

    /// The same machine, for weights that are used so often (at least once) before they change. Without this, they are
    /// taken to be used for long.
    #[must_use]
    pub fn for_uses(self, uses: usize) -> Self {
        Self { uses: uses.max(1), ..self }
    }

    /// The same machine, whose convolutions multiply with this precision where they can.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same machine with these measured times, or without any.
    #[must_use]
    pub fn tuned(self, tuning: Option<Arc<Tuning>>) -> Self {
        Self { tuning, ..self }
    }

    /// What algorithms may be chosen from on this machine.
    pub fn means(&self) -> Means<'_> {
        Means { isa: self.isa, inexact: self.inexact, uses: self.uses, precision: self.precision, tuning: self.tuning.as_deref() }
    }

    /// The best instructions and as many threads as the process may use.
    ///
    /// # Errors
    /// `CONVNET_ISA` names what this computer does not have.
    pub fn detect() -> Result<Self, String> {
        Ok(Self::new(Isa::from_environment()?, Threads::available()))
    }
}

/// Compiles a function body once for each instruction set and picks one by the [`Isa`] it is given.
///
/// ```text
/// per_isa! {
///     /// y ← max(x, 0)
///     pub fn relu<T: Real>(x: &[T], y: &mut [T]) { … }
/// }
/// relu(machine.isa, &x, &mut y);
/// ```
///
/// The body is ordinary safe Rust that the compiler turns into vector code of each set; loops over exact chunks and
/// `zip` vectorise best.
#[macro_export]
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident: Real $(, const $N:ident: usize)*>($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$T: $crate::Real $(, const $N: usize)*>(isa: $crate::Isa, $($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body<$T: $crate::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512<$T: $crate::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $result)? { body::<$T $(, $N)*>($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$T: $crate::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $result)? { body::<$T $(, $N)*>($($arg),*) }

            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon<$T: $crate::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $result)? { body::<$T $(, $N)*>($($arg),*) }

            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the Avx512 and Amx tokens exist only where the CPU has these instructions.
                $crate::Isa::Avx512(_) | $crate::Isa::Amx(_) => unsafe { avx512::<$T $(, $N)*>($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the Avx2 token exists only where the CPU has these instructions.
                $crate::Isa::Avx2(_) => unsafe { avx2::<$T $(, $N)*>($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: the Neon token exists only where the CPU has these instructions.
                $crate::Isa::Neon(_) => unsafe { neon::<$T $(, $N)*>($($arg),*) },
                _ => body::<$T $(, $N)*>($($arg),*),
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    per_isa! {
        fn twice<T: Real>(x: &[T], y: &mut [T]) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x + x;
            }
        }
    }

    #[test]
    fn every_available_set_runs_the_same_body() {
        let x: Vec<f32> = (0..67).map(|i| i as f32).collect();
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            twice(isa, &x, &mut y);
            assert!(y.iter().zip(&x).all(|(y, x)| *y == 2.0 * x), "{isa}");
        }
    }

    #[test]
    fn an_unknown_set_is_refused_with_the_list_of_those_there_are() {
        let error = Isa::from_name("mmx").unwrap_err();
        assert!(error.contains("'mmx'") && error.contains("portable"), "{error}");
        assert_eq!(Isa::from_name("portable"), Ok(Isa::Portable));
    }

    #[test]
    fn tiles_are_offered_or_refused_with_a_reason_and_are_never_without_avx512() {
        match Amx::offered() {
            Ok(token) => {
                assert_eq!(Isa::detect(), Isa::Amx(token));
                assert!(Avx512::detect().is_some());
            }
            Err(reason) => assert!(!reason.is_empty() && Isa::from_name("amx").is_err()),
        }
    }
}
