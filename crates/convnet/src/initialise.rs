//! What parameters are before training.
//!
//! Every number is a function of the seed, the parameter's index in its network and its place in the parameter, computed
//! by the `libm` crate's functions: the same bits on every machine, and a layer added at the end leaves the others as they
//! were.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layer::{Initial, ParameterSpec};
use crate::network::{Network, Parameters};
use crate::random::{Address, Purpose, Random};

/// Numbers that one piece of the work covers. Stored runs depend on it: it never changes.
const PIECE: usize = 4096;

/// How the weights of convolutions and fully connected layers begin; fan-in is how many numbers are summed into one
/// output, fan-out how many outputs one input number reaches. The scales, offsets and statistics of normalisations are
/// always the constants that their layers name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Initialisation {
    /// Normal with variance 2/fan-in (He et al. 2015), which keeps the size of the features through layers with ReLU.
    /// Biases 0.
    #[default]
    He,
    /// Uniform within ±√(6/(fan-in + fan-out)) (Glorot and Bengio 2010). Biases 0.
    Xavier,
    /// Torch7's default: uniform within ±1/√fan-in, weights and biases alike. (Its batch norm also drew the scale, from 0
    /// to 1; here it is 1.)
    Torch,
    /// Convolutions hand their input on (Zagoruyko and Komodakis 2017): within each group, filter k is 1 at channel k in
    /// the middle of the kernel and 0 elsewhere. Filters beyond the number of channels, and fully connected layers, are as
    /// with [`He`](Self::He). Biases 0.
    Dirac,
    /// All 0: nothing is learnt from it, but sums can be followed by hand.
    Zeros,
}

impl Initialisation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::He, Self::Xavier, Self::Torch, Self::Dirac, Self::Zeros];

    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::He => "he",
            Self::Xavier => "xavier",
            Self::Torch => "torch",
            Self::Dirac => "dirac",
            Self::Zeros => "zeros",
        }
    }

    /// The values of parameter number `index` of a network.
    pub fn fill(self, spec: &ParameterSpec, seed: u64, index: usize) -> Vec<f32> {
        let address = Address::new(seed, Purpose::Initialise).then(index as u64);
        let uniform = |bound: f64| drawn(spec.count(), address, |random| bound * (2.0 * random.uniform_f64() - 1.0));
        match (spec.initial, self) {
            (Initial::Constant(value), _) => vec![value; spec.count()],
            (Initial::Weight { fan_in, fan_out }, Self::Xavier) => uniform((6.0 / (fan_in as f64 + fan_out as f64)).sqrt()),
            (Initial::Weight { fan_in, .. } | Initial::Bias { fan_in }, Self::Torch) => uniform(1.0 / (fan_in as f64).sqrt()),
            (Initial::Weight { fan_in, .. }, Self::He) => he(spec.count(), fan_in, address),
            (Initial::Weight { fan_in, fan_out }, Self::Dirac) => {
                let mut values = he(spec.count(), fan_in, address);
                if let [filters, channels, height, width] = spec.sizes[..] {
                    // fan-out is K/G · R·S.
                    let filters_of_group = (fan_out / (height * width).max(1)).clamp(1, filters.max(1));
                    hand_on(&mut values, filters_of_group, channels, [height, width]);
                }
                values
            }
            (Initial::Weight { .. }, Self::Zeros) | (Initial::Bias { .. }, _) => vec![0.0; spec.count()],
        }
    }
}

/// The first parameters of a network.
///
/// # Errors
/// They are more than memory can address.
pub fn initial_parameters(network: &Network, initialisation: Initialisation, seed: u64) -> Result<Parameters> {
    Parameters::build(network, |index, spec| initialisation.fill(spec, seed, index))
}

/// `count` numbers, drawn piece by piece so that threads can share the work.
fn drawn(count: usize, address: Address, draw: impl Fn(&mut Random) -> f64 + Sync) -> Vec<f32> {
    let mut values = vec![0.0; count];
    values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
        let mut random = address.then(piece as u64).random();
        values.fill_with(|| draw(&mut random) as f32);
    });
    values
}

/// Normal with variance 2/fan-in.
fn he(count: usize, fan_in: usize, address: Address) -> Vec<f32> {
    let deviation = (2.0 / fan_in as f64).sqrt();
    drawn(count, address, |random| deviation * random.normal())
}

/// Makes filter k of each group, as far as the group has a channel k, the identity.
fn hand_on(weights: &mut [f32], filters_of_group: usize, channels: usize, [height, width]: [usize; 2]) {
    let (pixels, middle) = (height * width, height / 2 * width + width / 2);
    for (filter, weights) in weights.chunks_exact_mut((channels * pixels).max(1)).enumerate() {
        let channel = filter % filters_of_group;
        if channel < channels {
            weights.fill(0.0);
            weights[channel * pixels + middle] = 1.0;
        }
    }
}

impl fmt::Display for Initialisation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Initialisation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|initialisation| initialisation.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Argument(format!("'{name}' is not an initialisation; there are {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Layer, LayerRules, Role, batch_norm2d::BatchNorm2d, conv2d::Conv2d, flatten::Flatten, linear::Linear};
    use crate::shape::Shape;

    fn specs(layer: impl Into<Layer>, channels: usize) -> Vec<ParameterSpec> {
        layer.into().parameters(&[Shape::new(1, channels, 9, 9)])
    }

    fn weight(layer: impl Into<Layer>, channels: usize) -> ParameterSpec {
        specs(layer, channels).remove(0)
    }

    /// Mean, standard deviation and largest magnitude.
    fn moments(values: &[f32]) -> (f64, f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
        let largest = values.iter().fold(0.0_f64, |largest, &value| largest.max(f64::from(value).abs()));
        (mean, variance.sqrt(), largest)
    }

    #[test]
    fn weights_have_the_spread_that_their_fans_ask_for() {
        // 64·48·3·3 = 27,648 values; fan-in 48·9, fan-out 64·9.
        let spec = weight(Conv2d::new(64, [3, 3]), 48);
        let (fan_in, fan_out) = (432.0_f64, 576.0);
        let count = spec.count() as f64;
        for (initialisation, deviation, bound) in [
            (Initialisation::He, (2.0 / fan_in).sqrt(), f64::INFINITY),
            (Initialisation::Xavier, (2.0 / (fan_in + fan_out)).sqrt(), (6.0 / (fan_in + fan_out)).sqrt()),
            (Initialisation::Torch, (1.0 / (3.0 * fan_in)).sqrt(), 1.0 / fan_in.sqrt()),
        ] {
            let (mean, sd, largest) = moments(&initialisation.fill(&spec, 7, 3));
            // Five standard deviations of each figure; that of a normal sd is σ/√(2n), of a uniform one less.
            assert!(mean.abs() < 5.0 * deviation / count.sqrt(), "{initialisation}: mean {mean}");
            assert!((sd - deviation).abs() < 5.0 * deviation / (2.0 * count).sqrt(), "{initialisation}: sd {sd}, not {deviation}");
            assert!(largest <= bound * 1.000_001, "{initialisation}: {largest} is beyond {bound}");
            assert!(largest > if bound.is_finite() { 0.999 * bound } else { 3.5 * deviation }, "{initialisation}: {largest}");
        }
        assert!(Initialisation::Zeros.fill(&spec, 7, 3).iter().all(|&value| value == 0.0));
    }

    #[test]
    fn fans_count_within_a_group() {
        // Depthwise: fan-in and fan-out are 9.
        let spec = weight(Conv2d { groups: 1024, ..Conv2d::new(1024, [3, 3]) }, 1024);
        let (_, sd, _) = moments(&Initialisation::He.fill(&spec, 1, 0));
        assert!((sd / (2.0_f64 / 9.0).sqrt() - 1.0).abs() < 0.04, "{sd}");
    }

    #[test]
    fn biases_are_zero_but_for_torch() {
        let bias = specs(Linear::new(4000), 10).remove(1);
        assert_eq!(bias.role, Role::Bias);
        for initialisation in Initialisation::ALL {
            let (_, sd, largest) = moments(&initialisation.fill(&bias, 7, 1));
            let bound = 1.0 / 10_f64.sqrt();
            if initialisation == Initialisation::Torch {
                assert!(largest <= bound * 1.000_001 && (sd / (bound / 3_f64.sqrt()) - 1.0).abs() < 0.05, "{sd} {largest}");
            } else {
                assert_eq!(largest, 0.0, "{initialisation}");
            }
        }
    }

    #[test]
    fn constants_stay_whatever_the_initialisation() {
        for initialisation in Initialisation::ALL {
            let values: Vec<Vec<f32>> = specs(BatchNorm2d::default(), 2).iter().map(|spec| initialisation.fill(spec, 7, 0)).collect();
            assert_eq!(values, [[1.0; 2], [0.0; 2], [0.0; 2], [1.0; 2]]);
        }
    }

    #[test]
    fn dirac_filters_hand_their_channel_on_within_their_group() {
        // torch.nn.init.dirac_(torch.empty(6, 2, 3, 2), groups=2) is 1 at these indices, and 0 elsewhere; filters 2 and 5 have no channel.
        let spec = weight(Conv2d { groups: 2, ..Conv2d::new(6, [3, 2]) }, 4);
        let values = Initialisation::Dirac.fill(&spec, 7, 0);
        let he = Initialisation::He.fill(&spec, 7, 0);
        let filters: Vec<&[f32]> = values.chunks_exact(12).collect();
        for (filter, channel) in [(0, 0), (1, 1), (3, 0), (4, 1)] {
            let mut expected = [0.0; 12];
            expected[channel * 6 + 3] = 1.0;
            assert_eq!(filters[filter], expected, "filter {filter}");
        }
        for filter in [2, 5] {
            assert_eq!(filters[filter], &he[filter * 12..][..12]);
        }
        let fc = weight(Linear::new(3), 2);
        assert_eq!(Initialisation::Dirac.fill(&fc, 7, 0), Initialisation::He.fill(&fc, 7, 0));
    }

    #[test]
    fn every_number_has_its_address() {
        // The first number of each of the first three pieces, by the definition.
        let spec = weight(Linear::new(100), 100);
        let values = Initialisation::He.fill(&spec, 42, 9);
        for piece in 0..3 {
            let mut random = Address::new(42, Purpose::Initialise).then(9).then(piece as u64).random();
            let expected = (2.0_f64 / 100.0).sqrt() * random.normal();
            assert_eq!(values[piece * PIECE], expected as f32);
        }
        assert_eq!(values, Initialisation::He.fill(&spec, 42, 9));
        assert_ne!(values, Initialisation::He.fill(&spec, 43, 9));
        assert_ne!(values, Initialisation::He.fill(&spec, 42, 10));
    }

    #[test]
    fn a_layer_at_the_end_leaves_the_others_as_they_were() {
        let network = |layers: usize| {
            let mut builder = Network::builder([3, 6, 6]);
            let mut last = builder.add(Conv2d::new(8, [3, 3]), &[builder.input()]).unwrap();
            last = builder.add(Flatten, &[last]).unwrap();
            for _ in 0..layers {
                last = builder.add(Linear::new(10), &[last]).unwrap();
            }
            builder.finish(last).unwrap()
        };
        for initialisation in Initialisation::ALL {
            let short = initial_parameters(&network(1), initialisation, 11).unwrap();
            let long = initial_parameters(&network(2), initialisation, 11).unwrap();
            assert_eq!((short.list().len(), long.list().len()), (4, 6));
            assert_eq!(short.list(), &long.list()[..4], "{initialisation}");
        }
    }

    #[test]
    fn every_name_reads_back() {
        for initialisation in Initialisation::ALL {
            assert_eq!(initialisation.name().parse::<Initialisation>().unwrap(), initialisation);
            let text = serde_json::to_string(&initialisation).unwrap();
            assert_eq!(text, format!("\"{initialisation}\""));
            assert_eq!(serde_json::from_str::<Initialisation>(&text).unwrap(), initialisation);
        }
        let error = "kaiming".parse::<Initialisation>().unwrap_err().to_string();
        assert!(error.contains("'kaiming'") && error.contains("he, xavier"), "{error}");
    }
}
