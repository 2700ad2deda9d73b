//! With what precision the products of a convolution are computed.
//!
//! A processor with AMX multiplies bfloat16 numbers (8 significant bits, the exponents of `f32`) many times as fast as
//! `f32`. A number of more bits is the sum of several such parts, each the nearest bfloat16 number to what the ones before it
//! left over, and a product of two such sums is a sum of products of parts (Henry, Tang and Heinecke, "Leveraging the bfloat16
//! artificial intelligence datatype for higher-precision computations", 2019). Sums, and everything in memory, are `f32`
//! in each case.

use std::fmt;

/// How the operands of a product are represented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As they are. A product is rounded once, with its sum: relative error at most 2⁻²⁴.
    #[default]
    F32,
    /// Three bfloat16 parts, which are all 24 bits, and the six largest of the nine products of parts. A product's relative
    /// error is about 2⁻²³.
    F32x6,
    /// Two bfloat16 parts, which are 16 bits, and the three largest of the four products. A product's relative error is at
    /// most about 3·2⁻¹⁶.
    F32x3,
    /// One bfloat16 number, the nearest. A product's relative error is at most about 2⁻⁷.
    Bf16,
}

impl Precision {
    /// All of them, the most precise first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F32x6, Self::F32x3, Self::Bf16];

    /// The name in arguments, files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F32x6 => "f32x6",
            Self::F32x3 => "f32x3",
            Self::Bf16 => "bf16",
        }
    }

    /// The precision of that name.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn from_name(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|precision| precision.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("'{name}' is no precision; there are {names}")
        })
    }

    /// Products of parts that one product takes.
    pub fn products(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 => 1,
            Self::F32x3 => 3,
            Self::F32x6 => 6,
        }
    }

    /// The largest relative error of one product before it is added, u + v + u·v + w for operands that are represented with
    /// relative errors u and v and products that are left out, w. Operands so small that a part of them has no bfloat16
    /// number of full precision (below about 10⁻³³) are not counted.
    pub fn product_error(self) -> f64 {
        // A bfloat16 number is off by at most half a unit in its eighth bit.
        let unit = 2f64.powi(-8);
        match self {
            Self::F32 => 2f64.powi(-24),
            // Middle · low, low · middle, low · low; a part is at most `unit` of the one before it.
            Self::F32x6 => 2.0 * unit.powi(3) + unit.powi(4),
            // Both operands, and low · low.
            Self::F32x3 => 2.0 * unit.powi(2) + unit.powi(4) + unit.powi(2),
            Self::Bf16 => 2.0 * unit + unit.powi(2),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_an_unknown_one_is_refused_with_the_list() {
        for precision in Precision::ALL {
            assert_eq!(Precision::from_name(precision.name()), Ok(precision));
        }
        let error = Precision::from_name("fp8").unwrap_err();
        assert!(error.contains("'fp8'") && error.contains("f32, f32x6, f32x3, bf16"), "{error}");
    }

    #[test]
    fn errors_grow_from_the_first_to_the_last() {
        assert!(Precision::ALL.map(Precision::product_error).is_sorted());
    }
}
