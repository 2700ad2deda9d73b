//! `convnet look`: what is inside a model, as a page, pictures and numbers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convnet::data::{Dataset, read_image};
use convnet::look::attribution::Method;
use convnet::look::codes::{self, Asked, InversionRecipe};
use convnet::look::maximise::{Colours, PerChannel, Recipe};
use convnet::look::{Contents, NamedImage, Options, folder};
use convnet::model::Model;
use convnet::train::snapshots;
use convnet::{Error, Result};
use serde_json::json;

use crate::arguments::{LookArguments, MachineArguments, Objective};
use crate::output::Output;
use crate::sources::{DataSource, machine, test_image};

/// Images that are looked at where none is named.
const IMAGES: usize = 3;
/// Images that effective receptive fields are taken over.
const FIELD_SAMPLES: usize = 64;
/// Patches of each neuron.
const PATCHES: usize = 9;
/// The longest side of images of a small network, and how many neurons of a layer of a small or a large one are searched for.
const SMALL: usize = 64;
const NEURONS: usize = 64;
const FEW_NEURONS: usize = 8;
/// Layers whose codes are inverted where none is named, and images that layers are compared over.
const INVERTED: usize = 6;
const COMPARED: usize = 256;
/// What leaves a part out.
const NONE: &str = "none";

pub fn run(arguments: &LookArguments, machine_arguments: &MachineArguments, output: &Output) -> Result<ExitCode> {
    let machine = machine(machine_arguments)?;
    if arguments.samples == 0 {
        return Err(Error::Argument("--samples is 0; statistics need at least one image".into()));
    }
    let model = Model::load(&arguments.model)?;
    let data = data(arguments, &model, output)?;
    let images = images(arguments, &model, data.as_ref())?;
    let small = is_small(&model);
    let other = arguments.compare.as_ref().map(Model::load).transpose()?;
    if data.is_none() && (other.is_some() || asks_for_codes(arguments)) {
        return Err(Error::Argument("--codes and --compare are about the images of a data set; name it with --data".into()));
    }
    if images.is_empty() && (arguments.invert.iter().any(|layer| layer != NONE) || !arguments.dream.is_empty()) {
        return Err(Error::Argument("--invert and --dream are about an image; name one".into()));
    }
    let options = Options {
        layers: arguments.layers.clone(),
        images,
        split: data.as_ref().map(|data| &data.test),
        samples: arguments.samples,
        field_samples: FIELD_SAMPLES,
        scale: arguments.scale.into(),
        recipe: recipe(arguments),
        each: each(arguments)?,
        dream: arguments.dream.clone(),
        colours: Some(colours(&model, data.as_ref())),
        neurons: arguments.neurons.unwrap_or(if small { NEURONS } else { FEW_NEURONS }),
        negative: small,
        copies: arguments.diverse,
        run: run_with_snapshots(&arguments.model)?,
        patches: PATCHES,
        methods: methods(&arguments.methods)?,
        prove: small || arguments.prove,
        codes: asked(arguments, &model, small, other.as_ref()),
        seed: arguments.seed,
        machine,
    };
    let contents = Contents::gather(&model, &options, |step| output.note(format!("looking at {step}")))?;
    let target = arguments.out.clone().unwrap_or_else(|| default_folder(&arguments.model));
    let title = arguments.model.display().to_string();
    let files = folder::write(&contents, &target, &title, &commands(arguments, &contents), arguments.language)?;
    let report = target.join(folder::REPORT);
    output.json(&json!({
        "folder": target.display().to_string(),
        "report": report.display().to_string(),
        "numbers": target.join(folder::NUMBERS).display().to_string(),
        "files": files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        "layers": contents.layers,
        "images": contents.images.iter().map(|image| &image.name).collect::<Vec<_>>(),
    }))?;
    output.result(format!("open {} in a browser", report.display()))?;
    output.line(format!("{} more files are in {}: pictures, and all numbers in {}", files.len() - 1, target.display(), folder::NUMBERS))?;
    Ok(ExitCode::SUCCESS)
}

/// How synthetic images are made; not at all with 0 steps.
fn recipe(arguments: &LookArguments) -> Option<Recipe> {
    let named = Recipe::from(arguments.recipe);
    let total_variation = arguments.total_variation.unwrap_or(named.total_variation);
    (arguments.steps > 0).then_some(Recipe { steps: arguments.steps, total_variation, ..named })
}

/// What they are made for.
fn each(arguments: &LookArguments) -> Result<PerChannel> {
    match (arguments.objective, arguments.place) {
        (Objective::Neuron, place) => Ok(PerChannel::Neuron(place)),
        (Objective::Channel, None) => Ok(PerChannel::Mean),
        (Objective::Channel, Some(_)) => {
            Err(Error::Argument("--place is about one neuron; with --objective channel all count, so leave one of them out".into()))
        }
    }
}

/// The run folder, if the training has kept snapshots in it.
fn run_with_snapshots(model: &Path) -> Result<Option<PathBuf>> {
    Ok(if model.is_dir() && !snapshots(model)?.is_empty() { Some(model.to_owned()) } else { None })
}

/// The colours of the data: of the larger of its splits, which is the one to train on, unless there are only a few images.
fn colours(model: &Model, data: Option<&Dataset>) -> Colours {
    let split = data.map(|data| if data.train.is_empty() { &data.test } else { &data.train });
    Colours::suited(model.image_size()[0], split)
}

/// Whether every neuron can be searched for in minutes.
fn is_small(model: &Model) -> bool {
    let [_, h, w] = model.image_size();
    h.max(w) <= SMALL
}

fn asks_for_codes(arguments: &LookArguments) -> bool {
    arguments.codes.as_ref().is_some_and(|layer| layer != NONE)
}

/// What of codes is looked at: of small networks, and where no layer was named, all of it without being asked.
fn asked<'a>(arguments: &LookArguments, model: &Model, small: bool, other: Option<&'a Model>) -> Asked<'a> {
    let by_itself = small && arguments.layers.is_empty();
    let named = |names: &[String]| names.iter().filter(|name| *name != NONE).cloned().collect::<Vec<_>>();
    Asked {
        layer: match &arguments.codes {
            Some(layer) => (layer != NONE).then(|| layer.clone()),
            None => {
                Some(codes::code_layer(model.network())).filter(|layer| by_itself && codes::fit(model.network(), layer, arguments.samples))
            }
        },
        invert: match arguments.invert.is_empty() {
            false => named(&arguments.invert),
            true if by_itself && arguments.steps > 0 => codes::invertible(model.network(), INVERTED),
            true => Vec::new(),
        },
        inversion: InversionRecipe::suited(model.image_size()),
        similarity: if small || other.is_some() || asks_for_codes(arguments) { COMPARED } else { 0 },
        compare: other,
    }
}

/// The methods by name: all if none is named, none for `none`.
fn methods(names: &[String]) -> Result<Vec<Method>> {
    if names.is_empty() {
        return Ok(Method::ALL.to_vec());
    }
    names.iter().filter(|name| *name != NONE).map(|name| name.parse()).collect()
}

/// The images that statistics are taken over. Without `--data`, those inside the program if the model knows their classes.
fn data(arguments: &LookArguments, model: &Model, output: &Output) -> Result<Option<Dataset>> {
    let classes = Some(model.classes().to_vec());
    let source = DataSource { arguments: &arguments.data, size: Some(model.image_size()), classes };
    if source.is_embedded() {
        let data = Dataset::embedded();
        if data.classes != model.classes() || data.size() != model.image_size() {
            output.note("the images inside the program are not what this model is for; name its images with --data to see more");
            return Ok(None);
        }
    }
    source.open(output).map(Some)
}

/// The images asked for; otherwise the first test image of each of the first classes.
fn images(arguments: &LookArguments, model: &Model, data: Option<&Dataset>) -> Result<Vec<NamedImage>> {
    let of = |data: &Dataset, number| NamedImage::of_test(&data.test, number, &data.classes);
    if arguments.images.is_empty() {
        let Some(data) = data else { return Ok(Vec::new()) };
        let first = |class: usize| data.test.labels().iter().position(|&label| label == class);
        return Ok((0..data.classes.len()).filter_map(first).take(IMAGES).map(|number| of(data, number)).collect());
    }
    let named = |name: &String| {
        if name.starts_with("test:") {
            let embedded;
            let data = match data {
                Some(data) => data,
                None => {
                    embedded = Dataset::embedded();
                    &embedded
                }
            };
            return Ok(of(data, test_image(name, data)?));
        }
        Ok(NamedImage { name: name.clone(), bytes: read_image(name, model.image_size())?, label: None })
    };
    arguments.images.iter().map(named).collect()
}

/// `look` in a run folder, `NAME-look` beside a model file.
fn default_folder(model: &Path) -> PathBuf {
    if model.is_dir() {
        return model.join("look");
    }
    let stem = model.file_stem().map_or("model".into(), |stem| stem.to_string_lossy());
    model.with_file_name(format!("{stem}-look"))
}

fn commands(arguments: &LookArguments, contents: &Contents<'_>) -> Vec<String> {
    let model = arguments.model.display();
    let image = contents.images.first().map_or("IMAGE", |image| &image.name);
    let layer = contents.filters.first().map_or("conv1", |filters| &filters.layer);
    vec![
        format!("convnet explain {model} {image} --layer {layer} --at 0,0,0"),
        format!("convnet look {model} IMAGE.png --layer {layer} --out look-{layer}"),
        format!("convnet summary {model}"),
    ]
}
