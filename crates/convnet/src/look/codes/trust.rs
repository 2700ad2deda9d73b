//! Whether neighbours on a map are neighbours in truth.

use convnet_kernels::Machine;

use super::Codes;
use crate::error::{Error, Result};

/// The trustworthiness of a map, from 0 to 1 (Venna and Kaski, "Neighborhood preservation in nonlinear projection methods",
/// 2001; the definition of scikit-learn):
///
/// ```text
/// 1 − 2/(N·k·(2N − 3k − 1)) · Σᵢ Σⱼ max(0, r(i, j) − k)
/// ```
///
/// over the k nearest j of each i on the map, where j is the r-th nearest of i among the codes. 1 where each neighbour on the
/// map is one among the codes too.
///
/// # Errors
/// `neighbours` is 0 or not below half the number of images, or there are not as many points as codes.
pub fn trustworthiness(codes: &Codes, points: &[[f64; 2]], neighbours: usize, machine: &Machine) -> Result<f64> {
    let n = codes.images.len();
    if neighbours == 0 || 2 * neighbours >= n || points.len() != n {
        return Err(Error::Argument(format!(
            "trustworthiness over {neighbours} neighbours of {n} codes and {} points; there are as many points as codes, and more than twice as many as neighbours",
            points.len()
        )));
    }
    let squares = codes.square_distances(machine)?;
    let mut penalties = vec![0_u64; n];
    machine.threads.chunks_mut(&mut penalties, 1, |own, penalty| {
        let on_map = |other: usize| (points[own][0] - points[other][0]).powi(2) + (points[own][1] - points[other][1]).powi(2);
        let mut ranks = vec![0; n];
        order(n, own, |other| squares[own * n + other]).into_iter().enumerate().for_each(|(rank, other)| ranks[other] = rank + 1);
        let near = order(n, own, on_map);
        penalty[0] = near[..neighbours].iter().map(|other| ranks[*other].saturating_sub(neighbours) as u64).sum();
    });
    let (count, k) = (n as f64, neighbours as f64);
    Ok(1.0 - 2.0 / (count * k * (2.0 * count - 3.0 * k - 1.0)) * penalties.iter().sum::<u64>() as f64)
}

/// All others, the nearest first, those of one distance by their number.
fn order(n: usize, own: usize, distance: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut others: Vec<(f64, usize)> = (0..n).filter(|other| *other != own).map(|other| (distance(other), other)).collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    others.into_iter().map(|(_, other)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::of_values;
    use super::*;
    use convnet_kernels::Isa;

    #[test]
    fn a_true_map_has_1_and_a_wrong_one_the_share_of_the_formula() {
        let machine = Machine::new(Isa::detect(), 3);
        let line: Vec<f32> = (0..7).map(|number| (number * number) as f32).collect();
        let codes = of_values(&line, 7);
        let map: Vec<[f64; 2]> = line.iter().map(|value| [0.0, f64::from(*value)]).collect();
        assert_eq!(trustworthiness(&codes, &map, 2, &machine).unwrap(), 1.0);
        // The ends change places: with one neighbour, the penalties are the ranks beyond the first.
        let mut wrong = map.clone();
        wrong.swap(0, 6);
        // 0 sits at 36 and is nearest to 25 (code 5), its 5th; 6 sits at 0 and is nearest to 1 (code 1), its 5th;
        // 1 is nearest to the point at 0 (code 6), its 6th; 5 to the one at 36 or 16: 16 (code 4), its 1st.
        let penalties = [4.0, 5.0, 0.0, 0.0, 0.0, 0.0, 4.0];
        let expected = 1.0 - 2.0 / (7.0 * (14.0 - 4.0)) * penalties.iter().sum::<f64>();
        assert!((trustworthiness(&codes, &wrong, 1, &machine).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn too_many_neighbours_are_refused() {
        let (codes, machine) = (of_values(&[0.0, 1.0, 2.0, 3.0], 4), Machine::new(Isa::detect(), 1));
        assert!(trustworthiness(&codes, &[[0.0; 2]; 4], 2, &machine).unwrap_err().to_string().contains("twice"));
        assert!(trustworthiness(&codes, &[[0.0; 2]; 3], 1, &machine).is_err());
    }
}
