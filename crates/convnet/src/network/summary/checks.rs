//! What a summary warns of, beyond what each layer says of its own sizes.
//!
//! | rule | when | why |
//! |---|---|---|
//! | sizes that do not fit | a layer rounds its output size down and so leaves out elements ([`LayerRules::warnings`]) | they never matter |
//! | the image's end | such layers behind others leave out rows or columns of the image | says which, and what image size would lose none |
//! | branches out of step | branches that move over the image in different steps are joined | the same position shows different places |
//! | bias before batch norm | a layer with a bias is read by a batch norm alone | the norm subtracts it again: K parameters without effect |

use std::ops::Range;

use super::super::{Network, Node, NodeId, ReceptiveField};
use crate::layer::{LayerRules, Role};

/// All warnings, those of the layers first.
pub fn warnings(network: &Network, fields: &[ReceptiveField], readers: &[usize]) -> Vec<String> {
    let mut warnings = network.warnings();
    // A layer that reads the image says itself what the image loses.
    let behind = |node: &Node| !node.inputs().contains(&NodeId::IMAGE) && !node.layer().warnings(node.input_shapes()).is_empty();
    if network.nodes().iter().any(behind) {
        warnings.extend(lost_end(network));
    }
    warnings.extend(out_of_step(network, fields));
    warnings.extend(biases_without_effect(network, readers));
    warnings
}

/// Rows and columns at the image's end that reach no output.
fn lost_end(network: &Network) -> Option<String> {
    let image = network.input_shape();
    let [rows, columns] = network.seen(network.output());
    let lost = |seen: Range<usize>, length: usize, name: &str| match length.saturating_sub(seen.end) {
        0 => None,
        1 => Some(format!("{name} {}", length - 1)),
        _ => Some(format!("{name}s {} to {}", seen.end, length - 1)),
    };
    let parts: Vec<String> = [lost(rows, image.h, "row"), lost(columns, image.w, "column")].into_iter().flatten().collect();
    if parts.is_empty() {
        return None;
    }
    let mut sentence = format!("{} of the image (counted from 0) reach no output", parts.join(" and "));
    if let Some([height, width]) = network.lossless_image() {
        sentence.push_str(&format!("; an image of {}x{height}x{width} loses nothing", image.c));
    }
    Some(sentence)
}

/// Layers at which branches first get out of step.
fn out_of_step<'a>(network: &'a Network, fields: &'a [ReceptiveField]) -> impl Iterator<Item = String> + 'a {
    let first =
        |(id, node): &(NodeId, &Node)| !fields[id.index()].in_step && node.inputs().iter().all(|input| fields[input.index()].in_step);
    network.layers().filter(first).map(|(_, node)| {
        let steps: Vec<String> = node
            .inputs()
            .iter()
            .map(|input| {
                let [h, w] = fields[input.index()].jump();
                if h == w { h.to_string() } else { format!("{h}x{w}") }
            })
            .collect();
        format!(
            "{}: its inputs move over the image in steps of {} pixels, so that one position joins different places; give the branches the same strides",
            node.name(),
            steps.join(" and ")
        )
    })
}

/// Layers whose bias is subtracted again by the batch norm behind them.
fn biases_without_effect<'a>(network: &'a Network, readers: &'a [usize]) -> impl Iterator<Item = String> + 'a {
    let has = |node: &Node, role: Role| node.parameters().iter().any(|spec| spec.role == role);
    network.nodes().iter().filter(move |norm| has(norm, Role::Buffer)).filter_map(move |norm| {
        let [input] = norm.inputs() else { return None };
        let node = network.node(*input).filter(|node| readers[input.index()] == 1 && has(node, Role::Weight))?;
        let bias = node.parameters().iter().find(|spec| spec.role == Role::Bias)?;
        (network.output() != *input).then(|| {
            format!(
                "{}: its {} biases have no effect, since {} subtracts them again; say `no bias`",
                node.name(),
                super::numbers::thousands(bias.count() as u64),
                norm.name()
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::add::Add;
    use crate::layer::conv2d::Conv2d;

    #[test]
    fn rows_that_reach_no_output_are_named_with_an_image_that_loses_none() {
        let mut builder = Network::builder([3, 10, 16]);
        let first = builder.add(Conv2d::new(4, [3, 3]).stride([2, 2]), &[NodeId::IMAGE]).unwrap();
        let second = builder.add(Conv2d::new(4, [2, 2]).stride([2, 2]), &[first]).unwrap();
        let warnings = builder.finish(second).unwrap().summary().warnings;
        assert!(warnings[0].starts_with("conv1: the last row is never seen"), "{warnings:?}");
        // 10 rows: 4 windows end at row 8. 16 columns: 7 windows end at column 14, of which 6 are read, up to column 12.
        let end = "row 9 and columns 13 to 15 of the image (counted from 0) reach no output; an image of 3x9x17 loses nothing";
        assert_eq!(warnings.last().unwrap(), end, "{warnings:?}");
        let fitting = |h, w| {
            let mut builder = Network::builder([3, h, w]);
            let first = builder.add(Conv2d::new(4, [3, 3]).stride([2, 2]), &[NodeId::IMAGE]).unwrap();
            let second = builder.add(Conv2d::new(4, [2, 2]).stride([2, 2]), &[first]).unwrap();
            builder.finish(second).unwrap().summary().warnings
        };
        assert_eq!(fitting(9, 17), [""; 0]);
    }

    #[test]
    fn branches_out_of_step_are_warned_of_once() {
        let mut builder = Network::builder([4, 16, 16]);
        let strided = builder.add(Conv2d::new(4, [2, 2]).stride([2, 2]), &[NodeId::IMAGE]).unwrap();
        let cut = builder.add(Conv2d::new(4, [9, 9]), &[NodeId::IMAGE]).unwrap();
        let both = builder.add(Add, &[strided, cut]).unwrap();
        let behind = builder.add(Conv2d::new(4, [1, 1]), &[both]).unwrap();
        let warnings = builder.finish(behind).unwrap().summary().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("add1: its inputs move over the image in steps of 2 and 1 pixels"), "{warnings:?}");
    }

    #[test]
    fn a_bias_before_a_batch_norm_is_warned_of_unless_another_layer_reads_it() {
        let warnings = |text: &str| Network::parse(text).unwrap().summary().warnings;
        let sentence = "conv1: its 4 biases have no effect, since bn1 subtracts them again; say `no bias`";
        assert_eq!(warnings("input 3x8x8 -> conv 4 3x3 -> bn -> relu"), [sentence]);
        assert_eq!(warnings("input 3x8x8 -> conv 4 3x3 no bias -> bn"), [""; 0]);
        assert_eq!(warnings("input 3x8x8 -> conv 4 3x3 -> relu -> bn"), [""; 0]);
        assert_eq!(warnings("input 3x8x8 -> conv 4 3x3 -> add( bn | identity )"), [""; 0]);
    }
}
