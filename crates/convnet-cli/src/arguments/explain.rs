//! What `convnet explain` takes.

use std::path::PathBuf;

use clap::Args;
use convnet::look::report::Language;

use super::numbers;

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// A run folder or a model file.
    pub model: PathBuf,

    /// A PNG, JPEG, WebP or BMP file, or `test:N` for a test image of the embedded data.
    pub image: String,

    /// The layer whose output is explained; with `--backward` also `image`.
    #[arg(long, value_name = "NAME")]
    pub layer: String,

    /// Channel, row and column of the number, from 0.
    #[arg(long, value_name = "K,Y,X", value_parser = place, required_unless_present_any = ["weight", "coverage"])]
    pub at: Option<[usize; 3]>,

    /// Show what of the gradient of a class's score flows back to the number.
    #[arg(long, group = "view")]
    pub backward: bool,

    /// Show the gradient at one weight: filter, channel, row and column of the kernel, from 0.
    #[arg(long, value_name = "K,C,R,S", value_parser = weight, group = "view", conflicts_with = "at")]
    pub weight: Option<[usize; 4]>,

    /// Compare with true convolution, whose kernel is flipped.
    #[arg(long, group = "view")]
    pub correlation: bool,

    /// Show the convolution as a product of matrices (im2col).
    #[arg(long, group = "view")]
    pub columns: bool,

    /// Show how often each pixel is read.
    #[arg(long, group = "view", conflicts_with = "at")]
    pub coverage: bool,

    /// The class whose score is differentiated, by name or number; by default that with the largest score.
    #[arg(long, value_name = "NAME|N")]
    pub class: Option<String>,

    /// Draw it into an SVG file.
    #[arg(long, value_name = "FILE.svg")]
    pub picture: Option<PathBuf>,

    /// The language of the drawing: en or ko.
    #[arg(long, default_value = "en")]
    pub language: Language,

    /// The most products to print.
    #[arg(long, default_value_t = 40)]
    pub terms: usize,
}

fn place(text: &str) -> Result<[usize; 3], String> {
    numbers(text, ',', "K,Y,X, as 0,5,5")
}

fn weight(text: &str) -> Result<[usize; 4], String> {
    numbers(text, ',', "K,C,R,S, as 0,0,1,1")
}
