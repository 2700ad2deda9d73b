//! A line chart: what its template needs, computed from series of points.

use crate::page::number::{GAP, count, figure, fixed};
use crate::page::svg::{Scale, Ticks, coordinate, points};

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 240.0;
/// Room above the lines, where the numbers under the pointer are written.
const TOP: f64 = 24.0;
/// Room below the lines for the ticks.
const BOTTOM: f64 = 24.0;
const RIGHT: f64 = 12.0;
/// Width of a letter of a tick.
const LETTER: f64 = 6.4;
/// The most points of one line that are drawn.
const MOST_POINTS: usize = 1_000;
/// The most places that show their numbers under the pointer.
const MOST_SPOTS: usize = 120;
/// The most points of a line that are marked one by one.
const MOST_DOTS: usize = 30;

/// Values over a count (epochs or steps).
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What the legend says.
    pub name: &'static str,
    /// How the style sheet draws it.
    pub class: &'static str,
    pub points: Vec<(f64, f64)>,
    /// Whether the least and the largest of many points matter more than their course.
    pub noisy: bool,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    None,
    Percent,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::None => figure(value),
            Self::Percent => format!("{}{GAP}%", fixed(value, 1)),
        }
    }

    fn tick(self, value: f64, decimals: usize) -> String {
        let unit = if self == Self::Percent { format!("{GAP}%") } else { String::new() };
        format!("{}{unit}", fixed(value, decimals))
    }
}

#[derive(Debug)]
pub(super) struct LineChart {
    pub title: &'static str,
    /// The chart in words.
    pub description: String,
    /// `epoch` or `step`.
    pub axis: &'static str,
    pub notes: Vec<String>,
    pub left: String,
    pub right: String,
    pub top: String,
    pub bottom: String,
    pub height: String,
    pub view: String,
    pub columns: Vec<Tick>,
    pub rows: Vec<Tick>,
    pub lines: Vec<Line>,
    pub spots: Vec<Spot>,
}

#[derive(Debug)]
pub(super) struct Tick {
    pub place: String,
    pub label: String,
}

#[derive(Debug)]
pub(super) struct Line {
    pub name: &'static str,
    pub class: &'static str,
    pub last: String,
    pub points: String,
    pub dots: Vec<Dot>,
}

#[derive(Debug)]
pub(super) struct Dot {
    pub class: &'static str,
    pub x: String,
    pub y: String,
}

/// A strip of the chart that shows its numbers under the pointer.
#[derive(Debug)]
pub(super) struct Spot {
    pub left: String,
    pub width: String,
    pub middle: String,
    pub dots: Vec<Dot>,
    pub count: String,
    /// Name, class and text of each value.
    pub values: Vec<(&'static str, &'static str, String)>,
}

impl LineChart {
    /// Draws series over a common axis of counts; `None` where no series has a point.
    pub fn new(title: &'static str, axis: &'static str, unit: Unit, series: Vec<Series>, notes: Vec<String>) -> Option<Self> {
        let series: Vec<Series> = series.into_iter().filter(|series| !series.points.is_empty()).collect();
        let counts = range(series.iter().flat_map(|series| &series.points).map(|point| point.0))?;
        let values = range(series.iter().flat_map(|series| &series.points).map(|point| point.1))?;
        let rows = Ticks::enclosing(values, 5);
        let label = |value: f64| unit.tick(value, rows.decimals());
        let letters = rows.numbers().map(|value| label(value).chars().count()).max().unwrap_or(0);
        let left = 8.0 + LETTER * letters as f64;
        let bottom = HEIGHT - BOTTOM;
        let x = Scale::new(counts, [left, WIDTH - RIGHT]);
        let y = Scale::new(rows.range(), [bottom, TOP]);
        let tick = |place: f64, label: String| Tick { place: coordinate(place), label };
        Some(Self {
            title,
            description: description(axis, unit, counts, &series),
            axis,
            notes,
            left: coordinate(left),
            right: coordinate(WIDTH - RIGHT),
            top: coordinate(TOP),
            bottom: coordinate(bottom),
            height: coordinate(bottom - TOP),
            view: format!("0 0 {WIDTH} {HEIGHT}"),
            columns: Ticks::whole_within(counts, 5).numbers().map(|number| tick(x.place(number), count(number as u64))).collect(),
            rows: rows.numbers().map(|value| tick(y.place(value), label(value))).collect(),
            lines: series.iter().map(|series| line(series, unit, x, y)).collect(),
            spots: spots(&series, unit, x, y),
        })
    }
}

fn range(numbers: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    numbers.fold(None, |range, number| match range {
        None => Some([number, number]),
        Some([least, most]) => Some([f64::min(least, number), f64::max(most, number)]),
    })
}

fn description(axis: &str, unit: Unit, [first, last]: [f64; 2], series: &[Series]) -> String {
    let mut text = format!("Line chart from {axis} {} to {}.", count(first as u64), count(last as u64));
    for series in series {
        if let [(_, from), .., (_, to)] = series.points[..] {
            text += &format!(" {}: from {} to {}.", series.name, unit.text(from), unit.text(to));
        } else if let [(_, only)] = series.points[..] {
            text += &format!(" {}: {}.", series.name, unit.text(only));
        }
    }
    text
}

fn line(series: &Series, unit: Unit, x: Scale, y: Scale) -> Line {
    let at = |(count, value): (f64, f64)| (x.place(count), y.place(value));
    let drawn = if series.noisy { extremes(&series.points, MOST_POINTS) } else { last_of_each(&series.points, MOST_POINTS) };
    let dotted = drawn.len() == 1 || (drawn.len() <= MOST_DOTS && !series.noisy);
    Line {
        name: series.name,
        class: series.class,
        last: series.points.last().map(|point| unit.text(point.1)).unwrap_or_default(),
        points: points(drawn.iter().map(|&point| at(point))),
        dots: drawn.iter().filter(|_| dotted).map(|&point| dot(series.class, at(point))).collect(),
    }
}

fn dot(class: &'static str, (x, y): (f64, f64)) -> Dot {
    Dot { class, x: coordinate(x), y: coordinate(y) }
}

/// The least and the largest of each of `most / 2` groups of neighbours, in their order.
fn extremes(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let size = points.len().div_ceil(most / 2);
    let of = |group: &[(f64, f64)]| {
        let least = (0..group.len()).min_by(|&a, &b| group[a].1.total_cmp(&group[b].1)).unwrap_or(0);
        let largest = (0..group.len()).max_by(|&a, &b| group[a].1.total_cmp(&group[b].1)).unwrap_or(0);
        [group[least.min(largest)], group[least.max(largest)]]
    };
    points.chunks(size).flat_map(of).collect()
}

/// The last of each of `most` groups of neighbours.
fn last_of_each<T: Copy>(items: &[T], most: usize) -> Vec<T> {
    let size = items.len().div_ceil(most).max(1);
    items.chunks(size).filter_map(|group| group.last().copied()).collect()
}

/// One strip for each count, or for each group of them, as wide as half the way to its neighbours.
fn spots(series: &[Series], unit: Unit, x: Scale, y: Scale) -> Vec<Spot> {
    let mut counts: Vec<f64> = series.iter().flat_map(|series| &series.points).map(|point| point.0).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    let counts = last_of_each(&counts, MOST_SPOTS);
    let [first, last] = x.numbers();
    let edge = |place: usize| match (place.checked_sub(1).and_then(|before| counts.get(before)), counts.get(place)) {
        (Some(before), Some(after)) => x.place((before + after) / 2.0),
        (None, _) => x.place(first),
        (_, None) => x.place(last),
    };
    let spot = |(place, &number): (usize, &f64)| {
        let at = |series: &Series| {
            let found = series.points.binary_search_by(|point| point.0.total_cmp(&number)).ok()?;
            Some((series.name, series.class, series.points[found].1))
        };
        let values: Vec<_> = series.iter().filter_map(at).collect();
        Spot {
            left: coordinate(edge(place)),
            width: coordinate(edge(place + 1) - edge(place)),
            middle: coordinate(x.place(number)),
            dots: values.iter().map(|&(_, class, value)| dot(class, (x.place(number), y.place(value)))).collect(),
            count: count(number as u64),
            values: values.into_iter().map(|(name, class, value)| (name, class, unit.text(value))).collect(),
        }
    };
    counts.iter().enumerate().map(spot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Option<LineChart> {
        let series = Series { name: "train", class: "train", points, noisy: true };
        LineChart::new("Loss", "step", Unit::None, vec![series], Vec::new())
    }

    #[test]
    fn many_points_are_thinned_but_keep_their_extremes() {
        let mut course: Vec<(f64, f64)> = (0..100_000).map(|step| (f64::from(step), 1.0 / f64::from(step + 1))).collect();
        course[54_321].1 = 7.0;
        course[76_543].1 = -7.0;
        let drawn = extremes(&course, MOST_POINTS);
        assert!(drawn.len() <= MOST_POINTS && drawn.contains(&(54_321.0, 7.0)) && drawn.contains(&(76_543.0, -7.0)));
        assert!(drawn.is_sorted_by(|a, b| a.0 <= b.0));
        assert_eq!(drawn[0], (0.0, 1.0));
        let chart = chart(course).unwrap();
        assert_eq!(chart.lines[0].points.split(' ').count(), drawn.len());
        assert!(chart.spots.len() <= MOST_SPOTS);
    }

    #[test]
    fn a_single_point_is_a_dot_in_the_middle() {
        let chart = chart(vec![(1.0, 0.5)]).unwrap();
        assert_eq!(chart.lines[0].dots.len(), 1);
        assert_eq!(chart.description, "Line chart from step 1 to 1. train: 0.500.");
        assert_eq!((chart.spots.len(), &*chart.spots[0].count), (1, "1"));
    }

    #[test]
    fn nothing_to_draw_is_no_chart() {
        assert!(chart(Vec::new()).is_none());
    }

    #[test]
    fn every_line_stays_inside_its_axes() {
        let chart = chart((1..=200).map(|step| (f64::from(step), (f64::from(step) * 0.7).sin() * 3.0)).collect()).unwrap();
        for point in chart.lines[0].points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let [x, y, left, right, top, bottom] =
                [x, y, &chart.left, &chart.right, &chart.top, &chart.bottom].map(|text| text.parse::<f64>().unwrap());
            assert!((left..=right).contains(&x) && (top..=bottom).contains(&y), "{point}");
        }
    }
}
