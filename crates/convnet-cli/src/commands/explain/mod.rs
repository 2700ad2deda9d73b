//! `convnet explain`: the arithmetic of single numbers, forward and backward.

mod backward;
mod forward;
mod views;

use std::process::ExitCode;

use convnet::data::{Dataset, read_image};
use convnet::look::Inspector;
use convnet::look::attribution::{Target, scores};
use convnet::look::explain::{
    Drawing, columns, correlation, draw, draw_columns, draw_correlation, draw_coverage, draw_gradient, draw_weight_gradient, explain,
    explain_gradient, explain_weight, write_picture,
};
use convnet::model::{Model, best};
use convnet::{Error, Result};

use crate::arguments::ExplainArguments;
use crate::output::Output;
use crate::sources::test_image;

pub fn run(arguments: &ExplainArguments, output: &Output) -> Result<ExitCode> {
    let model = Model::load(&arguments.model)?;
    if arguments.class.is_some() && !arguments.backward && arguments.weight.is_none() {
        return Err(Error::Argument("--class is for gradients; add --backward or --weight".into()));
    }
    let (layer, most) = (arguments.layer.as_str(), arguments.terms);
    let draws = arguments.picture.is_some();
    let drawing = if arguments.coverage {
        let found = model.network().coverage(layer)?;
        shown(output, &found, views::coverage(&found))?;
        draws.then(|| draw_coverage(&found, arguments.language))
    } else {
        let image = image(&arguments.image, &model)?;
        let mut inspector = Inspector::new(&model, &image)?;
        if let Some(weight) = arguments.weight {
            let class = class(arguments.class.as_deref(), &inspector)?;
            let found = explain_weight(&mut inspector, layer, weight, class)?;
            shown(output, &found, backward::weight(&found, most))?;
            draws.then(|| draw_weight_gradient(&found, arguments.language))
        } else {
            let at = arguments.at.ok_or_else(|| Error::Argument("--at K,Y,X is missing: channel, row and column of the number".into()))?;
            at_place(arguments, &mut inspector, &image, at, output)?
        }
    };
    if let (Some(path), Some(drawing)) = (&arguments.picture, drawing) {
        write_picture(&drawing?, path)?;
        output.line(format!("\ndrawn in {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is asked about one output number, and its drawing if it is wanted.
fn at_place(
    arguments: &ExplainArguments,
    inspector: &mut Inspector<'_>,
    image: &[u8],
    at: [usize; 3],
    output: &Output,
) -> Result<Option<Result<Drawing>>> {
    let (layer, most, language) = (arguments.layer.as_str(), arguments.terms, arguments.language);
    let draws = arguments.picture.is_some();
    Ok(if arguments.backward {
        let class = class(arguments.class.as_deref(), inspector)?;
        let found = explain_gradient(inspector, layer, at, class)?;
        shown(output, &found, backward::number(&found, most))?;
        draws.then(|| draw_gradient(&found, language))
    } else if arguments.correlation {
        let found = correlation(inspector, layer, at)?;
        shown(output, &found, views::correlation(&found, most))?;
        draws.then(|| draw_correlation(&found, language))
    } else if arguments.columns {
        let found = columns(inspector, layer, at)?;
        shown(output, &found, views::columns(&found, most))?;
        draws.then(|| draw_columns(&found, language))
    } else {
        let found = explain(inspector, layer, at)?;
        shown(output, &found, forward::text(&found, most))?;
        draws.then(|| draw(&found, image, inspector.model().image_size(), language))
    })
}

fn shown(output: &Output, document: &impl serde::Serialize, text: String) -> Result<()> {
    output.json(document)?;
    output.result(text)
}

fn image(argument: &str, model: &Model) -> Result<Vec<u8>> {
    if !argument.starts_with("test:") {
        return read_image(argument, model.image_size());
    }
    let data = Dataset::embedded();
    Ok(data.test.image(test_image(argument, &data)?).to_vec())
}

/// The number of a class by its name or number; of the class with the largest score without one.
fn class(argument: Option<&str>, inspector: &Inspector<'_>) -> Result<usize> {
    let model = inspector.model();
    let Some(argument) = argument else {
        return Ok(best(inspector.value(scores(model.network()))?.values()));
    };
    match Target::parse(argument, model.classes()) {
        Ok(Target::Class(class)) => Ok(class),
        _ => Err(Error::Argument(format!("'{argument}' is no class; there are {}", model.classes().join(", ")))),
    }
}

/// As many of a list as are wanted, and which: all in their order if they are few, otherwise those with the largest products.
fn largest<'a, T>(list: &'a [T], most: usize, product: impl Fn(&T) -> f64, what: &str) -> (Vec<&'a T>, String) {
    let mut kept: Vec<&T> = list.iter().collect();
    if kept.len() <= most {
        return (kept, String::new());
    }
    kept.sort_by(|a, b| product(b).abs().total_cmp(&product(a).abs()));
    kept.truncate(most);
    (kept, format!("\nthe {most} largest of {} {what} (--terms prints more):", list.len()))
}

/// A number with six decimals, or with an exponent where they would show little of it; 0 without a sign.
fn precise(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if size < 1e-3 => format!("{number:.4e}"),
        _ => format!("{number:.6}"),
    }
}
