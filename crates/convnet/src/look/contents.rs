//! All that is looked at together: for a model the filters of its convolutions and what its neurons look for; for images their
//! predictions, maps and attributions; for a data set the statistics of every layer, the patches that neurons answer to, and
//! effective receptive fields. A part that nothing was asked about stays empty.

use std::path::{Path, PathBuf};

use convnet_kernels::Machine;
use serde::Serialize;

use super::attribution::{Attribution, Completeness, Evidence, Method, Settings, Subject, Target, scores};
use super::codes::{Asked, Gathered, Sources};
use super::deletion::{Deletion, DeletionSettings, deletion};
use super::explain::{Explanation, examples};
use super::maximise::{Atlas, AtlasLayer, Colours, Dream, Objective, PerChannel, Recipe, Standing, Synthetic, dream, name_of, standing};
use super::mistakes::{Mistakes, mistakes};
use super::picture::{ColourMap, Range};
use super::sanity::{Randomisation, randomisation};
use super::{
    EffectiveField, Filmstrip, Frame, Inspector, LayerFilters, LayerMaps, LayerPatches, Patches, Scale, Statistics, convolutions,
    effective_fields, filters, maps, ranges, statistics,
};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::model::{Model, Predictor};

/// An image to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedImage {
    /// Where it is found again: its file, or its number in the data.
    pub name: String,
    /// Bytes 0 to 255, C×H×W, of the size that the network takes.
    pub bytes: Vec<u8>,
    /// The name of its class, where it is known.
    pub label: Option<String>,
}

impl NamedImage {
    /// An image of the images to test on, with its class.
    ///
    /// # Panics
    /// When `number` is not below the number of images.
    pub fn of_test(test: &Split, number: usize, classes: &[String]) -> Self {
        let label = classes.get(test.labels()[number]).cloned();
        Self { name: test_name(test, number), bytes: test.image(number).to_vec(), label }
    }
}

/// How an image of the images to test on is named: by its path, or as `test:N`.
pub(super) fn test_name(test: &Split, number: usize) -> String {
    test.path(number).map_or_else(|| format!("test:{number}"), |path| path.display().to_string())
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Names of the layers; all if there is none.
    pub layers: Vec<String>,
    /// The images whose maps are taken.
    pub images: Vec<NamedImage>,
    /// The images that statistics and patches are taken over.
    pub split: Option<&'a Split>,
    /// Images of the split that statistics are taken over.
    pub samples: usize,
    /// Images of the split that effective receptive fields are taken over; none if 0.
    pub field_samples: usize,
    /// Which maps share a colour scale.
    pub scale: Scale,
    /// How synthetic images are made; none without.
    pub recipe: Option<Recipe>,
    /// The colours of synthetic images; independent of each other unless said.
    pub colours: Option<Colours>,
    /// Neurons of a layer that get a synthetic image.
    pub neurons: usize,
    /// What these images are made for.
    pub each: PerChannel,
    /// Layers that each image is changed for until they see more of what they see in it ("deep dream").
    pub dream: Vec<String>,
    /// Whether they also get one of what makes them small.
    pub negative: bool,
    /// Images more for each of them, kept unlike each other; none if 0.
    pub copies: usize,
    /// The run folder whose snapshots become a filmstrip.
    pub run: Option<PathBuf>,
    /// Patches of a neuron at the top of the data; none if 0. There are half as many at the bottom.
    pub patches: usize,
    /// Methods of attribution, for the first class of each image.
    pub methods: Vec<Method>,
    /// Whether each attribution is put to the randomisation test and to deletion and insertion.
    pub prove: bool,
    /// What of codes is looked at.
    pub codes: Asked<'a>,
    /// Fixes every random number.
    pub seed: u64,
    /// What the work is done on.
    pub machine: Machine,
}

impl Options<'_> {
    /// Filters alone: no image, no data, nothing that is searched for.
    pub fn new(machine: Machine) -> Self {
        Self {
            layers: Vec::new(),
            images: Vec::new(),
            split: None,
            samples: 1000,
            field_samples: 0,
            scale: Scale::Layer,
            recipe: None,
            colours: None,
            neurons: 64,
            each: PerChannel::default(),
            dream: Vec::new(),
            negative: false,
            copies: 0,
            run: None,
            patches: 0,
            methods: Vec::new(),
            prove: true,
            codes: Asked::default(),
            seed: 1,
            machine,
        }
    }
}

/// What was seen. See the [module](self).
#[derive(Clone, Debug, Serialize)]
pub struct Contents<'a> {
    /// The model.
    #[serde(skip)]
    pub model: &'a Model,
    /// The images that statistics and patches were taken over.
    #[serde(skip)]
    pub split: Option<&'a Split>,
    /// Names of the layers that were looked at, in the network's order.
    pub layers: Vec<String>,
    /// The most neurons of a layer that are shown one by one.
    pub neurons: usize,
    /// The filters of their convolutions.
    pub filters: Vec<LayerFilters>,
    /// What synthetic images were made for.
    pub each: PerChannel,
    /// How synthetic images were made, where there are some.
    pub recipe: Option<Recipe>,
    /// Synthetic images for the neurons of their convolutions and fully connected layers.
    pub synthetic: Vec<SyntheticContents>,
    /// Patches from the data for the same neurons.
    pub patches: Vec<LayerPatches>,
    /// The images.
    pub images: Vec<ImageContents>,
    /// What the images were changed into, to excite whole layers.
    pub dreams: Vec<Dreams>,
    /// The statistics of all layers.
    pub statistics: Option<Statistics>,
    /// Effective receptive fields of the layers.
    pub effective: Vec<EffectiveField>,
    /// The first convolution's filters, and synthetic images for a few neurons, over the epochs of the training.
    pub frames: Vec<Frame>,
    /// What is taken for what, over the same images as the statistics.
    pub mistakes: Option<Mistakes>,
    /// Maps of the data, nearest neighbours, inversions, and how alike layers are.
    #[serde(flatten)]
    pub codes: Gathered,
}

/// The synthetic images of a layer.
#[derive(Clone, Debug, Serialize)]
pub struct SyntheticContents {
    /// The images.
    #[serde(flatten)]
    pub atlas: AtlasLayer,
    /// Images of what makes the same neurons small.
    pub negative: Vec<Synthetic>,
    /// As many images for each neuron, kept unlike each other.
    pub diverse: Vec<Synthetic>,
    /// Where the value on each stands among those of the data; nothing without data.
    pub standing: Vec<Standing>,
}

/// What an image was changed into until a layer saw more of what it saw in it.
#[derive(Clone, Debug, Serialize)]
pub struct Dreams {
    /// The image's name.
    pub name: String,
    /// For each layer the changed image.
    pub layers: Vec<Dream>,
}

/// What was seen on one image.
#[derive(Clone, Debug, Serialize)]
pub struct ImageContents {
    /// Its name.
    pub name: String,
    /// The name of its class, where it is known.
    pub label: Option<String>,
    /// Its bytes, C×H×W.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Classes with their probabilities, most probable first.
    pub prediction: Vec<(String, f32)>,
    /// The maps of each layer that was looked at.
    pub maps: Vec<LayerMaps>,
    /// The colour scale of each map of each layer.
    #[serde(skip)]
    pub scales: Vec<Vec<(Range, ColourMap)>>,
    /// How the largest numbers of the first convolution and the first pooling come about.
    pub arithmetic: Vec<Explanation>,
    /// Where the score of the first class comes from, by each method.
    pub attributions: Vec<AttributionContents>,
}

/// What one method says of one image, and how far it is to be believed.
#[derive(Clone, Debug, Serialize)]
pub struct AttributionContents {
    /// The map.
    #[serde(skip)]
    pub attribution: Attribution,
    /// The method.
    pub method: &'static str,
    /// The score that is explained.
    pub score: f64,
    /// The layer whose maps are shown, for class activation maps.
    pub layer: Option<String>,
    /// Whether there is anything to show.
    pub evidence: Evidence,
    /// For integrated gradients, whether the shares add up.
    pub completeness: Option<Completeness>,
    /// The randomisation test.
    pub randomisation: Option<Randomisation>,
    /// Deletion and insertion curves.
    pub deletion: Option<Deletion>,
}

/// The most neurons of a layer that are shown one by one, and how many all layers may have together for that.
pub(super) const MOST_NEURONS: usize = 64;
const MANY_NEURONS: usize = 600;
/// Classes that are kept of a prediction.
const TOP: usize = 5;
/// The most frames of a filmstrip, and the most neurons of a layer in it.
const FRAMES: usize = 8;
const STRIP_NEURONS: usize = 8;

impl<'a> Contents<'a> {
    /// Looks at a model. `progress` is told what is done next.
    ///
    /// # Errors
    /// A layer or an image does not belong to the model, or the memory cannot be had.
    pub fn gather(model: &'a Model, options: &Options<'a>, mut progress: impl FnMut(&str)) -> Result<Self> {
        let layers = chosen(model, &options.layers)?;
        let split = options.split.filter(|split| !split.is_empty());
        progress("filters");
        let convolutions = convolutions(model);
        let filters = layers.iter().filter(|layer| convolutions.contains(&layer.as_str())).map(|layer| filters(model, layer));
        let filters = filters.collect::<Result<Vec<_>>>()?;
        let mut images = Vec::with_capacity(options.images.len());
        for image in &options.images {
            images.push(seen(model, image, &layers, options, &mut progress)?);
        }
        let (mut statistics_found, mut mistakes_found) = (None, None);
        let (mut patches, mut effective) = (Vec::new(), Vec::new());
        let with_neurons = with_neurons(model, &layers);
        let neurons = shown_neurons(model, &with_neurons, options.neurons);
        if let Some(split) = split {
            progress("statistics");
            statistics_found = Some(statistics(model, split, options.samples, &options.machine)?);
            progress("mistakes");
            mistakes_found = Some(mistakes(model, split, options.samples, &options.machine)?);
            if options.patches > 0 && !with_neurons.is_empty() {
                progress("patches of the data");
                let (top, bottom) = (options.patches, options.patches.div_ceil(2));
                let search = Patches::new(model).layers(with_neurons.clone()).top(top).bottom(bottom).most(neurons);
                patches = search.machine(options.machine.clone()).run(split)?;
            }
            if options.field_samples > 0 {
                progress("effective receptive fields");
                effective = effective_fields(model, &layers, split, options.field_samples, &options.machine)?;
            }
        }
        let synthetic = match &options.recipe {
            Some(recipe) if !with_neurons.is_empty() => synthetic(model, with_neurons, recipe, options, split, &mut progress)?,
            _ => Vec::new(),
        };
        let dreams = dreams(model, options, &mut progress)?;
        let frames = match &options.run {
            Some(run) => frames(model, run, &layers, options, &mut progress)?,
            None => Vec::new(),
        };
        let sources = Sources {
            model,
            images: &options.images,
            split,
            samples: options.samples,
            layers: &layers,
            colours: options.colours.as_ref(),
            seed: options.seed,
            machine: &options.machine,
        };
        let codes = Gathered::gather(&options.codes, &sources, &mut progress)?;
        Ok(Self {
            model,
            split,
            layers,
            neurons,
            filters,
            each: options.each,
            recipe: options.recipe.clone().filter(|_| !synthetic.is_empty()),
            synthetic,
            patches,
            images,
            dreams,
            statistics: statistics_found,
            effective,
            frames,
            mistakes: mistakes_found,
            codes,
        })
    }
}

impl Contents<'_> {
    /// The bytes of an image that was looked at, C×H×W; none of another.
    pub(super) fn bytes_of(&self, name: &str) -> &[u8] {
        self.images.iter().find(|image| image.name == name).map_or(&[], |image| &image.bytes)
    }
}

/// The layers asked for in the network's order, each once.
fn chosen(model: &Model, asked: &[String]) -> Result<Vec<String>> {
    for layer in asked {
        model.network().find(layer)?;
    }
    let nodes = model.network().nodes().iter().map(|node| node.name().to_owned());
    Ok(nodes.filter(|name| asked.is_empty() || asked.contains(name)).collect())
}

/// Those of the layers whose channels are looked at one by one.
fn with_neurons(model: &Model, layers: &[String]) -> Vec<String> {
    let nodes = model.network().nodes().iter().filter(|node| matches!(node.layer(), Layer::Conv2d(_) | Layer::Linear(_)));
    nodes.map(|node| node.name().to_owned()).filter(|name| layers.contains(name)).collect()
}

/// The most neurons of a layer that are shown one by one: of a network with many, only those that images are made for.
fn shown_neurons(model: &Model, layers: &[String], searched: usize) -> usize {
    let channels = |layer: &String| model.network().find(layer).map_or(0, |id| model.network().shape(id).c.min(MOST_NEURONS));
    if layers.iter().map(channels).sum::<usize>() > MANY_NEURONS { searched.min(MOST_NEURONS) } else { MOST_NEURONS }
}

fn synthetic(
    model: &Model,
    layers: Vec<String>,
    recipe: &Recipe,
    options: &Options<'_>,
    split: Option<&Split>,
    progress: &mut impl FnMut(&str),
) -> Result<Vec<SyntheticContents>> {
    let mut atlas = Atlas::new(model).layers(layers).most(options.neurons).each(options.each).recipe(recipe.clone()).seed(options.seed);
    if let Some(colours) = &options.colours {
        atlas = atlas.colours(colours.clone());
    }
    let atlas = atlas.machine(options.machine.clone());
    let mut run = |what: &str, atlas: Atlas<'_>| {
        progress(what);
        atlas.run(|number, of, layer| progress(&format!("{what}: {} ({number} of {of})", layer.layer)))
    };
    let made = run("synthetic images", atlas.clone())?;
    let negative = if options.negative { run("what makes neurons small", atlas.clone().negative())? } else { Vec::new() };
    let diverse = match options.copies {
        0 => Vec::new(),
        copies => run("diverse images", atlas.recipe(Recipe { copies, ..recipe.clone() }))?,
    };
    let all: Vec<_> = made.iter().flat_map(|layer| layer.images.iter().cloned()).collect();
    let mut standings = match split {
        Some(split) => {
            progress("synthetic images beside the data");
            standing(model, &all, split, &options.machine)?.into_iter()
        }
        None => Vec::new().into_iter(),
    };
    let mut others = [negative, diverse].map(|atlas| atlas.into_iter().map(|layer| layer.images));
    let with = |atlas: AtlasLayer| {
        let [negative, diverse] = others.each_mut().map(|images| images.next().unwrap_or_default());
        SyntheticContents { negative, diverse, standing: standings.by_ref().take(atlas.images.len()).collect(), atlas }
    };
    Ok(made.into_iter().map(with).collect())
}

/// Each image, changed for each of the layers.
fn dreams(model: &Model, options: &Options<'_>, progress: &mut impl FnMut(&str)) -> Result<Vec<Dreams>> {
    if options.dream.is_empty() {
        return Ok(Vec::new());
    }
    let colours = options.colours.clone().unwrap_or_else(|| Colours::independent(model.image_size()[0]));
    let mut of = |image: &NamedImage| {
        let layer = |layer: &String| {
            progress(&format!("more of what {layer} sees in {}", image.name));
            dream(model, &image.bytes, layer, &Recipe::dream(), &colours, options.seed, &options.machine)
        };
        Ok(Dreams { name: image.name.clone(), layers: options.dream.iter().map(layer).collect::<Result<_>>()? })
    };
    options.images.iter().map(&mut of).collect()
}

/// The filmstrip of a run: the filters of the first convolution, neurons of the last one, and scores.
fn frames(model: &Model, run: &Path, layers: &[String], options: &Options<'_>, progress: &mut impl FnMut(&str)) -> Result<Vec<Frame>> {
    progress("the filmstrip");
    let mut strip = Filmstrip::new(run).most(FRAMES).seed(options.seed).machine(options.machine.clone());
    let convolutions: Vec<&str> = convolutions(model).into_iter().filter(|name| layers.iter().any(|layer| layer == name)).collect();
    if let Some(first) = convolutions.first() {
        strip = strip.filters(*first);
    }
    if let Some(recipe) = &options.recipe {
        strip = strip.recipe(recipe.clone());
        let network = model.network();
        let last = convolutions.last().map(|name| network.find(name)).transpose()?;
        let output = Some(scores(network)).filter(|output| Some(*output) != last);
        for id in last.into_iter().chain(output) {
            let channels = network.shape(id).c.min(STRIP_NEURONS);
            strip = strip.objectives(name_of(network, id), (0..channels).map(Objective::neuron));
        }
    }
    if let Some(colours) = &options.colours {
        strip = strip.colours(colours.clone());
    }
    strip.run(|done, of| progress(&format!("the filmstrip ({done} of {of})")))
}

fn seen(
    model: &Model,
    image: &NamedImage,
    layers: &[String],
    options: &Options<'_>,
    progress: &mut impl FnMut(&str),
) -> Result<ImageContents> {
    progress(&format!("maps of {}", image.name));
    let inspector = Inspector::on(model, &image.bytes, &options.machine)
        .map_err(|error| Error::Argument(format!("the image '{}': {error}", image.name)))?;
    let maps = layers.iter().map(|layer| maps(&inspector, layer)).collect::<Result<Vec<_>>>()?;
    let prediction = Predictor::new(model, 1, &options.machine)?.predict(&[&image.bytes])?.remove(0).top(TOP).to_vec();
    let class = prediction.first().and_then(|(first, _)| model.classes().iter().position(|class| class == first)).unwrap_or(0);
    Ok(ImageContents {
        name: image.name.clone(),
        label: image.label.clone(),
        bytes: image.bytes.clone(),
        arithmetic: examples(&inspector, layers)?,
        attributions: attributions(model, image, class, options, progress)?,
        prediction,
        scales: ranges(&maps, options.scale),
        maps,
    })
}

/// Where the score of a class comes from, by every method asked for.
fn attributions(
    model: &Model,
    image: &NamedImage,
    class: usize,
    options: &Options<'_>,
    progress: &mut impl FnMut(&str),
) -> Result<Vec<AttributionContents>> {
    if options.methods.is_empty() {
        return Ok(Vec::new());
    }
    let mut values = vec![0.0; image.bytes.len()];
    model.normalisation().apply(&image.bytes, &mut values);
    let (target, settings) = (Target::Class(class), Settings { seed: options.seed, ..Settings::default() });
    let mut subject = Subject::on(model.network(), model.parameters(), &options.machine)?;
    let mut list = Vec::with_capacity(options.methods.len());
    for &method in &options.methods {
        progress(&format!("{method} of {}", image.name));
        let attribution = subject.attribute(&values, &target, method, &settings)?;
        let (mut random, mut curves) = (None, None);
        if options.prove && attribution.evidence != Evidence::None {
            random = Some(randomisation(&mut subject, &values, &target, method, &settings, options.seed)?);
            curves = Some(deletion(
                &mut subject,
                &values,
                &attribution,
                DeletionSettings { seed: options.seed, ..DeletionSettings::default() },
            )?);
        }
        list.push(AttributionContents {
            method: method.name(),
            score: attribution.score,
            layer: attribution.layer.clone(),
            evidence: attribution.evidence,
            completeness: attribution.completeness,
            randomisation: random,
            deletion: curves,
            attribution,
        });
    }
    Ok(list)
}
