//! The two number types that every routine accepts: `f32`, which all work is done in, and `f64`, which proofs are made in.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::conv::Algorithm;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A type that has a form for each number type, such as a struct of slices; see [`Real::pick`].
pub trait Generic {
    /// The form for `T`.
    type Of<T: Real>;
}

/// A floating-point number: `f32` or `f64`.
pub trait Real:
    sealed::Sealed
    + Copy
    + crate::memory::Zero
    + Debug
    + Display
    + Default
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// +∞
    const INFINITY: Self;
    /// −∞
    const NEG_INFINITY: Self;
    /// The distance from 1 to the next larger number.
    const EPSILON: Self;

    /// Nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// The same value (exact for both types).
    fn to_f64(self) -> f64;
    /// Nearest value of this type.
    fn from_f32(value: f32) -> Self {
        Self::from_f64(f64::from(value))
    }
    /// Nearest value of this type.
    fn from_usize(value: usize) -> Self {
        Self::from_f64(value as f64)
    }
    /// `self · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// eˣ
    fn exp(self) -> Self;
    /// ln x
    fn ln(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// xʸ
    fn powf(self, exponent: Self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// Whether this is not a number.
    fn is_nan(self) -> bool;
    /// Whether this is neither infinite nor not a number.
    fn is_finite(self) -> bool;
    /// The convolution algorithms for this type, best first, the reference last.
    fn conv_algorithms() -> &'static [Algorithm<Self>];
    /// Hands a value that is generic over the number type to the function for this type: the way from generic code to
    /// code that exists once for `f32` and once for `f64`, such as a trait object.
    fn pick<G: Generic, R>(value: G::Of<Self>, on_f32: impl FnOnce(G::Of<f32>) -> R, on_f64: impl FnOnce(G::Of<f64>) -> R) -> R;
}

macro_rules! real {
    ($type:ident, $algorithms:path, $on_f32:ident, $on_f64:ident, $chosen:ident) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = $type::INFINITY;
            const NEG_INFINITY: Self = $type::NEG_INFINITY;
            const EPSILON: Self = $type::EPSILON;

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $type::mul_add(self, a, b)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $type::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $type::ln(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $type::sqrt(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $type::tanh(self)
            }
            #[inline(always)]
            fn powf(self, exponent: Self) -> Self {
                $type::powf(self, exponent)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $type::abs(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $type::is_nan(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
            fn conv_algorithms() -> &'static [Algorithm<Self>] {
                &$algorithms
            }
            #[inline(always)]
            fn pick<G: Generic, R>(value: G::Of<Self>, $on_f32: impl FnOnce(G::Of<f32>) -> R, $on_f64: impl FnOnce(G::Of<f64>) -> R) -> R {
                $chosen(value)
            }
        }
    };
}

real!(f32, crate::conv::ALGORITHMS, on_f32, _on_f64, on_f32);
real!(f64, crate::conv::ALGORITHMS_F64, _on_f32, on_f64, on_f64);
