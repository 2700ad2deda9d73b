//! Numbers worth a look: the largest output of the first convolution and of the first pooling.

use super::forward::{Explanation, explain};
use crate::error::Result;
use crate::layer::Layer;
use crate::look::Inspector;

/// The arithmetic of the largest number of the first convolution and of the first pooling among these layers.
///
/// # Errors
/// There is no such layer.
pub fn examples(inspector: &Inspector<'_>, layers: &[String]) -> Result<Vec<Explanation>> {
    let nodes = || inspector.model().network().nodes().iter().filter(|node| layers.iter().any(|name| name == node.name()));
    let convolution = nodes().find(|node| matches!(node.layer(), Layer::Conv2d(_)));
    let pooling = nodes()
        .find(|node| matches!(node.layer(), Layer::MaxPool2d(_) | Layer::AvgPool2d(_) | Layer::GlobalAvgPool(_) | Layer::GlobalMaxPool(_)));
    let mut list = Vec::new();
    for node in [convolution, pooling].into_iter().flatten() {
        let values = inspector.activation(node.name())?;
        let shape = node.output_shape();
        let largest = crate::model::best(values.values());
        list.push(explain(inspector, node.name(), [largest / shape.pixels(), largest % shape.pixels() / shape.w, largest % shape.w])?);
    }
    Ok(list)
}
