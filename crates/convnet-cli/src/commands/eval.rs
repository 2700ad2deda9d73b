//! `convnet eval`: how well a model does.

use std::process::ExitCode;

use convnet::loss::Loss;
use convnet::model::{Evaluation, Model};
use convnet::plan::Purpose;
use convnet::{Error, Result};

use crate::arguments::{EvalArguments, MachineArguments};
use crate::output::Output;
use crate::sources::{DataSource, machine};
use crate::tuning::tuned;

pub fn run(arguments: &EvalArguments, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    let machine = machine(machine_arguments)?;
    if arguments.batch == 0 {
        return Err(Error::Argument("--batch is 0; a batch has at least one image".into()));
    }
    let model = Model::load(&arguments.model)?;
    let classes = Some(model.classes().to_vec());
    let data = DataSource { arguments: &arguments.data, size: Some(model.image_size()), classes }.open(output)?;
    let batch = arguments.batch.min(data.test.len().max(1));
    let machine = match arguments.tuning.tune {
        true => tuned(machine, model.network(), &[(batch, Purpose::Infer)], output)?,
        false => machine,
    };
    let evaluation = model.evaluate(&data.test, &Loss::default(), batch, &machine)?;
    output.json(&evaluation)?;
    output.result(table(&evaluation))?;
    Ok(ExitCode::SUCCESS)
}

/// From how many classes on a table leaves out what is empty.
const MANY: usize = 20;

/// Accuracy, each class, and which class is taken for which.
pub fn table(evaluation: &Evaluation) -> String {
    let percent = |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let mut text = format!("{} images: accuracy {:.2} %, loss {:.4}", evaluation.images, 100.0 * evaluation.accuracy, evaluation.loss);
    if let Some(top5) = evaluation.top5 {
        text += &format!(", among the top 5 {:.2} %", 100.0 * top5);
    }
    let calibration = &evaluation.calibration;
    text += &format!(
        "\nmean confidence {:.2} %, calibration error {:.2} % (largest gap {:.2} %), Brier score {:.4}",
        100.0 * calibration.confidence,
        100.0 * calibration.ece,
        100.0 * calibration.mce,
        calibration.brier
    );
    // Of many classes only those that the images are of, or were taken for.
    let many = evaluation.classes.len() > MANY;
    let listed: Vec<_> = evaluation.classes.iter().filter(|class| !many || class.images > 0 || class.precision.is_some()).collect();
    let width = listed.iter().map(|class| class.class.chars().count()).max().unwrap_or(0).max(5);
    text += &format!("\n\n{:width$}  images  precision   recall", "class");
    for class in &listed {
        text += &format!("\n{:width$}  {:6}  {:>9}  {:>7}", class.class, class.images, percent(class.precision), percent(class.recall));
    }
    if listed.len() < evaluation.classes.len() {
        text += &format!("\n{} more classes: no image is of them, none was taken for one", evaluation.classes.len() - listed.len());
    }
    if !many {
        let cell = evaluation.confusion.iter().flatten().max().map_or(1, |count| count.to_string().len()).max(2) + 1;
        text += "\n\nconfusion (row: what it is, column: what it was called)\n";
        text += &" ".repeat(width);
        for column in 0..evaluation.classes.len() {
            text += &format!("{column:>cell$}");
        }
        for (row, (class, counts)) in evaluation.classes.iter().zip(&evaluation.confusion).enumerate() {
            text += &format!("\n{:width$}", class.class);
            counts.iter().for_each(|count| text += &format!("{count:>cell$}"));
            text += &format!("  {row}");
        }
    }
    text
}
