//! Convolution: what is computed ([`ConvShape`]), by which routines ([`Algorithm`]), and which one is best ([`choose`]).
//!
//! ```text
//! y[n, oy, ox, k] = bias[k] + Σ over r, s, c of  x[n, oy·S − P + r·D, ox·S − P + s·D, c] · w[k, c, r, s]
//! ```
//!
//! This is cross-correlation: the kernel is not flipped. Positions in the padding count as zero. With G groups, filter k
//! sees only the C/G channels of its own group. [`mod@reference`] is this definition as loops, three passes on one screen;
//! everything else in this folder says the same, faster.

use std::fmt;
use std::str::FromStr;

use crate::window::{Axis, Rounding, Window};
use crate::{Isa, Machine, Means, Precision, Real};
use tuning::Question;

pub mod depthwise;
pub mod direct;
pub mod reference;
pub mod side_by_side;
pub mod tiles;
pub mod tuning;
pub mod winograd;

/// The algorithms for `f32`; the reference is last and accepts everything.
pub static ALGORITHMS: [Algorithm<f32>; 9] = [
    tiles::bf16(),
    tiles::f32x3(),
    tiles::f32x6(),
    depthwise::algorithm(),
    winograd::four(),
    winograd::two(),
    side_by_side::algorithm(),
    direct::algorithm(),
    reference::algorithm(),
];

/// The algorithms for `f64`.
pub static ALGORITHMS_F64: [Algorithm<f64>; 1] = [reference::algorithm()];

/// One of the three computations of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Output from input and weights.
    Forward,
    /// Gradient of the input from the gradient of the output and the weights.
    BackwardInput,
    /// Gradient of the weights from the input and the gradient of the output.
    BackwardWeight,
}

impl Pass {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Forward, Self::BackwardInput, Self::BackwardWeight];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::BackwardInput => "backward_input",
            Self::BackwardWeight => "backward_weight",
        }
    }
}

/// A convolution whose sizes are known to fit: holding one proves that no routine will run out of its slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    k: usize,
    window: Window,
    groups: usize,
    oh: usize,
    ow: usize,
}

impl ConvShape {
    /// `n` images of `c`×`h`×`w`, `k` filters that move as `window` says, in `groups` groups.
    ///
    /// # Errors
    /// A count is zero, the groups do not divide the channels or the filters, the window does not fit, or a buffer would
    /// be too large to address.
    pub fn new(n: usize, c: usize, [h, w]: [usize; 2], k: usize, window: Window, groups: usize) -> Result<Self, String> {
        if n == 0 || c == 0 || h == 0 || w == 0 || k == 0 || groups == 0 {
            return Err(format!("every size must be at least 1: batch {n}, input {c}x{h}x{w}, {k} filters, {groups} groups"));
        }
        if !c.is_multiple_of(groups) {
            return Err(format!("{c} input channels cannot be split into {groups} groups"));
        }
        if !k.is_multiple_of(groups) {
            return Err(format!("{k} filters cannot be split into {groups} groups"));
        }
        let (oh, ow) = window.output(h, w, Rounding::Floor)?;
        let shape = Self { n, c, h, w, k, window, groups, oh, ow };
        let weights = [k, c / groups, window.h.size, window.w.size];
        for (name, sizes) in [("input", [n, c, h, w]), ("output", [n, k, oh, ow]), ("weights", weights)] {
            let bytes = sizes.iter().try_fold(std::mem::size_of::<f64>(), |product, &size| product.checked_mul(size));
            if bytes.is_none_or(|bytes| bytes > isize::MAX as usize / 4) {
                return Err(format!(
                    "the {name} of {} numbers would be too large to address",
                    sizes.map(|size| size.to_string()).join("·")
                ));
            }
        }
        Ok(shape)
    }

    /// Batch size N.
    pub fn n(&self) -> usize {
        self.n
    }
    /// Input channels C.
    pub fn c(&self) -> usize {
        self.c
    }
    /// Input height H.
    pub fn h(&self) -> usize {
        self.h
    }
    /// Input width W.
    pub fn w(&self) -> usize {
        self.w
    }
    /// Filters K, which are the output's channels.
    pub fn k(&self) -> usize {
        self.k
    }
    /// How the kernel moves.
    pub fn window(&self) -> &Window {
        &self.window
    }
    /// Groups G.
    pub fn groups(&self) -> usize {
        self.groups
    }
    /// Output height.
    pub fn oh(&self) -> usize {
        self.oh
    }
    /// Output width.
    pub fn ow(&self) -> usize {
        self.ow
    }
    /// Input channels that one filter sees, C/G.
    pub fn group_channels(&self) -> usize {
        self.c / self.groups
    }
    /// Filters of one group, K/G.
    pub fn group_filters(&self) -> usize {
        self.k / self.groups
    }
    /// Numbers in the input, N·H·W·C.
    pub fn input_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }
    /// Numbers in the output, N·OH·OW·K.
    pub fn output_len(&self) -> usize {
        self.n * self.oh * self.ow * self.k
    }
    /// Numbers in the weights, K·(C/G)·R·S.
    pub fn weight_len(&self) -> usize {
        self.k * self.group_channels() * self.window.taps()
    }
    /// Multiplications with additions that the definition counts (those in the padding too).
    pub fn macs(&self) -> u64 {
        (self.output_len() as u64).saturating_mul((self.group_channels() * self.window.taps()) as u64)
    }
}

fn pair(letter: char, first: usize, second: usize) -> String {
    if first == second { format!("{letter}{first}") } else { format!("{letter}{first}x{second}") }
}

impl fmt::Display for ConvShape {
    /// The problem as one string, `conv n1 c64 28x28 -> 64 w3 s1 p1`, which parses back.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { h, w } = self.window;
        write!(formatter, "conv n{} c{} {}x{} -> {}", self.n, self.c, self.h, self.w, self.k)?;
        write!(formatter, " {} {}", pair('w', h.size, w.size), pair('s', h.stride, w.stride))?;
        if h.pad_before == h.pad_after && w.pad_before == w.pad_after {
            write!(formatter, " {}", pair('p', h.pad_before, w.pad_before))?;
        } else {
            write!(formatter, " p{},{},{},{}", h.pad_before, w.pad_before, h.pad_after, w.pad_after)?;
        }
        if (h.dilation, w.dilation) != (1, 1) {
            write!(formatter, " {}", pair('d', h.dilation, w.dilation))?;
        }
        if self.groups != 1 {
            write!(formatter, " g{}", self.groups)?;
        }
        Ok(())
    }
}

impl FromStr for ConvShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |word: &str| format!("'{word}' is not understood in '{text}'; a problem looks like 'conv n1 c64 28x28 -> 64 w3 s1 p1'");
        let number = |word: &str, digits: &str| digits.parse::<usize>().map_err(|_| wrong(word));
        let numbers = |word: &str, digits: &str| -> Result<[usize; 2], String> {
            match digits.split_once('x') {
                Some((first, second)) => Ok([number(word, first)?, number(word, second)?]),
                None => number(word, digits).map(|value| [value, value]),
            }
        };
        let mut words = text.split_whitespace().peekable();
        if words.next() != Some("conv") {
            return Err(wrong(text.split_whitespace().next().unwrap_or("")));
        }
        let (mut n, mut c, mut size, mut k, mut groups) = (1, None, None, None, 1);
        let mut window = Window::pixel();
        while let Some(word) = words.next() {
            let (letter, rest) = (&word[..word.chars().next().map_or(0, char::len_utf8)], word.get(1..).unwrap_or(""));
            match letter {
                "-" if rest == ">" => {
                    let word = words.next().unwrap_or("");
                    k = Some(number(word, word)?);
                }
                "n" => n = number(word, rest)?,
                "c" => c = Some(number(word, rest)?),
                "g" => groups = number(word, rest)?,
                "w" => [window.h.size, window.w.size] = numbers(word, rest)?,
                "s" => [window.h.stride, window.w.stride] = numbers(word, rest)?,
                "d" => [window.h.dilation, window.w.dilation] = numbers(word, rest)?,
                "p" if rest.contains(',') => {
                    let sides: Vec<_> = rest.split(',').map(|side| number(word, side)).collect::<Result<_, _>>()?;
                    let [top, left, bottom, right] = sides[..] else { return Err(wrong(word)) };
                    (window.h.pad_before, window.w.pad_before, window.h.pad_after, window.w.pad_after) = (top, left, bottom, right);
                }
                "p" => {
                    let [h, w] = numbers(word, rest)?;
                    (window.h, window.w) = (window.h.pad(h), window.w.pad(w));
                }
                _ if word.starts_with(|letter: char| letter.is_ascii_digit()) => size = Some(numbers(word, word)?),
                _ => return Err(wrong(word)),
            }
        }
        let missing = |what: &str| format!("'{text}' does not say {what}; a problem looks like 'conv n1 c64 28x28 -> 64 w3 s1 p1'");
        Self::new(
            n,
            c.ok_or_else(|| missing("the input channels, as c64"))?,
            size.ok_or_else(|| missing("the input height and width, as 28x28"))?,
            k.ok_or_else(|| missing("the number of filters, as -> 64"))?,
            window,
            groups,
        )
    }
}

impl Axis {
    /// The taps of this axis from last to first: the window of the backward pass.
    pub(crate) fn position(&self, output: usize, tap: usize) -> isize {
        self.start(output) + (tap * self.dilation) as isize
    }
}

/// What is done to each output number before it is written: `y ← relu(y + bias + residual)`, each part optional.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T> {
    /// Added to each output channel: K numbers.
    pub bias: Option<&'a [T]>,
    /// Added to each output number: as long as the output.
    pub residual: Option<&'a [T]>,
    /// Negative results become zero.
    pub relu: bool,
}

impl<T> Epilogue<'_, T> {
    /// Nothing is done.
    pub const NONE: Self = Self { bias: None, residual: None, relu: false };
}

/// One way to compute all three passes of a convolution.
#[allow(clippy::type_complexity)]
pub struct Algorithm<T: 'static> {
    /// The name in reports.
    pub name: &'static str,
    /// The precision of the products. [`Precision::F32`] may be taken for every precision that is asked for; another only for
    /// itself.
    pub precision: Precision,
    /// Whether each output is the sum of the definition's products, so that small integers give exact results.
    pub exact: bool,
    /// Whether this algorithm can compute that shape with those instructions; `Err` says why not.
    pub accepts: fn(&ConvShape, Isa) -> Result<(), &'static str>,
    /// What a pass is expected to take, in vector multiply-adds: the measure by which [`choose`] compares algorithms.
    pub cost: fn(&ConvShape, Isa, Pass) -> f64,
    /// What packing the weights of a pass is expected to take, in the same measure.
    pub packing_cost: fn(&ConvShape, Isa, Pass) -> f64,
    /// Numbers that the packed weights of a pass take. Zero for [`Pass::BackwardWeight`].
    pub packed_len: fn(&ConvShape, Isa, Pass) -> usize,
    /// Writes the weights, K×(C/G)×R×S, in the order in which a pass reads them.
    pub pack: fn(&Machine, &ConvShape, Pass, weights: &[T], packed: &mut [T]),
    /// Numbers of working memory that a pass needs. Its contents before and after a call are of no interest.
    pub scratch_len: fn(&ConvShape, Isa, Pass) -> usize,
    /// Writes the output `y`.
    pub forward: fn(&Machine, &ConvShape, x: &[T], packed: &[T], epilogue: &Epilogue<'_, T>, y: &mut [T], scratch: &mut [T]),
    /// Writes the gradient of the input `dx`.
    pub backward_input: fn(&Machine, &ConvShape, dy: &[T], packed: &[T], dx: &mut [T], scratch: &mut [T]),
    /// Adds to the gradient of the weights `dw`, K×(C/G)×R×S.
    pub backward_weight: fn(&Machine, &ConvShape, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut [T]),
}

impl<T> fmt::Debug for Algorithm<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Algorithm({})", self.name)
    }
}

/// The packing cost of algorithms whose weights are few, or taken as they are.
fn no_cost(_: &ConvShape, _: Isa, _: Pass) -> f64 {
    0.0
}

/// What a pass is expected to take with its part of packing the weights.
fn whole_cost<T>(algorithm: &Algorithm<T>, shape: &ConvShape, means: Means, pass: Pass) -> f64 {
    let uses = Question::new(shape, pass, means.uses).uses();
    (algorithm.cost)(shape, means.isa, pass) + (algorithm.packing_cost)(shape, means.isa, pass) / uses as f64
}

/// The precision in which a convolution is computed.
///
/// One that was asked for is used wherever there is an algorithm for it, whatever that costs on this computer, so that a
/// result does not depend on whether the CPU has tiles. Where there is none, the convolution is computed in `f32`.
fn precision_of<T: Real>(shape: &ConvShape, means: Means) -> Precision {
    let computes = |algorithm: &Algorithm<T>| algorithm.precision == means.precision && (algorithm.accepts)(shape, means.isa).is_ok();
    let asked_for = means.precision != Precision::F32 && T::conv_algorithms().iter().any(computes);
    if asked_for { means.precision } else { Precision::F32 }
}

/// The algorithms that are allowed and accept the shape, in the order of the table: those of the precision that is asked for,
/// or those of `f32` where it has none. The reference, which is far slower than the others, is among them only where there
/// is no other.
pub fn candidates<T: Real>(shape: &ConvShape, means: Means) -> impl Iterator<Item = &'static Algorithm<T>> {
    let table = T::conv_algorithms();
    let (reference, others) = table.split_last().expect("the table has the reference");
    let precision = precision_of::<T>(shape, means);
    let precise = others.iter().filter(move |algorithm| algorithm.precision == precision);
    let allowed = precise.filter(move |algorithm| algorithm.exact || means.inexact);
    let mut accepting = allowed.filter(move |algorithm| (algorithm.accepts)(shape, means.isa).is_ok()).peekable();
    let only = accepting.peek().is_none().then_some(reference);
    accepting.chain(only)
}

/// The algorithm that takes the least time for this pass, of those that are allowed and accept the shape: by the measured
/// times of [`Means::tuning`] where it has any, else by the expected cost.
pub fn choose<T: Real>(shape: &ConvShape, means: Means, pass: Pass) -> &'static Algorithm<T> {
    let seconds = |algorithm: &Algorithm<T>| measured_seconds(algorithm, shape, means, pass);
    let measured = candidates::<T>(shape, means).filter_map(|algorithm| Some((algorithm, seconds(algorithm)?)));
    if let Some((fastest, _)) = measured.min_by(|(_, one), (_, other)| one.total_cmp(other)) {
        return fastest;
    }
    let cost = |algorithm: &Algorithm<T>| whole_cost(algorithm, shape, means, pass);
    let cheapest = candidates::<T>(shape, means).min_by(|one, other| cost(one).total_cmp(&cost(other)));
    cheapest.expect("the reference accepts every shape")
}

/// Seconds of an algorithm by the tuning, if it has them.
fn measured_seconds<T>(algorithm: &Algorithm<T>, shape: &ConvShape, means: Means, pass: Pass) -> Option<f64> {
    means.tuning?.seconds(&Question::new(shape, pass, means.uses), algorithm.name)
}

/// The algorithm that [`choose`] takes for a pass, and why not each of the others but the reference and those of a precision
/// that is not asked for.
pub fn explain<T: Real>(shape: &ConvShape, means: Means, pass: Pass) -> (&'static str, Vec<(&'static str, String)>) {
    let (chosen, isa) = (choose::<T>(shape, means, pass), means.isa);
    let table = T::conv_algorithms();
    let asked_for = |precision| precision == Precision::F32 || precision == means.precision;
    let others = table[..table.len() - 1].iter().filter(|algorithm| algorithm.name != chosen.name && asked_for(algorithm.precision));
    let seconds = |algorithm: &Algorithm<T>| measured_seconds(algorithm, shape, means, pass);
    let reasons = others.map(|algorithm| {
        let reason = match ((algorithm.accepts)(shape, isa), seconds(algorithm).zip(seconds(chosen))) {
            (Err(reason), _) => reason.to_owned(),
            (Ok(()), _) if algorithm.precision != chosen.precision => format!("the precision asked for is {}", means.precision),
            (Ok(()), _) if !algorithm.exact && !means.inexact => "forbidden: its transforms round more than the definition does".into(),
            (Ok(()), Some((other, chosen))) => format!("measured to take {:.1} times as long", other / chosen),
            (Ok(()), None) if seconds(chosen).is_some() => "not measured".into(),
            (Ok(()), None) => {
                let ratio = whole_cost(algorithm, shape, means, pass) / whole_cost(chosen, shape, means, pass);
                format!("expected to take {ratio:.1} times as long")
            }
        };
        (algorithm.name, reason)
    });
    (chosen.name, reasons.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_string_parses_back_to_the_same_problem() {
        for text in [
            "conv n1 c64 28x28 -> 64 w3 s1 p1",
            "conv n16 c3 224x200 -> 64 w7x5 s2x1 p3x2",
            "conv n2 c8 9x9 -> 8 w3 s1 p2 d2 g8",
            "conv n1 c4 9x9 -> 6 w3 s1 p0,1,2,0 d2x1 g2",
        ] {
            let shape: ConvShape = text.parse().unwrap();
            assert_eq!(shape.to_string(), text);
        }
    }

    #[test]
    fn a_malformed_problem_says_which_word_and_what_a_problem_looks_like() {
        for (text, word) in [
            ("pool n1", "pool"),
            ("conv n1 cx 3x3 -> 4", "cx"),
            ("conv n1 c3 3x3 -> 4 q5", "q5"),
            ("conv é", "é"),
            ("conv n1 c3 8x8 -> ", "''"),
        ] {
            let error = text.parse::<ConvShape>().unwrap_err();
            assert!(error.contains(word) && error.contains("conv n1 c64 28x28"), "{error}");
        }
        assert!("conv n1 c3 8x8".parse::<ConvShape>().unwrap_err().contains("number of filters"));
    }

    #[test]
    fn a_machine_that_must_be_exact_gets_only_exact_algorithms_and_is_told_so() {
        let shape: ConvShape = "conv n1 c128 56x56 -> 128 w3 s1 p1".parse().unwrap();
        let exact = Means { isa: Isa::detect(), inexact: false, uses: usize::MAX, precision: Precision::F32, tuning: None };
        for pass in Pass::ALL {
            assert_eq!(choose::<f32>(&shape, Means { inexact: true, ..exact }, pass).name, "winograd 4x4");
            assert_eq!(choose::<f32>(&shape, exact, pass).name, "direct");
            let (_, reasons) = explain::<f32>(&shape, exact, pass);
            assert!(reasons.iter().any(|(name, reason)| *name == "winograd 4x4" && reason.contains("forbidden")), "{reasons:?}");
        }
    }

    #[test]
    fn each_kind_of_convolution_has_the_algorithm_made_for_it() {
        let each = |isa| Means { isa, inexact: true, uses: usize::MAX, precision: Precision::F32, tuning: None };
        for (text, names) in [
            ("conv n1 c3 224x224 -> 64 w7 s2 p3", ["direct"; 3]),
            ("conv n1 c256 56x56 -> 64 w1 s1 p0", ["direct"; 3]),
            ("conv n1 c64 56x56 -> 64 w3 s2 p1", ["direct"; 3]),
            ("conv n1 c64 56x56 -> 64 w3 s1 p1 g4", ["direct"; 3]),
            ("conv n1 c64 56x56 -> 64 w3 s1 p1", ["winograd 4x4"; 3]),
            ("conv n1 c96 112x112 -> 96 w3 s2 p1 g96", ["depthwise"; 3]),
            // Weights that change with every step, and their gradients, would be moved more often than used by so few pixels.
            ("conv n1 c512 7x7 -> 512 w3 s1 p1", ["winograd 4x4", "direct", "direct"]),
        ] {
            let shape: ConvShape = text.parse().unwrap();
            for means in Isa::available().into_iter().map(each) {
                assert_eq!(Pass::ALL.map(|pass| choose::<f32>(&shape, means, pass).name), names, "{text} {}", means.isa);
            }
        }
    }

    #[test]
    fn a_precision_is_used_wherever_it_has_an_algorithm_on_every_computer_and_only_when_asked_for() {
        for isa in Isa::available() {
            let means = |precision| Means { isa, inexact: true, uses: 1, precision, tuning: None };
            for (precision, row) in [(Precision::Bf16, "tiles bf16"), (Precision::F32x3, "tiles f32x3"), (Precision::F32x6, "tiles f32x6")]
            {
                for (text, name) in [
                    ("conv n1 c64 56x56 -> 64 w3 s1 p1", row),
                    ("conv n1 c2048 1x1 -> 1000 w1 s1 p0", row),
                    ("conv n1 c64 14x14 -> 64 w3 s2 p1 g4", row),
                    ("conv n1 c3 224x224 -> 64 w7 s2 p3", "direct"),
                    ("conv n1 c64 1x1 -> 10 w1 s1 p0", "direct"),
                    ("conv n1 c96 112x112 -> 96 w3 s2 p1 g96", "depthwise"),
                ] {
                    let shape: ConvShape = text.parse().unwrap();
                    for pass in Pass::ALL {
                        assert_eq!(choose::<f32>(&shape, means(precision), pass).name, name, "{text} {isa}");
                        assert_eq!(choose::<f32>(&shape, means(Precision::F32), pass).precision, Precision::F32, "{text} {isa}");
                        assert_eq!(choose::<f64>(&shape, means(precision), pass).name, "reference");
                        let (_, reasons) = explain::<f32>(&shape, means(precision), pass);
                        assert!(reasons.iter().all(|(name, _)| !name.starts_with("tiles") || *name == row), "{reasons:?}");
                        if name == row {
                            assert!(reasons.iter().any(|(_, reason)| reason.contains(&format!("asked for is {precision}"))), "{reasons:?}");
                            let names: Vec<&str> = candidates::<f32>(&shape, means(precision)).map(|algorithm| algorithm.name).collect();
                            assert_eq!(names, [row], "times of different precisions are never compared");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_packing_takes_counts_by_how_often_the_weights_are_used() {
        let shape: ConvShape = "conv n1 c512 7x7 -> 512 w3 s1 p1".parse().unwrap();
        for isa in Isa::available() {
            let forward = |machine: Machine| choose::<f32>(&shape, machine.means(), Pass::Forward).name;
            assert_eq!(forward(Machine::new(isa, 1)), "winograd 4x4", "{isa}");
            assert_eq!(forward(Machine::new(isa, 1).for_uses(1)), "direct", "{isa}");
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_with_both_numbers() {
        let window = Window::new(3, 3);
        assert!(ConvShape::new(1, 6, [8, 8], 8, window, 4).unwrap_err().contains("6 input channels"));
        assert!(ConvShape::new(1, 8, [8, 8], 6, window, 4).unwrap_err().contains("6 filters"));
        assert!(ConvShape::new(1, 8, [2, 8], 6, window, 1).unwrap_err().contains("height: a window of 3"));
        assert!(ConvShape::new(1 << 30, 1 << 20, [1 << 10, 1 << 10], 8, window, 1).unwrap_err().contains("too large"));
        assert!(ConvShape::new(0, 8, [8, 8], 8, window, 1).unwrap_err().contains("at least 1"));
    }

    #[test]
    fn the_quiz_of_the_course_has_768000_multiplications() {
        let shape: ConvShape = "conv n1 c3 32x32 -> 10 w5 s1 p2".parse().unwrap();
        assert_eq!((shape.oh(), shape.ow(), shape.weight_len(), shape.macs()), (32, 32, 750, 768_000));
    }
}
