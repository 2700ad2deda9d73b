//! The methods by name: what each one says, who described it, and what it is known to get wrong.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::look::picture::{ColourMap, Range};

/// A way to say which pixels a score comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Method {
    /// ∂score/∂pixel (Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2014).
    Gradient,
    /// pixel · ∂score/∂pixel (Shrikumar, Greenside, Shcherbina and Kundaje, "Not just a black box", 2016).
    GradientInput,
    /// (pixel − baseline) · the mean of ∂score/∂pixel on the way from the baseline to the image (Sundararajan, Taly and Yan,
    /// "Axiomatic attribution for deep networks", 2017).
    IntegratedGradients,
    /// The mean of ∂score/∂pixel over noisy copies of the image (Smilkov, Thorat, Kim, Viégas and Wattenberg, "SmoothGrad:
    /// removing noise by adding noise", 2017).
    SmoothGrad,
    /// The walk back with ReLUs that let through only what is positive both ways (Springenberg, Dosovitskiy, Brox and
    /// Riedmiller, "Striving for simplicity: the all convolutional net", 2015).
    GuidedBackpropagation,
    /// The walk back with ReLUs that let through only positive numbers, and with the places that maximum poolings chose
    /// (Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014).
    DeconvNet,
    /// How far the score falls when a window is covered (Zeiler and Fergus, 2014).
    Occlusion,
    /// Σ over maps of map · its mean gradient (Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM: visual
    /// explanations from deep networks via gradient-based localization", 2017).
    GradCam,
    /// Grad-CAM that weights each place by how far the score's curvature says that it counts (Chattopadhyay, Sarkar, Howlader
    /// and Balasubramanian, "Grad-CAM++: improved visual explanations for deep convolutional networks", 2018).
    GradCamPlusPlus,
    /// Σ over maps of map · its positive gradient, place by place (Jiang, Zhang, Hou, Cheng and Wei, "LayerCAM: exploring
    /// hierarchical class activation maps for localization", 2021).
    LayerCam,
    /// Σ over maps of map · the score of the image seen through that map (Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu,
    /// "Score-CAM: score-weighted visual explanations for convolutional neural networks", 2020).
    ScoreCam,
}

/// How a map of several channels is shown as one plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Plane {
    /// The largest magnitude of the channels: how much the score moves with the pixel, whichever way.
    LargestMagnitude,
    /// The sum of the channels, which share one score among them: positive speaks for it, negative against.
    Sum,
    /// The one channel that there is, where it is positive, else 0.
    Positive,
}

/// Pixels from which on a map has a few that outshine all others, and the share of the pixels that the colours tell apart there.
const MANY: usize = 64 * 64;
const TOLD_APART: f64 = 0.995;

impl Plane {
    /// The scale of a map's numbers. Of a large map the largest numbers share the last colour, so that the others are seen.
    pub fn scale(self, numbers: &[f32]) -> (Range, ColourMap) {
        let mut sizes: Vec<f32> = numbers.iter().map(|number| number.abs()).filter(|size| size.is_finite() && *size > 0.0).collect();
        let (whole, map) = match self {
            Self::Sum => (Range::symmetric(numbers), ColourMap::Diverging),
            Self::LargestMagnitude | Self::Positive => Range::suited(numbers),
        };
        if numbers.len() < MANY || sizes.is_empty() {
            return (whole, map);
        }
        let place = ((sizes.len() as f64 * TOLD_APART) as usize).min(sizes.len() - 1);
        let (_, &mut end, _) = sizes.select_nth_unstable_by(place, f32::total_cmp);
        (Range { low: whole.low.max(-end), high: whole.high.min(end) }, map)
    }
}

impl Method {
    /// All of them, those that need no setting first.
    pub const ALL: [Self; 11] = [
        Self::Gradient,
        Self::GradientInput,
        Self::IntegratedGradients,
        Self::SmoothGrad,
        Self::GuidedBackpropagation,
        Self::DeconvNet,
        Self::Occlusion,
        Self::GradCam,
        Self::GradCamPlusPlus,
        Self::LayerCam,
        Self::ScoreCam,
    ];

    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gradient => "gradient",
            Self::GradientInput => "gradient-x-input",
            Self::IntegratedGradients => "integrated-gradients",
            Self::SmoothGrad => "smoothgrad",
            Self::GuidedBackpropagation => "guided-backprop",
            Self::DeconvNet => "deconvnet",
            Self::Occlusion => "occlusion",
            Self::GradCam => "grad-cam",
            Self::GradCamPlusPlus => "grad-cam++",
            Self::LayerCam => "layer-cam",
            Self::ScoreCam => "score-cam",
        }
    }

    /// What a map of it says, in one sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Gradient => "How fast the score changes with each pixel.",
            Self::GradientInput => "Each pixel times how fast the score changes with it.",
            Self::IntegratedGradients => "Each pixel's share of the score's difference from that of the baseline.",
            Self::SmoothGrad => "How fast the score changes with each pixel, on average over noisy copies of the image.",
            Self::GuidedBackpropagation => "What positive signals lead back to through neurons that were active.",
            Self::DeconvNet => "What positive signals lead back to, through the places that the maximum poolings chose.",
            Self::Occlusion => "How far the score falls when the pixel is covered, on average over the windows that cover it.",
            Self::GradCam => "Where the maps are that speak for the score, each weighted by its mean gradient.",
            Self::GradCamPlusPlus => "Where the maps are that speak for the score, each weighted by its positive gradients.",
            Self::LayerCam => "Where maps are active and a larger number there would raise the score.",
            Self::ScoreCam => "Where the maps are through which the image still gets the score; no gradient is used.",
        }
    }

    /// What everybody who looks at such a map should know; `None` where there is nothing known.
    ///
    /// The randomisation test is that of Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity checks for saliency maps"
    /// (2018); why the two fail it: Nie, Zhang and Patel, "A theoretical explanation for perplexing behaviors of
    /// backpropagation-based visualizations" (2018).
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::GuidedBackpropagation => Some(
                "Known to fail the randomisation test: guided backpropagation looks much the same on a network whose upper layers are \
                 random, so it shows the edges of the image rather than what was learnt.",
            ),
            Self::DeconvNet => Some(
                "Known to fail such tests: a DeconvNet map hardly depends on the class that is asked for, so it shows the edges of the \
                 image rather than what speaks for the class. Read the randomisation test beside it.",
            ),
            _ => None,
        }
    }

    /// How its map is shown as one plane.
    pub fn plane(self) -> Plane {
        match self {
            Self::Gradient | Self::SmoothGrad | Self::GuidedBackpropagation | Self::DeconvNet => Plane::LargestMagnitude,
            Self::GradientInput | Self::IntegratedGradients | Self::Occlusion => Plane::Sum,
            Self::GradCam | Self::GradCamPlusPlus | Self::LayerCam | Self::ScoreCam => Plane::Positive,
        }
    }

    /// Whether its map is one of a layer's places (a class activation map) rather than of pixels.
    pub fn reads_a_layer(self) -> bool {
        self.plane() == Plane::Positive
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::Argument(format!("'{name}' is not a method of attribution; there are {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_name_and_an_unknown_one_is_told_the_names() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
        }
        let error = "gradcam".parse::<Method>().unwrap_err().to_string();
        assert!(error.contains("'gradcam'") && error.contains("grad-cam, grad-cam++"), "{error}");
    }

    #[test]
    fn in_a_large_map_few_numbers_do_not_hide_the_others() {
        let mut map: Vec<f32> = (0..10_000).map(|place| (place % 100) as f32 / 100.0 - 0.5).collect();
        (0..20).for_each(|place| map[place * 500] = 1000.0);
        assert_eq!(Plane::Sum.scale(&map), (Range { low: -0.5, high: 0.5 }, ColourMap::Diverging));
        let sizes: Vec<f32> = map.iter().map(|number| number.abs()).collect();
        assert_eq!(Plane::LargestMagnitude.scale(&sizes), (Range { low: 0.0, high: 0.5 }, ColourMap::Sequential));
        assert_eq!(Plane::Sum.scale(&map[..100]), (Range { low: -1000.0, high: 1000.0 }, ColourMap::Diverging));
        assert_eq!(Plane::Positive.scale(&vec![0.0; 5000]), Range::suited(&[0.0]));
    }

    #[test]
    fn those_that_fail_the_randomisation_test_say_so() {
        let warned: Vec<Method> = Method::ALL.into_iter().filter(|method| method.warning().is_some()).collect();
        assert_eq!(warned, [Method::GuidedBackpropagation, Method::DeconvNet]);
    }
}
