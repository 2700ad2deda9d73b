//! The report of a training: one HTML page that asks nothing of any other file or machine.
//!
//! [`render`] turns records into text; it reads no clock and no file, so the same report gives the same bytes. The page
//! holds no script, and its content security policy forbids the browser every request. Its parts that have nothing to
//! show (no epoch was finished, nothing was evaluated) are left out.

use askama::Template;

use super::{EpochRecord, StepRecord};
use crate::error::{Error, Result};
use crate::layer::Role;
use crate::model::{Evaluation, Mistake, interval};
use crate::network::{Network, Parameters};
use crate::page::colour::{self, Swatch};
use crate::page::confusion::{Bar, Confusion};
use crate::page::number::{GAP, count, duration, figure, percent, sizes};
use crate::page::picture::{self, Picture};

mod chart;
mod classes;
mod curves;
mod filters;
#[cfg(test)]
mod tests;

use chart::LineChart;
use classes::ClassRow;
use curves::EpochRow;
use filters::Filters;

/// The most mistakes that are shown, and how many of them at first sight.
const MOST_MISTAKES: usize = 100;
const FIRST_MISTAKES: usize = 24;
/// The most layers that are listed.
const MOST_LAYERS: usize = 1_000;

/// What a report tells. All texts are shown as they are, whatever is in them.
///
/// ```
/// use convnet::layer::relu::Relu;
/// use convnet::network::{Network, NodeId, Parameters};
/// use convnet::train::report::{Report, render};
///
/// let mut builder = Network::builder([1, 28, 28]);
/// let relu = builder.add(Relu, &[NodeId::IMAGE])?;
/// let network = builder.finish(relu)?;
/// let parameters = Parameters::constant(&network)?;
/// let page = render(&Report::new("A first run", &network, &parameters))?;
/// assert!(page.contains("<h1>A first run</h1>"));
/// # Ok::<(), convnet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The heading of the page.
    pub title: &'a str,
    /// What was trained.
    pub network: &'a Network,
    /// Its numbers, whose first convolution is shown.
    pub parameters: &'a Parameters,
    /// The table of layers.
    pub layers: Vec<LayerRow>,
    /// Every setting, as in `run.toml`.
    pub settings: &'a str,
    /// The logged steps.
    pub steps: &'a [StepRecord],
    /// The finished epochs.
    pub epochs: &'a [EpochRecord],
    /// How the trained network did on the test images.
    pub evaluation: Option<&'a Evaluation>,
    /// Names of the classes, in the order of the labels.
    pub classes: &'a [String],
    /// Mistakes with their images, worst first; at most 100 are shown.
    pub mistakes: Vec<MistakeImage>,
    /// What it ran on, as text of one or more lines.
    pub machine: &'a str,
    /// Time of the training in seconds.
    pub seconds: f64,
    /// Commands to try next.
    pub next_commands: Vec<String>,
}

impl<'a> Report<'a> {
    /// A report in which only the network is known yet.
    pub fn new(title: &'a str, network: &'a Network, parameters: &'a Parameters) -> Self {
        Self {
            title,
            network,
            parameters,
            layers: Vec::new(),
            settings: "",
            steps: &[],
            epochs: &[],
            evaluation: None,
            classes: &[],
            mistakes: Vec::new(),
            machine: "",
            seconds: 0.0,
            next_commands: Vec::new(),
        }
    }
}

/// A row of the table of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRow {
    /// Its name, `conv1`.
    pub name: String,
    /// Its text form, `conv 32 3x3 pad 1`.
    pub text: String,
    /// Channels, height and width of its output.
    pub output: [usize; 3],
    /// Number of its trained parameters.
    pub parameters: usize,
    /// Multiplications with additions for one image.
    pub macs: u64,
    /// Height and width of the part of the image that one output number sees, where that is a part.
    pub receptive_field: Option<[usize; 2]>,
}

/// A mistake and the image it was made on.
#[derive(Clone, Debug, PartialEq)]
pub struct MistakeImage {
    /// What was taken for what.
    pub mistake: Mistake,
    /// The bytes of the image, C×H×W.
    pub image: Vec<u8>,
    /// Channels, height and width of the image.
    pub size: [usize; 3],
    /// Where the image is found again: its file, or its number.
    pub name: String,
}

/// Writes the page.
///
/// # Errors
/// [`Error::Argument`] when the parts do not fit together: the confusion matrix and the class names, a mistake and the
/// class names, the bytes of an image and its size.
pub fn render(report: &Report<'_>) -> Result<String> {
    Page::new(report)?.render().map_err(|error| Error::Unsupported(format!("the report could not be written: {error}")))
}

#[derive(Template)]
#[template(path = "report/page.html", whitespace = "minimize")]
struct Page<'a> {
    title: &'a str,
    lead: String,
    headlines: Vec<Headline>,
    charts: Vec<LineChart>,
    epochs: Vec<EpochRow>,
    /// Set when the table of epochs is not whole: how many there are.
    epochs_of: Option<String>,
    confusion: Option<Confusion<'a>>,
    classes: Vec<ClassRow<'a>>,
    mistakes: Vec<MistakeView<'a>>,
    more_mistakes: Vec<MistakeView<'a>>,
    filters: Option<Filters>,
    layers: Vec<LayerView<'a>>,
    /// Set when not all layers are listed: how many there are.
    layers_of: Option<String>,
    layer_totals: [String; 2],
    settings: &'a str,
    machine: &'a str,
    commands: &'a [String],
    on_light: Vec<Swatch>,
    on_dark: Vec<Swatch>,
}

/// A figure at the top of the page.
struct Headline {
    name: &'static str,
    value: String,
    note: String,
}

struct MistakeView<'a> {
    picture: Picture,
    name: &'a str,
    label: &'a str,
    predicted: &'a str,
    label_probability: String,
    probability: String,
}

struct LayerView<'a> {
    name: &'a str,
    text: &'a str,
    output: String,
    parameters: Bar,
    macs: Bar,
    receptive_field: String,
}

impl<'a> Page<'a> {
    fn new(report: &'a Report<'a>) -> Result<Self> {
        if let Some(evaluation) = report.evaluation {
            check(evaluation, report.classes)?;
        }
        let epochs = curves::rows(report.epochs);
        let mut mistakes =
            report.mistakes.iter().take(MOST_MISTAKES).map(|shown| mistake(shown, report.classes)).collect::<Result<Vec<_>>>()?;
        let more_mistakes = mistakes.split_off(FIRST_MISTAKES.min(mistakes.len()));
        let parameters: u64 = report.layers.iter().map(|row| row.parameters as u64).fold(0, u64::saturating_add);
        let macs: u64 = report.layers.iter().map(|row| row.macs).fold(0, u64::saturating_add);
        Ok(Self {
            title: report.title,
            lead: lead(report),
            headlines: headlines(report),
            charts: curves::charts(report.steps, report.epochs),
            epochs_of: (epochs.len() < report.epochs.len()).then(|| count(report.epochs.len() as u64)),
            epochs,
            confusion: report.evaluation.map(|evaluation| classes::matrix(evaluation, report.classes)),
            classes: report.evaluation.map(|evaluation| classes::class_rows(evaluation, report.classes)).unwrap_or_default(),
            mistakes,
            more_mistakes,
            filters: filters::first_layer(report.network, report.parameters)?,
            layers: report.layers.iter().take(MOST_LAYERS).map(|row| layer(row, parameters, macs)).collect(),
            layers_of: (report.layers.len() > MOST_LAYERS).then(|| count(report.layers.len() as u64)),
            layer_totals: [parameters, macs].map(count),
            settings: report.settings.trim_end(),
            machine: report.machine.trim_end(),
            commands: &report.next_commands,
            on_light: colour::on_light(),
            on_dark: colour::on_dark(),
        })
    }
}

fn check(evaluation: &Evaluation, classes: &[String]) -> Result<()> {
    let found = [evaluation.confusion.len(), evaluation.classes.len()];
    let whole = evaluation.confusion.iter().all(|row| row.len() == classes.len());
    if found != [classes.len(); 2] || !whole {
        return Err(Error::Argument(format!(
            "the evaluation is of {} classes with a confusion matrix of {} rows; there are names of {} classes",
            found[1],
            found[0],
            classes.len()
        )));
    }
    Ok(())
}

/// What was trained, in a sentence.
fn lead(report: &Report<'_>) -> String {
    let network = report.network;
    let layers = match network.nodes().len() {
        1 => "1 layer".to_owned(),
        layers => format!("{} layers", count(layers as u64)),
    };
    let input = sizes(&network.input_shape().chw());
    let output = match network.output_shape().chw() {
        [scores, 1, 1] => format!("{} scores", count(scores as u64)),
        output => sizes(&output),
    };
    let epochs = match report.epochs.len() {
        0 => "no epoch finished".to_owned(),
        1 => "trained for 1 epoch".to_owned(),
        epochs => format!("trained for {} epochs", count(epochs as u64)),
    };
    format!("A network of {layers} from images of {input} to {output}, {epochs}.")
}

fn headlines(report: &Report<'_>) -> Vec<Headline> {
    let mut list = Vec::new();
    if let Some(evaluation) = report.evaluation {
        list.extend(accuracy(evaluation));
    } else if let Some(last) = report.epochs.last() {
        list.push(Headline {
            name: "Training accuracy",
            value: percent(last.train.accuracy),
            note: "of the last epoch; not evaluated".into(),
        });
        list.push(Headline { name: "Training loss", value: figure(last.train.loss), note: "mean of the last epoch".into() });
    }
    list.push(Headline { name: "Time", value: duration(report.seconds), note: "of the training, evaluations included".into() });
    if let Some(speed) = curves::images_per_second(report.epochs) {
        list.push(Headline { name: "Images per second", value: figure(speed), note: "in training, median of the epochs".into() });
    }
    let trained = report.parameters.list().iter().filter(|parameter| parameter.role != Role::Buffer);
    let parameters = trained.map(|parameter| parameter.tensor.len() as u64).sum();
    list.push(Headline { name: "Parameters", value: count(parameters), note: "trained weights and biases".into() });
    list
}

fn accuracy(evaluation: &Evaluation) -> Vec<Headline> {
    let images = count(evaluation.images as u64);
    let note = match interval(evaluation.accuracy, evaluation.images) {
        Some([low, high]) => {
            let [low, high] = [low, high].map(|share| format!("{:.1}", 100.0 * share));
            format!("of {images} images; 95{GAP}% interval {low} to {high}{GAP}%")
        }
        None => format!("of {images} images"),
    };
    let mut list = vec![Headline { name: "Test accuracy", value: percent(evaluation.accuracy), note }];
    if let Some(top5) = evaluation.top5 {
        list.push(Headline { name: "Top-5 accuracy", value: percent(top5), note: "the class is among the five best".into() });
    }
    list.push(Headline { name: "Test loss", value: figure(evaluation.loss), note: "mean over the images".into() });
    list
}

fn mistake<'a>(shown: &'a MistakeImage, classes: &'a [String]) -> Result<MistakeView<'a>> {
    let Mistake { label, predicted, probability, label_probability, .. } = shown.mistake;
    let [Some(label), Some(predicted)] = [label, predicted].map(|class| classes.get(class)) else {
        return Err(Error::Argument(format!(
            "'{}': classes {label} and {predicted} are not both among the {} names",
            shown.name,
            classes.len()
        )));
    };
    let picture = picture::of_image(&shown.image, shown.size)?;
    let [probability, label_probability] = [probability, label_probability].map(percent);
    Ok(MistakeView { picture, name: &shown.name, label, predicted, label_probability, probability })
}

fn layer(row: &LayerRow, parameters: u64, macs: u64) -> LayerView<'_> {
    let share = |part: u64, whole: u64| Bar::new(part as f64 / whole.max(1) as f64, if part == 0 { "–".to_owned() } else { count(part) });
    LayerView {
        name: &row.name,
        text: &row.text,
        output: sizes(&row.output),
        parameters: share(row.parameters as u64, parameters),
        macs: share(row.macs, macs),
        receptive_field: row.receptive_field.map_or("–".to_owned(), |field| sizes(&field)),
    }
}
