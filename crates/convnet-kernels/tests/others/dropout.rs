//! Dropout: what is kept is decided by key and place alone.

use convnet_kernels::dropout::{dropout, spatial_dropout};

use crate::runs::{EPSILON, Runs, numbers, random_cases, rows_and_channels};

/// Checks that each number is zero or x/(1 − share), that about the right share is zero, and that `group(place)` decides.
fn check(what: &str, share: f64, x: &[f32], y: &[f32], groups: usize, group: impl Fn(usize) -> usize) {
    let mut kept = vec![None; groups];
    for (place, (&x, &y)) in x.iter().zip(y).enumerate() {
        let exact = f64::from(x) / (1.0 - share);
        let is_kept = y != 0.0;
        assert!(!is_kept || (f64::from(y) - exact).abs() <= 2.0 * EPSILON * exact.abs(), "{what}: number {place} is {y}, not {exact}");
        assert_eq!(*kept[group(place)].get_or_insert(is_kept), is_kept, "{what}: number {place} goes its own way");
    }
    let expected = groups as f64 * (1.0 - share);
    let kept = kept.iter().filter(|kept| **kept == Some(true)).count() as f64;
    // Six standard deviations.
    assert!((kept - expected).abs() <= 6.0 * (expected * share).sqrt() + 1.0, "{what}: {kept} of {groups} kept");
}

#[test]
fn what_is_kept_is_the_same_with_every_machine_in_place_and_not() {
    let runs = Runs::new();
    random_cases(50, |seed, random| {
        let [rows, channels] = rows_and_channels(random);
        let (share, key) = ([0.0, 0.1, 0.5, 0.9][random.below(4)], random.below(1 << 40) as u64);
        let x = numbers(random, rows * channels, 0.5, 1.0);
        let what = format!("{seed} dropout {share} of {}", x.len());
        let [y, in_place] = runs.same(&what, |run| {
            let (x, mut y, mut in_place) = (run.holding(&x), run.empty(x.len()), run.holding(&x));
            dropout(&run.machine, share, key, Some(&x), &mut y);
            dropout(&run.machine, share, key, None, &mut in_place);
            [y.to_vec(), in_place.to_vec()]
        });
        assert_eq!(y, in_place, "{what}");
        check(&what, share, &x, &y, x.len(), |place| place);
    });
}

#[test]
fn whole_channels_of_single_images_share_their_fate() {
    let runs = Runs::new();
    random_cases(50, |seed, random| {
        let [rows, channels] = rows_and_channels(random);
        let images = random.within(1, 5).min(rows);
        let pixels = rows / images;
        let (share, key) = ([0.0, 0.1, 0.5, 0.9][random.below(4)], random.below(1 << 40) as u64);
        let x = numbers(random, images * pixels * channels, 0.5, 1.0);
        let what = format!("{seed} spatial dropout {share} of {images}x{pixels}x{channels}");
        let [y, in_place] = runs.same(&what, |run| {
            let (x, mut y, mut in_place) = (run.holding(&x), run.empty(x.len()), run.holding(&x));
            let mut factors = run.empty(images * channels);
            spatial_dropout(&run.machine, share, key, channels, pixels, Some(&x), &mut y, &mut factors);
            let mut factors = run.empty(images * channels);
            spatial_dropout(&run.machine, share, key, channels, pixels, None, &mut in_place, &mut factors);
            [y.to_vec(), in_place.to_vec()]
        });
        assert_eq!(y, in_place, "{what}");
        check(&what, share, &x, &y, images * channels, |place| place / (pixels * channels) * channels + place % channels);
    });
}
