//! Exponential moving averages of the parameters, which often do better than the last parameters themselves.

use convnet_kernels::{Machine, Real, update};

use crate::error::{Error, Result};
use crate::network::Parameters;

/// average ← d·average + (1 − d)·parameters for every parameter, running statistics included, with the decay d from 0 to 1.
/// Both are parameters of the same network.
///
/// # Errors
/// They are not of the same sizes, or d is not from 0 to 1; then nothing has changed.
pub fn update_average<T: Real>(machine: &Machine, average: &mut Parameters<T>, parameters: &Parameters<T>, decay: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&decay) {
        return Err(Error::Argument(format!("the decay of an average is from 0 to 1, not {decay}")));
    }
    let sizes = |of: &Parameters<T>| of.list().iter().map(|parameter| parameter.tensor.sizes().to_vec()).collect::<Vec<_>>();
    if sizes(average) != sizes(parameters) {
        return Err(Error::Shape("an average is taken of parameters of the same network, but the sizes of these differ".into()));
    }
    for (average, parameter) in average.all_values_mut().zip(parameters.list()) {
        update::approach(machine, 1.0 - decay, parameter.tensor.values(), average);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use convnet_kernels::Isa;

    use super::*;
    use crate::initialise::{Initialisation, initial_parameters};
    use crate::layer::{Role, batch_norm2d::BatchNorm2d, conv2d::Conv2d, flatten::Flatten, linear::Linear};
    use crate::network::Network;

    fn network(outputs: usize) -> Network {
        let mut builder = Network::builder([2, 3, 3]);
        let conv = builder.add(Conv2d::new(4, [3, 3]), &[builder.input()]).unwrap();
        let norm = builder.add(BatchNorm2d::default(), &[conv]).unwrap();
        let flat = builder.add(Flatten, &[norm]).unwrap();
        let fc = builder.add(Linear::new(outputs), &[flat]).unwrap();
        builder.finish(fc).unwrap()
    }

    fn filled(network: &Network, value: f64) -> Parameters<f64> {
        Parameters::build(network, |_, spec| vec![value; spec.count()]).unwrap()
    }

    #[test]
    fn an_average_is_the_weighted_sum_of_all_that_was_seen() {
        let machine = Machine::new(Isa::detect(), 2);
        let network = network(5);
        let mut average = filled(&network, 1.0);
        let mut expected = 1.0;
        for (step, decay) in [0.9, 0.5, 0.99, 0.0, 1.0].into_iter().enumerate() {
            let seen = (step * step) as f64 - 2.0;
            update_average(&machine, &mut average, &filled(&network, seen), decay).unwrap();
            expected = decay * expected + (1.0 - decay) * seen;
            for parameter in average.list() {
                assert!(parameter.tensor.values().iter().all(|value| (value - expected).abs() < 1e-14), "{}", parameter.name);
            }
        }
        assert!(average.list().iter().any(|parameter| parameter.role == Role::Buffer));
    }

    #[test]
    fn an_average_of_the_same_stays_the_same_to_the_bit() {
        let machine = Machine::new(Isa::detect(), 1);
        let network = network(5);
        let parameters = initial_parameters(&network, Initialisation::He, 3).unwrap();
        let mut average = parameters.clone();
        update_average(&machine, &mut average, &parameters, 0.7).unwrap();
        assert_eq!(average.list(), parameters.list());
        assert_ne!(average.version(), parameters.version());
    }

    #[test]
    fn parameters_of_another_network_and_an_impossible_decay_are_refused() {
        let machine = Machine::new(Isa::detect(), 1);
        let mut average = filled(&network(5), 1.0);
        let before = average.clone();
        let error = update_average(&machine, &mut average, &filled(&network(6), 0.0), 0.9).unwrap_err();
        assert!(matches!(error, Error::Shape(_)), "{error}");
        for decay in [-0.1, 1.1, f64::NAN] {
            let error = update_average(&machine, &mut average, &filled(&network(5), 0.0), decay).unwrap_err().to_string();
            assert!(error.contains(&decay.to_string()), "{error}");
        }
        assert_eq!(average.list(), before.list());
    }
}
