//! `convnet predict`: what images show.

use std::process::ExitCode;

use convnet::data::read_image;
use convnet::model::{Model, Predictor};
use convnet::plan::Purpose;
use convnet::{Error, Result};
use serde_json::json;

use crate::arguments::{MachineArguments, PredictArguments};
use crate::failure::USAGE;
use crate::output::Output;
use crate::sources::machine;
use crate::tuning::tuned;

pub fn run(arguments: &PredictArguments, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    if arguments.top == 0 {
        return Err(Error::Argument("--top is 0; at least one class is printed".into()));
    }
    // To prepare weights for long use would take longer than a few images do; their number must not change a result.
    let machine = machine(machine_arguments)?.for_uses(1);
    let model = Model::load(&arguments.model)?;
    let machine = match arguments.tuning.tune {
        true => tuned(machine, model.network(), &[(1, Purpose::Infer)], output)?,
        false => machine,
    };
    let mut predictor = Predictor::new(&model, 1, &machine)?;
    let mut documents = Vec::new();
    let mut broken = 0;
    for path in &arguments.images {
        // One broken file among many does not hide what the others show.
        let prediction = read_image(path, model.image_size()).and_then(|image| Ok(predictor.predict(&[&image])?.remove(0)));
        match prediction {
            Ok(prediction) => {
                let top = prediction.top(arguments.top);
                documents.push(json!({
                    "image": path.display().to_string(),
                    "top": top.iter().map(|(class, probability)| json!({"class": class, "probability": probability})).collect::<Vec<_>>(),
                }));
                let words: Vec<String> = top.iter().map(|(class, probability)| format!("{class} {:.1} %", 100.0 * probability)).collect();
                output.result(format!("{}: {}", path.display(), words.join(", ")))?;
            }
            Err(error) => {
                broken += 1;
                eprintln!("error: {error}");
                documents.push(json!({"image": path.display().to_string(), "error": error.to_string()}));
            }
        }
    }
    output.json(&documents)?;
    Ok(if broken > 0 { ExitCode::from(USAGE) } else { ExitCode::SUCCESS })
}
