//! From arguments to networks, images and machines.

use std::path::Path;

use convnet::data::{Dataset, OpenOptions, is_idx_folder};
use convnet::model::{MODEL_FILE, Model};
use convnet::network::Network;
use convnet::network::text::TextArguments;
use convnet::{Error, Result};
use convnet_kernels::{Isa, Machine, Threads};

use crate::arguments::{DataArguments, MachineArguments, NetArguments, SizePolicy};
use crate::output::Output;

/// The name of the images inside the program.
pub const EMBEDDED: &str = "embedded";

/// Draws the test images where a folder has none. It is the same for every command and run, so that an evaluation never
/// judges a model by images that it was trained on.
const SPLIT_SEED: u64 = 0;

/// The machine that the arguments and the environment ask for.
pub fn machine(arguments: &MachineArguments) -> Result<Machine> {
    let isa = Isa::from_environment().map_err(Error::Argument)?;
    let threads = match arguments.threads {
        Some(0) => return Err(Error::Argument("--threads is 0; at least one thread works".into())),
        Some(threads) if threads > 1024 => return Err(Error::Argument(format!("--threads is {threads}; at most 1024 are started"))),
        Some(threads) => threads,
        None => Threads::available(),
    };
    // Decoding and augmentation use the same number of threads; a pool that exists already stays.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let machine = Machine::new(isa, threads).with_precision(arguments.precision.unwrap_or_default());
    Ok(if arguments.exact { machine.exact() } else { machine })
}

impl NetArguments {
    /// For the parser of network texts, with what the data say where the arguments say nothing.
    pub fn text_arguments(&self, input: Option<[usize; 3]>, classes: Option<usize>) -> TextArguments {
        TextArguments { input: self.input.or(input), classes: self.classes.or(classes), strict: self.sizes == SizePolicy::Strict }
    }
}

/// The network that `NET` stands for: a model or run folder, or what [`Network::load`] takes.
pub fn network(net: &str, arguments: &TextArguments) -> Result<Network> {
    let path = Path::new(net);
    if path.join(MODEL_FILE).is_file() || (path.is_file() && path.extension().is_some_and(|extension| extension == "safetensors")) {
        let model = Model::load(path)?;
        return match arguments.input.is_some() || arguments.classes.is_some() {
            true => Network::parse_with(&model.network().to_string(), arguments),
            false => Ok(model.network().clone()),
        };
    }
    if path.join("network.txt").is_file() {
        return convnet::train::read_network(path);
    }
    Network::load(net, arguments)
}

/// The number of the test image that `test:N` stands for.
pub fn test_image(argument: &str, data: &Dataset) -> Result<usize> {
    let number = argument.strip_prefix("test:").and_then(|number| number.parse::<usize>().ok());
    number.filter(|number| *number < data.test.len()).ok_or_else(|| {
        let last = data.test.len().saturating_sub(1);
        Error::Argument(format!("'{argument}' is no test image; they are test:0 to test:{last}"))
    })
}

/// What images to open, and how.
pub struct DataSource<'a> {
    pub arguments: &'a DataArguments,
    /// The size that the network takes, for folders of image files.
    pub size: Option<[usize; 3]>,
    /// The classes that a model knows.
    pub classes: Option<Vec<String>>,
}

impl DataSource<'_> {
    /// Opens the images, and tells what was decided or left out on the way.
    pub fn open(&self, output: &Output) -> Result<Dataset> {
        if self.is_embedded() {
            let data = Dataset::embedded();
            return match &self.classes {
                Some(classes) if *classes != data.classes => Err(Error::Argument(format!(
                    "the model knows the classes {}, but the embedded images are of {}; name the images with --data",
                    classes.join(", "),
                    data.classes.join(", ")
                ))),
                _ => Ok(data),
            };
        }
        let folder = Path::new(&self.arguments.data);
        let options = OpenOptions {
            size: self.arguments.image_size.or(self.size.filter(|_| !is_idx_folder(folder))),
            test_share: self.arguments.test_share,
            seed: SPLIT_SEED,
            broken_share: self.arguments.broken_share,
            classes: self.classes.clone(),
            ..OpenOptions::default()
        };
        let data = Dataset::open_with(folder, &options)?;
        for note in &data.notes {
            output.note(note);
        }
        for broken in data.broken.iter().take(10) {
            output.note(format!("left out: {}: {}", broken.path.display(), broken.reason));
        }
        if !data.broken.is_empty() {
            output.note(format!("{} broken images were left out", data.broken.len()));
        }
        Ok(data)
    }

    /// Whether the images are those inside the program.
    pub fn is_embedded(&self) -> bool {
        self.arguments.data == EMBEDDED
    }

    /// Whether the size of the images is fixed by the files, so that the network has to follow.
    pub fn has_fixed_size(&self) -> bool {
        self.is_embedded() || is_idx_folder(Path::new(&self.arguments.data))
    }
}
