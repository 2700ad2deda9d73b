//! Mistakes: what is taken for what with the worst images, whether probabilities are true, each class against all others.

use askama::Template;

use super::shown::Shown;
use super::texts::{Texts, fill};
use super::{Headline, rough_percent, short};
use crate::error::Result;
use crate::look::Contents;
use crate::look::mistakes::{ClassCurves, ConfusedPair, Mistakes};
use crate::model::{Calibration, interval};
use crate::page::confusion::{Confusion, Words, confusion, first_by};
use crate::page::number::{count, percent};
use crate::page::svg::{Scale, coordinate, points};

/// How large an image is shown, and in a cell of the matrix.
const SHOWN: usize = 84;
const IN_CELL: usize = 28;
/// The most classes with images in the cells of their matrix.
const MOST_WITH_IMAGES: usize = 14;
/// The most images beside the matrix, of small and of large ones, and up to which side they are small.
const MOST_SMALL: usize = 160;
const MOST_LARGE: usize = 40;
const SMALL: usize = 64;
/// The most points of a curve that are drawn.
const MOST_POINTS: usize = 80;
/// Sides of the calibration curve, and where its plot begins.
const CURVE: [f64; 2] = [352.0, 332.0];
const PLOT: [f64; 4] = [42.0, 8.0, 332.0, 232.0];
/// Where the counts of images stand under it.
const COUNTS: [f64; 2] = [298.0, 250.0];
/// Side of a small plot, and the gap between two.
const SIDE: f64 = 100.0;
const GAP: f64 = 16.0;

/// The part of the page.
#[derive(Template)]
#[template(path = "look/mistakes.html", whitespace = "minimize")]
pub(super) struct MistakesView<'a> {
    t: &'static Texts,
    about: String,
    /// Whether every image was looked at.
    all: bool,
    headlines: Vec<Headline>,
    confusion: Confusion<'a>,
    pairs: Vec<PairView<'a>>,
    /// Set when not all pairs are shown: how many there are.
    pairs_of: Option<String>,
    calibration: CalibrationView,
    curves: Vec<CurvesView<'a>>,
    /// Set when not all classes are shown.
    curves_of: Option<String>,
}

struct PairView<'a> {
    id: String,
    label: &'a str,
    predicted: &'a str,
    count: String,
    images: Vec<WrongView>,
}

struct WrongView {
    picture: Shown,
    name: String,
    probability: String,
    label_probability: String,
}

/// The calibration curve: in each range of confidence a bar up to the accuracy.
struct CalibrationView {
    words: String,
    /// What the two means say of each other.
    about: String,
    ticks: Vec<[String; 2]>,
    counts_tick: [String; 2],
    bins: Vec<BinView>,
}

struct BinView {
    title: String,
    left: String,
    width: String,
    middle: String,
    /// Top and height of the bar up to the smaller of accuracy and confidence, of the gap to the larger, and of the count.
    bar: [String; 2],
    gap: [String; 2],
    over: bool,
    counts: [String; 2],
    /// Bounds between which the accuracy lies with 95 % confidence.
    bounds: [String; 2],
    /// The row of the table.
    cells: [String; 4],
}

/// The two curves of a class.
struct CurvesView<'a> {
    class: &'a str,
    images: String,
    words: String,
    figures: [String; 2],
    precision_recall: String,
    roc: String,
}

/// The part, if mistakes were looked for.
pub(super) fn view<'a>(contents: &'a Contents<'_>, t: &'static Texts) -> Result<Option<MistakesView<'a>>> {
    let Some(found) = &contents.mistakes else { return Ok(None) };
    let names = contents.model.classes();
    let shown = shown_pairs(found, contents.model.image_size());
    let pairs = shown.iter().map(|pair| pair_view(contents, pair, t)).collect::<Result<Vec<_>>>()?;
    let curves = first_by(found.curves.len(), |class| lowness(&found.curves[class]));
    Ok(Some(MistakesView {
        t,
        about: fill(t.mistakes_about, &[&count(found.images as u64), &count(found.of as u64)]),
        all: found.images == found.of,
        headlines: headlines(found, t),
        confusion: matrix(contents, found, names, shown, t)?,
        pairs_of: (pairs.len() < found.pairs.len())
            .then(|| fill(t.pairs_of, &[&count(pairs.len() as u64), &count(found.pairs.len() as u64)])),
        pairs,
        calibration: calibration_view(&found.calibration, found, t),
        curves_of: (curves.len() < found.curves.len())
            .then(|| fill(t.curves_of, &[&count(curves.len() as u64), &count(found.curves.len() as u64)])),
        curves: curves.into_iter().map(|class| curves_view(&found.curves[class], t)).collect(),
    }))
}

/// What classes are chosen by where there are many: those that are told worst from all others come first.
fn lowness(curves: &ClassCurves) -> u64 {
    // Shares are from 0 to 1, where the order of the bits is the order of the numbers.
    curves.average_precision.unwrap_or(2.0).max(0.0).to_bits()
}

/// The first pairs, as many as have room for their images.
fn shown_pairs(found: &Mistakes, [_, h, w]: [usize; 3]) -> &[ConfusedPair] {
    let most = if h.max(w) <= SMALL { MOST_SMALL } else { MOST_LARGE };
    let mut images = 0;
    let fits = |pair: &&ConfusedPair| {
        images += pair.worst.len();
        images <= most
    };
    &found.pairs[..found.pairs.iter().take_while(fits).count()]
}

fn headlines(found: &Mistakes, t: &'static Texts) -> Vec<Headline> {
    let note = match found.interval {
        Some([low, high]) => fill(t.interval_note, &[&rough_decimal(low), &rough_decimal(high)]),
        None => String::new(),
    };
    let mut list = vec![Headline { name: t.accuracy, value: percent(found.accuracy), note }];
    if let Some(top5) = found.top5 {
        list.push(Headline { name: t.top5, value: percent(top5), note: t.top5_note.to_owned() });
    }
    let calibration = &found.calibration;
    let adaptive = fill(t.ece_note, &[&percent(calibration.adaptive_ece), &percent(calibration.mce)]);
    list.push(Headline { name: t.ece, value: percent(calibration.ece), note: adaptive });
    list.push(Headline { name: t.brier, value: short(calibration.brier), note: t.brier_note.to_owned() });
    list
}

fn rough_decimal(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn address(pair: [usize; 2]) -> String {
    format!("part/mistakes/{}-{}", pair[0], pair[1])
}

/// The matrix, its cells leading to their images where these are shown.
fn matrix<'a>(
    contents: &Contents<'_>,
    found: &Mistakes,
    names: &'a [String],
    shown: &[ConfusedPair],
    t: &'static Texts,
) -> Result<Confusion<'a>> {
    let words = Words { is: t.image_is, called: t.called, others: t.others, colours: t.confusion_colours };
    let mut confusion = confusion(&found.confusion, names, words, |label, predicted, count, share| {
        fill(t.confusion_cell, &[label, predicted.unwrap_or(t.others), count, share])
    });
    let with_images = confusion.columns.len() <= MOST_WITH_IMAGES;
    for cell in confusion.rows.iter_mut().flat_map(|row| &mut row.cells) {
        let Some([label, predicted]) = cell.pair else { continue };
        let Some(pair) = shown.iter().find(|pair| [pair.label, pair.predicted] == [label, predicted]) else { continue };
        cell.link = Some(address([label, predicted]));
        if let Some(worst) = pair.worst.first().filter(|_| with_images) {
            let picture = Shown::image(&worst.bytes, contents.model.image_size(), IN_CELL, cell.title.clone())?;
            cell.picture = Some(picture.to_string());
        }
    }
    Ok(confusion)
}

fn pair_view<'a>(contents: &'a Contents<'_>, pair: &ConfusedPair, t: &Texts) -> Result<PairView<'a>> {
    let names = contents.model.classes();
    let (label, predicted) = (names[pair.label].as_str(), names[pair.predicted].as_str());
    let images = pair.worst.iter().map(|image| {
        let alt = fill(t.wrong_alt, &[&image.name, label, predicted]);
        Ok(WrongView {
            picture: Shown::image(&image.bytes, contents.model.image_size(), SHOWN, alt)?,
            name: image.name.clone(),
            probability: rough_percent(image.mistake.probability),
            label_probability: rough_percent(image.mistake.label_probability),
        })
    });
    Ok(PairView {
        id: address([pair.label, pair.predicted]),
        label,
        predicted,
        count: count(pair.images as u64),
        images: images.collect::<Result<_>>()?,
    })
}

fn calibration_view(found: &Calibration, all: &Mistakes, t: &Texts) -> CalibrationView {
    let [left, top, right, bottom] = PLOT;
    let bins = found.bins.len();
    let across = Scale::new([0.0, 1.0], [left, right]);
    let up = Scale::new([0.0, 1.0], [bottom, top]);
    let most = found.bins.iter().map(|bin| bin.images).max().unwrap_or(0).max(1);
    let counts = Scale::new([0.0, most as f64], COUNTS);
    let between = |low: f64, high: f64| [coordinate(high), coordinate(low - high)];
    let views = found.bins.iter().enumerate().filter_map(|(place, bin)| {
        let (accuracy, confidence) = (bin.accuracy?, bin.confidence?);
        let (low, high) = (place as f64 / bins as f64, (place + 1) as f64 / bins as f64);
        let (x, width) = (across.place(low) + 1.0, across.place(high) - across.place(low) - 2.0);
        let [less, more] = interval(accuracy, bin.images).unwrap_or([accuracy; 2]);
        let range = format!("{}–{}", rough_percent(low), rough_percent(high));
        let cells = [range, count(bin.images as u64), percent(confidence), percent(accuracy)];
        Some(BinView {
            title: fill(t.bin_title, &[&cells[0], &cells[1], &cells[2], &cells[3]]),
            left: coordinate(x),
            width: coordinate(width),
            middle: coordinate(x + width / 2.0),
            bar: between(bottom, up.place(accuracy.min(confidence))),
            gap: between(up.place(accuracy.min(confidence)), up.place(accuracy.max(confidence))),
            over: confidence > accuracy,
            counts: between(COUNTS[0], counts.place(bin.images as f64)),
            bounds: [up.place(less), up.place(more)].map(coordinate),
            cells,
        })
    });
    let tick = |share: f64| [coordinate(across.place(share)), coordinate(up.place(share))];
    let means = [percent(found.confidence), percent(all.accuracy)];
    let about = if found.confidence > all.accuracy { t.over_confident } else { t.under_confident };
    CalibrationView {
        words: fill(t.calibration_alt, &[&percent(found.ece), &bins.to_string()]),
        about: fill(about, &[&means[0], &means[1]]),
        ticks: [0.0, 0.25, 0.5, 0.75, 1.0].map(tick).to_vec(),
        counts_tick: [coordinate(COUNTS[1]), count(most as u64)],
        bins: views.collect(),
    }
}

fn curves_view<'a>(curves: &'a ClassCurves, t: &Texts) -> CurvesView<'a> {
    let figure = |area: Option<f64>| area.map_or("–".to_owned(), |area| format!("{area:.3}"));
    let figures = [figure(curves.average_precision), figure(curves.auc)];
    let across = Scale::new([0.0, 1.0], [1.0, SIDE - 1.0]);
    let up = Scale::new([0.0, 1.0], [SIDE - 1.0, 1.0]);
    // Precision belongs to the whole step of recall that it raises.
    let mut steps = Vec::new();
    let mut before = 0.0;
    for [recall, precision] in thinned(&curves.precision_recall) {
        steps.extend([(across.place(before), up.place(precision)), (across.place(recall), up.place(precision))]);
        before = recall;
    }
    let second = SIDE + GAP;
    let roc = thinned(&curves.roc).into_iter().map(|[wrong, right]| (second + across.place(wrong), up.place(right)));
    CurvesView {
        class: &curves.class,
        images: count(curves.images as u64),
        words: fill(t.curves_alt, &[&curves.class, &figures[0], &figures[1]]),
        figures,
        precision_recall: points(steps.into_iter()),
        roc: points(roc),
    }
}

/// Points at even distances in the list, the first and the last among them.
fn thinned(list: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if list.len() <= MOST_POINTS {
        return list.to_vec();
    }
    (0..MOST_POINTS).map(|place| list[place * (list.len() - 1) / (MOST_POINTS - 1)]).collect()
}

impl MistakesView<'_> {
    fn view_box(&self) -> String {
        format!("0 0 {} {}", CURVE[0], CURVE[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_ends() {
        let list: Vec<[f64; 2]> = (0..1_001).map(|place| [f64::from(place) / 1_000.0, 1.0]).collect();
        let thin = thinned(&list);
        assert_eq!((thin.len(), thin[0], thin[MOST_POINTS - 1]), (MOST_POINTS, [0.0, 1.0], [1.0, 1.0]));
        assert_eq!(thinned(&list[..5]).len(), 5);
    }
}
