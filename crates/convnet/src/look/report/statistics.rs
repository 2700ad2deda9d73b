//! The table of activations over a data set.

use super::texts::{Texts, fill};
use super::{rough_percent, short};
use crate::look::Statistics;
use crate::page::number::count;

pub(super) struct StatisticsView<'a> {
    pub about: String,
    /// Whether every image of the set was looked at.
    pub all: bool,
    pub rows: Vec<Row<'a>>,
}

pub(super) struct Row<'a> {
    pub layer: &'a str,
    /// Whether the page has a part for the layer.
    pub linked: bool,
    /// Mean, standard deviation, lowest, highest.
    pub figures: [String; 4],
    pub zeros: String,
    pub zeros_width: String,
    pub channels: String,
    pub dead: String,
    pub is_dead: bool,
}

pub(super) fn view<'a>(found: &'a Statistics, layers: &[String], t: &Texts) -> StatisticsView<'a> {
    let rows = found.layers.iter().map(|layer| {
        let whole = &layer.whole;
        Row {
            layer: &layer.layer,
            linked: layers.contains(&layer.layer),
            figures: [whole.mean, whole.std, f64::from(whole.low), f64::from(whole.high)].map(short),
            zeros: rough_percent(whole.zeros),
            zeros_width: format!("{:.1}", 100.0 * whole.zeros),
            channels: count(layer.channels.len() as u64),
            dead: count(layer.dead as u64),
            is_dead: layer.dead > 0,
        }
    });
    let [images, of] = [found.images, found.of].map(|number| count(number as u64));
    StatisticsView { about: fill(t.statistics_about, &[&images, &of]), all: found.images == found.of, rows: rows.collect() }
}
