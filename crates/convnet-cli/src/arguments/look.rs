//! The arguments of `convnet look`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use convnet::look::Scale;
use convnet::look::maximise::Recipe;
use convnet::look::report::Language;

use super::DataArguments;

#[derive(Debug, Args)]
pub struct LookArguments {
    /// A run folder or a model file.
    pub model: PathBuf,

    /// PNG, JPEG, WebP or BMP files, or `test:N` for test images of the data; a few test images by default.
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,

    #[command(flatten)]
    pub data: DataArguments,

    /// A layer to look at; may be given several times. All by default.
    #[arg(long = "layer", value_name = "NAME")]
    pub layers: Vec<String>,

    /// A method of attribution, such as gradient, integrated-gradients or grad-cam; may be given several times. All by default;
    /// `none` leaves them out.
    #[arg(long = "method", value_name = "NAME")]
    pub methods: Vec<String>,

    /// Put every attribution to the randomisation test and to deletion and insertion, also on large images.
    #[arg(long)]
    pub prove: bool,

    /// Make so many more synthetic images for each neuron, kept unlike each other.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub diverse: usize,

    /// What a synthetic image is made for: one neuron of a channel, or the mean of all its neurons.
    #[arg(long, value_enum, default_value = "neuron")]
    pub objective: Objective,

    /// Row and column of the neuron that an image is made for; the middle of the map by default. Best with --layer.
    #[arg(long, value_name = "Y,X", value_parser = place)]
    pub place: Option<[usize; 2]>,

    /// How synthetic images are made: of waves under small changes of place, size and angle; of pixels with decay, blur and
    /// clipping; or of pixels with nothing against grain, to see what that is worth.
    #[arg(long, value_enum, default_value = "waves")]
    pub recipe: SyntheticRecipe,

    /// What total variation costs in the search: 0 nothing; by default what belongs to the recipe.
    #[arg(long, value_name = "X")]
    pub total_variation: Option<f32>,

    /// A layer that each image is changed for until it sees more of what it sees there (deep dream); may be given several
    /// times.
    #[arg(long = "dream", value_name = "LAYER")]
    pub dream: Vec<String>,

    /// Steps of the search for synthetic images; 0 leaves them out.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub steps: usize,

    /// The most neurons of a layer that get a synthetic image; by default 64, of networks for large images 8.
    #[arg(long, value_name = "N")]
    pub neurons: Option<usize>,

    /// Draws what is drawn: where searches begin, noise, random layers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Which activation maps share a colour scale.
    #[arg(long, value_enum, default_value = "layer")]
    pub scale: MapScale,

    /// The layer whose codes of the data are mapped, beside how alike the layers are; `none` leaves the maps out. By default what
    /// the last fully connected layer reads, for networks for small images.
    #[arg(long, value_name = "LAYER")]
    pub codes: Option<String>,

    /// A layer whose code of each image is turned back into an image; may be given several times. By default a few, for networks
    /// for small images; `none` leaves them out.
    #[arg(long = "invert", value_name = "LAYER")]
    pub invert: Vec<String>,

    /// A run folder or a model file, whose layers are compared with those of this model.
    #[arg(long, value_name = "OTHER")]
    pub compare: Option<PathBuf>,

    /// The most test images that statistics and codes are taken over.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub samples: usize,

    /// The folder to write to; by default `look` in the run folder, or beside the model file.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// The language of the page: en or ko.
    #[arg(long, default_value = "en")]
    pub language: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MapScale {
    /// Each map has its own.
    Map,
    /// The maps of a layer share one.
    Layer,
    /// All maps of an image share one.
    Network,
}

impl From<MapScale> for Scale {
    fn from(scale: MapScale) -> Self {
        match scale {
            MapScale::Map => Self::Map,
            MapScale::Layer => Self::Layer,
            MapScale::Network => Self::Network,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Objective {
    /// One neuron of the channel.
    Neuron,
    /// The mean of the channel's map.
    Channel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SyntheticRecipe {
    /// Sums of waves in the data's colours, seen under small changes.
    Waves,
    /// Pixels with decay, blur and clipping.
    Pixels,
    /// Pixels with nothing against grain.
    Plain,
}

impl From<SyntheticRecipe> for Recipe {
    fn from(recipe: SyntheticRecipe) -> Self {
        match recipe {
            SyntheticRecipe::Waves => Self::default(),
            SyntheticRecipe::Pixels => Self::pixels(),
            SyntheticRecipe::Plain => Self::unregularised(),
        }
    }
}

/// Row and column, `Y,X`.
fn place(text: &str) -> Result<[usize; 2], String> {
    let wrong = || format!("'{text}' is no place; it is a row and a column, such as 3,7");
    let (y, x) = text.split_once(',').ok_or_else(wrong)?;
    Ok([y.trim().parse().map_err(|_| wrong())?, x.trim().parse().map_err(|_| wrong())?])
}
