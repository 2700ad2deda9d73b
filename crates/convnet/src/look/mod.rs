//! Looking inside: what every layer computes for an image, and the arithmetic behind any single number.
//!
//! | file | idea |
//! |---|---|
//! | `inspector` | a model that has seen one image |
//! | `explain` | the arithmetic of single numbers, forward and backward, and its pictures |
//! | `filters` | weights of convolutions: norms, dead and doubled filters |
//! | `maps` | activation maps of an image |
//! | `attribution` | which pixels a score comes from |
//! | `sanity`, `deletion` | whether such a map is to be believed |
//! | `statistics` | activations over a data set: means, sparsity, dead channels |
//! | `effective` | how much each pixel of the image moves a neuron |
//! | `maximise` | images made to excite neurons, channels, layers and classes |
//! | `patches` | the places of a data set that channels answer to most and least |
//! | `mistakes` | which class is taken for which, calibration, each class against the others |
//! | `filmstrip` | filters and made images over the epochs of a training |
//! | `codes` | images as points: maps of a data set, nearest neighbours, and from a code back to an image |
//! | `similarity` | how alike what layers make of the same images is |
//! | `gram`, `eigen` | scalar products of all pairs, eigenvectors of symmetric matrices |
//! | `viewer` | a model that is shown many images |
//! | `picture` | arrays to pictures |
//! | `contents` | all of that together, for a model, images and a data set |
//! | `report` | the page that shows it |
//! | `folder` | the page, the pictures and the numbers as files |

pub mod attribution;
pub mod codes;
pub mod contents;
pub mod deletion;
mod effective;
mod eigen;
pub mod explain;
mod filmstrip;
mod filters;
pub mod folder;
mod gram;
mod inspector;
mod maps;
pub mod maximise;
pub mod mistakes;
mod patches;
pub mod picture;
pub mod report;
pub mod sanity;
pub mod similarity;
mod statistics;
mod viewer;

pub use contents::{AttributionContents, Contents, ImageContents, NamedImage, Options, SyntheticContents};
pub use effective::{EffectiveField, SHARE, effective_fields};
pub use explain::{Choice, Explanation, Factor, Term, explain};
pub use filmstrip::{Filmstrip, Frame, FrameNeurons};
pub use filters::{DEAD_NORM, DOUBLE_COSINE, Filter, LayerFilters, Like, convolutions, filters};
pub use inspector::Inspector;
pub use maps::{LayerMaps, Map, Scale, maps, ranges};
pub use patches::{ChannelPatches, LayerPatches, Patch, Patches};
pub use statistics::{ChannelStatistics, LayerStatistics, SAME, Statistics, activated, statistics};
