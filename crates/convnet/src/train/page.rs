//! From a run to its report.

use std::path::Path;

use convnet_kernels::Machine;

use super::Run;
use super::report::{LayerRow, MistakeImage, Report, render};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::file::write_whole;

/// Mistakes that a report shows.
const MISTAKES: usize = 40;

/// Writes the report of a run.
pub(super) fn write(run: &Run, data: &Dataset, machine: &Machine, path: &Path) -> Result<()> {
    let network = run.model.network();
    let folder = run.folder.as_ref().map_or(String::new(), |folder| folder.display().to_string());
    let settings = toml::to_string_pretty(&run.record).map_err(|error| Error::format(path, error))?;
    let layers = network.summary().layers.into_iter().map(|layer| LayerRow {
        receptive_field: (!layer.sees_whole).then(|| layer.receptive_field.map(|length| length as usize)),
        name: layer.name,
        text: layer.text,
        output: layer.output,
        parameters: layer.parameters as usize,
        macs: layer.macs,
    });
    let mistakes = run.evaluation.mistakes.iter().take(MISTAKES).map(|mistake| MistakeImage {
        image: data.test.image(mistake.sample).to_vec(),
        size: data.test.size(),
        name: data.test.name(mistake.sample),
        mistake: mistake.clone(),
    });
    let source = match run.record.data.source.as_str() {
        "embedded" => "the embedded images",
        source => source,
    };
    let page = render(&Report {
        layers: layers.collect(),
        settings: &settings,
        steps: &run.logged_steps(),
        epochs: &run.epochs(),
        evaluation: Some(&run.evaluation),
        classes: run.model.classes(),
        mistakes: mistakes.collect(),
        machine: &format!("{} instructions, {} threads", machine.isa, machine.threads.count()),
        seconds: run.seconds,
        next_commands: vec![
            format!("convnet eval {folder}"),
            format!("convnet predict {folder} IMAGE.png"),
            format!("convnet summary {folder}"),
            format!("convnet check {folder}"),
        ],
        ..Report::new(&format!("Training on {source}"), network, run.model.parameters())
    })?;
    write_whole(path, page.as_bytes())
}
