//! Claims about the whole page.

use std::collections::BTreeSet;

use super::*;
use crate::layer::conv2d::Conv2d;
use crate::layer::relu::Relu;
use crate::model::Counter;
use crate::network::NodeId;
use crate::page::reading::{attributes, elements};
use crate::train::Score;

/// Everything that a report refers to.
struct Material {
    network: Network,
    parameters: Parameters,
    steps: Vec<StepRecord>,
    epochs: Vec<EpochRecord>,
    evaluation: Evaluation,
    classes: Vec<String>,
}

/// Epochs of 100 logged steps, and three images of each class, one of which is called the next class.
fn material(epochs: usize, classes: Vec<String>) -> Material {
    let mut builder = Network::builder([1, 28, 28]);
    let conv = builder.add(Conv2d::new(8, [3, 3]), &[NodeId::IMAGE]).unwrap();
    let relu = builder.add(Relu, &[conv]).unwrap();
    let network = builder.finish(relu).unwrap();
    let parameters = Parameters::build(&network, |_, spec| (0..spec.count()).map(|place| (place as f32).sin()).collect()).unwrap();
    let loss = |step: usize| 0.2 + 2.0 / (1.0 + step as f64 / 50.0);
    let score = |step: usize| Score { loss: loss(step), accuracy: 1.0 - loss(step) / 3.0 };
    let mut counter = Counter::new(&classes);
    for label in 0..classes.len() {
        for (sample, predicted) in [label, label, (label + 1) % classes.len()].into_iter().enumerate() {
            let scores: Vec<f32> = (0..classes.len()).map(|class| if class == predicted { 0.9 } else { 0.01 }).collect();
            counter.count(3 * label + sample, label, &scores, 0.1);
        }
    }
    Material {
        network,
        parameters,
        steps: (1..=100 * epochs)
            .map(|step| StepRecord { epoch: (step - 1) / 100 + 1, step, loss: loss(step), learning_rate: 0.1 })
            .collect(),
        epochs: (1..=epochs)
            .map(|epoch| EpochRecord {
                epoch,
                step: 100 * epoch,
                train: score(100 * epoch),
                test: Some(score(90 * epoch)),
                learning_rate: 0.1,
                seconds: 4.0 * epoch as f64,
                images_per_second: 1_500.0,
            })
            .collect(),
        evaluation: counter.finish(),
        classes,
    }
}

fn ten() -> Vec<String> {
    (0..10).map(|class| format!("class {class}")).collect()
}

fn whole(material: &Material) -> Report<'_> {
    let image = |sample: usize| (0..28 * 28).map(|pixel| (pixel * 7919 + sample * 104_729) as u8).collect();
    let mistakes = material.evaluation.mistakes.iter().cycle().take(40);
    Report {
        layers: vec![LayerRow {
            name: "conv1".into(),
            text: "conv 8 3x3".into(),
            output: [8, 26, 26],
            parameters: 80,
            macs: 48_672,
            receptive_field: Some([3, 3]),
        }],
        settings: "epochs = 3\n",
        steps: &material.steps,
        epochs: &material.epochs,
        evaluation: Some(&material.evaluation),
        classes: &material.classes,
        mistakes: mistakes
            .map(|mistake| MistakeImage {
                mistake: mistake.clone(),
                image: image(mistake.sample),
                size: [1, 28, 28],
                name: format!("image {}", mistake.sample),
            })
            .collect(),
        machine: "A machine of 2 cores",
        seconds: 72.4,
        next_commands: vec!["convnet eval run".into()],
        ..Report::new("A run", &material.network, &material.parameters)
    }
}

const SECTIONS: [&str; 8] = ["course", "classes", "mistakes", "filters", "layers", "settings", "machine", "next"];

fn sections(page: &str) -> Vec<String> {
    let ids = attributes(page, "id");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each id stands once: {ids:?}");
    let links: BTreeSet<String> =
        attributes(page, "href").into_iter().filter_map(|link| Some(link.strip_prefix('#')?.to_owned())).collect();
    assert!(links.iter().all(|link| ids.contains(link)), "{links:?} lead to {ids:?}");
    let found: Vec<String> = ids.into_iter().filter(|id| SECTIONS.contains(&id.as_str())).collect();
    assert!(found.iter().all(|section| links.contains(section)), "every part is in the list of parts");
    found
}

#[test]
fn a_whole_report_has_every_part_and_is_well_formed() {
    let material = material(3, ten());
    let page = render(&whole(&material)).unwrap();
    assert_eq!(sections(&page), SECTIONS);
    assert_eq!(page.matches("<svg").count(), 4);
    let alternatives = attributes(&page, "alt");
    assert_eq!(alternatives.len(), 40 + 8, "every picture has a text");
    assert!(alternatives.iter().all(|text| !text.is_empty()));
    assert_eq!(attributes(&page, "aria-label").iter().filter(|text| text.contains("Line chart from")).count(), 4);
    for part in
        ["Test accuracy", "66.7\u{202f}%", "1\u{202f}min 12\u{202f}s", "Top-5", "48,672", "convnet eval run", "epochs = 3", "2 cores"]
    {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn an_empty_report_has_no_empty_part() {
    let mut material = material(0, ten());
    let mut builder = Network::builder([1, 2, 2]);
    let relu = builder.add(Relu, &[NodeId::IMAGE]).unwrap();
    material.network = builder.finish(relu).unwrap();
    material.parameters = Parameters::constant(&material.network).unwrap();
    let page = render(&Report::new("Nothing yet", &material.network, &material.parameters)).unwrap();
    assert!(sections(&page).is_empty());
    assert!(page.contains("no epoch finished") && !page.contains("<svg") && !page.contains("<img"));
}

#[test]
fn a_report_without_evaluation_tells_the_training() {
    let material = material(1, ten());
    let report = Report { evaluation: None, mistakes: Vec::new(), ..whole(&material) };
    let page = render(&report).unwrap();
    assert_eq!(sections(&page), ["course", "filters", "layers", "settings", "machine", "next"]);
    assert!(page.contains("Training accuracy") && page.contains("not evaluated") && !page.contains("<dt>Test accuracy"));
}

#[test]
fn the_page_asks_for_nothing_from_outside() {
    let material = material(3, ten());
    let page = render(&whole(&material)).unwrap();
    for forbidden in ["http:", "https:", "//", "url(", "@import", "<script", "<link rel=\"stylesheet\"", "<iframe"] {
        // Base 64 may hold any two letters, slashes among them.
        let outside_of_pictures: String = page
            .split("data:image/png;base64,")
            .enumerate()
            .map(|(place, part)| if place == 0 { part } else { part.split_once('"').unwrap().1 })
            .collect();
        assert!(!outside_of_pictures.contains(forbidden), "{forbidden}");
    }
    assert!(attributes(&page, "src").iter().all(|address| address.starts_with("data:image/png;base64,")));
    assert!(attributes(&page, "href").iter().all(|address| address.starts_with('#') || address == "data:,"));
    assert!(attributes(&page, "content").iter().any(|policy| policy.starts_with("default-src 'none'")));
}

#[test]
fn no_text_breaks_out_of_its_place() {
    const HOSTILE: &str = "<img src=x onerror=\"alert('1')\">&amp;</style></title><!-- {{ 7 }} ]]>";
    let mut names = ten();
    names[3] = HOSTILE.to_owned();
    let material = material(2, names);
    let mut report = whole(&material);
    report.layers[0].name = HOSTILE.into();
    report.layers[0].text = HOSTILE.into();
    report.mistakes.iter_mut().for_each(|mistake| mistake.name = HOSTILE.into());
    report.next_commands = vec![HOSTILE.into()];
    let report = Report { title: HOSTILE, settings: HOSTILE, machine: HOSTILE, ..report };
    let page = render(&report).unwrap();
    assert!(!page.contains("<img src=x") && !page.contains("<!--") && !page.contains("alert('"));
    let plain = render(&whole(&self::material(2, ten()))).unwrap();
    let kinds = |page: &str| {
        let mut kinds = Vec::new();
        elements(page, |name, element| {
            kinds.push(name.to_owned());
            assert!(element.attributes().all(|attribute| !attribute.unwrap().key.as_ref().starts_with(b"on")), "{element:?}");
        });
        kinds
    };
    assert_eq!(kinds(&page), kinds(&plain), "the same elements whatever the texts");
    assert!(attributes(&page, "title").iter().any(|title| title == HOSTILE), "the whole name can be read");
}

#[test]
fn the_same_report_has_the_same_bytes() {
    let first = render(&whole(&material(3, ten()))).unwrap();
    let second = render(&whole(&material(3, ten()))).unwrap();
    assert!(first == second);
}

#[test]
fn a_report_of_a_default_run_stays_under_a_megabyte() {
    let material = material(40, ten());
    let page = render(&whole(&material)).unwrap();
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn a_long_run_with_a_thousand_classes_stays_readable() {
    let mut material = material(300, (0..1_000).map(|class| format!("class {class}")).collect());
    material.steps[77].loss = f64::NAN;
    material.epochs[5].train.loss = f64::INFINITY;
    let page = render(&Report { mistakes: Vec::new(), ..whole(&material) }).unwrap();
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
    for part in ["30 most confused of 1,000 classes", "all others", "30 of 1,000 classes with the lowest recall", "Left out: 1 of 30,000"] {
        assert!(page.contains(part), "{part}");
    }
    let longest = attributes(&page, "points").iter().map(|points| points.split(' ').count()).max();
    assert!(longest <= Some(1_000), "{longest:?}");
    elements(&page, |_, _| {});
}

#[test]
fn two_classes_and_one_epoch_are_enough() {
    let material = material(1, vec!["no".into(), "yes".into()]);
    let page = render(&whole(&material)).unwrap();
    assert_eq!(sections(&page), SECTIONS);
    assert!(!page.contains("Top-5") && page.contains("trained for 1 epoch."));
}

#[test]
fn parts_that_do_not_fit_together_are_refused() {
    let material = material(1, ten());
    let refused = |report: Report<'_>| match render(&report) {
        Err(Error::Argument(message)) => message,
        other => panic!("{:?}", other.map(|page| page.len())),
    };
    let few = &material.classes[..9];
    let message = refused(Report { classes: few, ..whole(&material) });
    assert!(message.contains("10 classes") && message.contains("names of 9"), "{message}");
    let message = refused(Report { classes: few, evaluation: None, ..whole(&material) });
    assert!(message.contains("9 names"), "{message}");
    let mut report = whole(&material);
    report.mistakes[0].size = [3, 28, 28];
    let message = refused(report);
    assert!(message.contains("3x28x28") && message.contains("784"), "{message}");
}
