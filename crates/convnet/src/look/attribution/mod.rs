//! Which pixels a score comes from: eleven methods of the field, one call each.
//!
//! | [`Method`] | map |
//! |---|---|
//! | gradient, gradient × input, integrated gradients, SmoothGrad, guided backpropagation, DeconvNet | C×H×W of the image |
//! | occlusion | 1×H×W of the image |
//! | Grad-CAM, Grad-CAM++, Layer-CAM, Score-CAM | 1×H×W of the places of one layer |
//!
//! All of them work on any network, grey or colour, chain or graph, and for any [`Target`]: the score of a class or a neuron
//! anywhere. Maps keep their sign; [`Attribution::plane`] is what is shown.
//!
//! A map is a claim, not a proof. The tests of [`sanity`](super::sanity) and [`deletion`](super::deletion) try it.

mod cam;
mod gradient;
mod integrated;
mod method;
mod occlusion;
mod score_cam;
mod stretch;
mod subject;
mod target;
#[cfg(test)]
mod tests;

use convnet_kernels::Real;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::network::NodeId;
use crate::plan::RectifierRule;
use crate::random::{Address, Purpose};
use crate::tensor::Tensor;

pub use cam::last_maps;
pub use integrated::Completeness;
pub use method::{Method, Plane};
pub use subject::Subject;
pub(crate) use target::Spot;
pub use target::{Target, scores};

/// What methods may be told; each reads what is its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings<T = f32> {
    /// Class activation maps: name of the layer whose maps are summed; [`last_maps`] unless said.
    pub layer: Option<String>,
    /// Integrated gradients: steps on the way.
    pub steps: usize,
    /// Integrated gradients: where the way begins, C×H×W of normalised values; 0 everywhere unless said, which is the mean of
    /// the data set.
    pub baseline: Option<Vec<T>>,
    /// SmoothGrad: noisy copies.
    pub samples: usize,
    /// SmoothGrad: standard deviation of the noise, as a share of the image's range (largest − least number).
    pub noise: f64,
    /// SmoothGrad: draws the noise.
    pub seed: u64,
    /// Occlusion: rows and columns of the window; a seventh of the image unless said.
    pub window: Option<[usize; 2]>,
    /// Occlusion: rows and columns from one window to the next; half the window unless said.
    pub stride: Option<[usize; 2]>,
    /// Occlusion: what a covered pixel shows, one normalised value for each channel; 0 unless said, the mean of the data set.
    pub fill: Option<Vec<T>>,
}

impl<T> Default for Settings<T> {
    fn default() -> Self {
        Self { layer: None, steps: 64, baseline: None, samples: 32, noise: 0.15, seed: 1, window: None, stride: None, fill: None }
    }
}

/// Whether a map has anything to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Evidence {
    /// Something in the map is above 0.
    Positive,
    /// Nothing is above 0, but something below: all that the map shows speaks against the score.
    NonePositive,
    /// Every number is 0: no signal arrives, as behind a ReLU that is silent everywhere.
    None,
}

impl Evidence {
    fn of<T: Real>(map: &[T]) -> Self {
        match (map.iter().any(|value| *value > T::ZERO), map.iter().any(|value| *value < T::ZERO)) {
            (true, _) => Self::Positive,
            (false, true) => Self::NonePositive,
            (false, false) => Self::None,
        }
    }

    /// What to say instead of a picture; `None` where there is one.
    pub fn sentence(self) -> Option<&'static str> {
        match self {
            Self::Positive => None,
            Self::NonePositive => Some("No positive evidence: everything that this map shows speaks against the score."),
            Self::None => Some("No evidence: every number of this map is 0, since no signal arrives from the score."),
        }
    }
}

/// Where a score comes from, by one method.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attribution<T = f32> {
    /// The method.
    pub method: Method,
    /// What is explained.
    pub target: Target,
    /// Its number for this image.
    pub score: f64,
    /// C×H×W of the image, or 1×H×W: see the [module](self). Signed.
    pub map: Tensor<T>,
    /// Name of the layer whose places the map has; `None` where they are the image's pixels.
    pub layer: Option<String>,
    /// Whether there is anything to show.
    pub evidence: Evidence,
    /// For integrated gradients: whether the shares add up.
    pub completeness: Option<Completeness>,
}

impl<T: Real> Attribution<T> {
    /// The map as one plane H×W in its own places, as [`Method::plane`] says.
    pub fn plane(&self) -> Tensor<T> {
        let [channels, height, width] = [0, 1, 2].map(|axis| self.map.sizes()[axis]);
        let mut plane = vec![T::ZERO; height * width];
        for channel in self.map.values().chunks_exact(plane.len()).take(channels) {
            for (shown, value) in plane.iter_mut().zip(channel) {
                match self.method.plane() {
                    Plane::LargestMagnitude if value.abs() > *shown => *shown = value.abs(),
                    Plane::LargestMagnitude => {}
                    Plane::Sum => *shown += *value,
                    Plane::Positive if *value > T::ZERO => *shown = *value,
                    Plane::Positive => {}
                }
            }
        }
        plane_of(height, width, plane)
    }

    /// The plane over an image of this height and width. A class activation map is stretched bilinearly, as if its places were
    /// equal parts of the image; all others have the image's size already.
    pub fn over_image(&self, size: [usize; 2]) -> Tensor<T> {
        let plane = self.plane();
        let from = [plane.sizes()[0], plane.sizes()[1]];
        let values = if from == size { plane.into_values() } else { stretch::stretch(plane.values(), from, size) };
        plane_of(size[0], size[1], values)
    }
}

fn plane_of<T: Real>(height: usize, width: usize, values: Vec<T>) -> Tensor<T> {
    Tensor::new(vec![height, width], values).expect("as many numbers as places")
}

impl<T: Real> Subject<'_, T> {
    /// Where a target's number comes from, for one image of normalised values, C×H×W.
    ///
    /// # Errors
    /// The image has another size; there is no such target or layer; a setting is out of range. The message says which.
    pub fn attribute(&mut self, image: &[T], target: &Target, method: Method, settings: &Settings<T>) -> Result<Attribution<T>> {
        self.check_image(image)?;
        let spot = target.spot(self.network())?;
        let [channels, height, width] = self.image_shape().chw();
        let pixels = |sizes: [usize; 3], map: gradient::PixelMap<T>| -> Result<(Tensor<T>, f64)> {
            Ok((Tensor::new(sizes.to_vec(), map.values)?, map.score))
        };
        let (mut layer, mut completeness) = (None, None);
        let (map, score): (Tensor<T>, f64) = match method {
            Method::Gradient => pixels([channels, height, width], gradient::walk_back(self, image, spot, RectifierRule::Gradient)?)?,
            Method::GuidedBackpropagation => {
                pixels([channels, height, width], gradient::walk_back(self, image, spot, RectifierRule::Guided)?)?
            }
            Method::DeconvNet => pixels([channels, height, width], gradient::walk_back(self, image, spot, RectifierRule::Deconv)?)?,
            Method::GradientInput => pixels([channels, height, width], gradient::gradient_times_input(self, image, spot)?)?,
            Method::SmoothGrad => {
                let noise = Noise::new(image, settings)?;
                let draw = |sample: usize, values: &mut [T]| noise.draw(sample, values);
                pixels([channels, height, width], gradient::mean_over_noise(self, image, spot, settings.samples, draw)?)?
            }
            Method::IntegratedGradients => {
                let baseline = settings.baseline.clone().unwrap_or_else(|| vec![T::ZERO; image.len()]);
                self.check_image(&baseline).map_err(|error| Error::Argument(format!("the baseline: {error}")))?;
                at_least_one(settings.steps, "steps")?;
                let (map, whole) = integrated::integrated_gradients(self, image, &baseline, spot, settings.steps)?;
                completeness = Some(whole);
                pixels([channels, height, width], map)?
            }
            Method::Occlusion => {
                let windows = settings.windows([height, width])?;
                let fill = settings.fill(channels)?;
                let (values, score) = occlusion::occlusion(self, image, spot, windows, &fill)?;
                (Tensor::new(vec![1, height, width], values)?, score)
            }
            Method::GradCam | Method::GradCamPlusPlus | Method::LayerCam | Method::ScoreCam => {
                let id = self.layer_for(spot, settings)?;
                layer = self.network().node(id).map(|node| node.name().to_owned());
                let sum = match method {
                    Method::GradCam => cam::sum_of_maps(self, image, spot, id, cam::Weights::MeanGradient)?,
                    Method::GradCamPlusPlus => cam::sum_of_maps(self, image, spot, id, cam::Weights::PlusPlus)?,
                    Method::LayerCam => cam::sum_of_maps(self, image, spot, id, cam::Weights::Places)?,
                    _ => score_cam::score_cam(self, image, spot, id)?,
                };
                let shape = self.network().shape(id);
                (Tensor::new(vec![1, shape.h, shape.w], sum.values)?, sum.score)
            }
        };
        let evidence = Evidence::of(map.values());
        Ok(Attribution { method, target: target.clone(), score, map, layer, evidence, completeness })
    }

    /// SmoothGrad with noise that is given, samples × C×H×W in normalised values, instead of drawn.
    ///
    /// # Errors
    /// As [`attribute`](Self::attribute); the noise is not a whole number of images.
    pub fn smooth_gradient(&mut self, image: &[T], target: &Target, noise: &[T]) -> Result<Attribution<T>> {
        self.check_image(image)?;
        let samples = noise.len() / image.len().max(1);
        if samples == 0 || samples * image.len() != noise.len() {
            return Err(Error::Argument(format!("{} numbers of noise are not a whole number of images of {}", noise.len(), image.len())));
        }
        let spot = target.spot(self.network())?;
        let given = |sample: usize, values: &mut [T]| values.copy_from_slice(&noise[sample * image.len()..][..image.len()]);
        let map = gradient::mean_over_noise(self, image, spot, samples, given)?;
        let (evidence, sizes) = (Evidence::of(&map.values), self.image_shape().chw().to_vec());
        Ok(Attribution {
            method: Method::SmoothGrad,
            target: target.clone(),
            score: map.score,
            map: Tensor::new(sizes, map.values)?,
            layer: None,
            evidence,
            completeness: None,
        })
    }

    /// The layer whose maps are summed.
    fn layer_for(&self, spot: Spot, settings: &Settings<T>) -> Result<NodeId> {
        match &settings.layer {
            Some(name) => self.network().find(name),
            None => last_maps(self.network(), spot.value),
        }
    }
}

/// SmoothGrad's noise, each sample's at an address of its own.
struct Noise {
    address: Address,
    deviation: f64,
}

impl Noise {
    fn new<T: Real>(image: &[T], settings: &Settings<T>) -> Result<Self> {
        at_least_one(settings.samples, "samples")?;
        if !(settings.noise.is_finite() && settings.noise >= 0.0) {
            return Err(Error::Argument(format!("the noise is {}; it is a share of the image's range, such as 0.15", settings.noise)));
        }
        let (least, largest) = image
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, largest), value| (value.to_f64().min(least), value.to_f64().max(largest)));
        let deviation = settings.noise * (largest - least);
        Ok(Self { address: Address::new(settings.seed, Purpose::Look).then(SMOOTH_GRAD), deviation })
    }

    fn draw<T: Real>(&self, sample: usize, values: &mut [T]) {
        let mut random = self.address.then(sample as u64).random();
        values.fill_with(|| T::from_f64(self.deviation * random.normal()));
    }
}

/// The coordinate of SmoothGrad's noise among what is drawn to look inside: the letters `smooth`.
const SMOOTH_GRAD: u64 = 0x736d_6f6f_7468;

fn at_least_one(count: usize, what: &str) -> Result<()> {
    if count == 0 { Err(Error::Argument(format!("0 {what} were asked for; there must be at least 1"))) } else { Ok(()) }
}

impl<T: Real> Settings<T> {
    /// The window and the stride of occlusion, for an image of this size.
    fn windows(&self, size: [usize; 2]) -> Result<[[usize; 2]; 2]> {
        let window = self.window.unwrap_or(size.map(|length| length.div_ceil(7)));
        let stride = self.stride.unwrap_or(window.map(|length| length.div_ceil(2)));
        for (axis, what) in ["rows", "columns"].into_iter().enumerate() {
            at_least_one(window[axis], &format!("{what} of the window"))?;
            at_least_one(stride[axis], &format!("{what} from window to window"))?;
            if window[axis] > size[axis] || stride[axis] > window[axis] {
                return Err(Error::Argument(format!(
                    "a window of {} {what} every {} does not suit an image of {}: the window is at most the image, the stride at most the window",
                    window[axis], stride[axis], size[axis]
                )));
            }
        }
        Ok([window, stride])
    }

    /// What a covered pixel shows, for each channel.
    fn fill(&self, channels: usize) -> Result<Vec<T>> {
        let fill = self.fill.clone().unwrap_or_else(|| vec![T::ZERO; channels]);
        if fill.len() != channels {
            return Err(Error::Argument(format!("{} values to fill with were given for {channels} channels", fill.len())));
        }
        Ok(fill)
    }
}
