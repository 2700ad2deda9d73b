//! `convnet explain` as a user meets it: forward, backward, as matrices, against convolution, as drawings.

use std::fs;

use super::{convnet, json, refused, run, stderr, stdout};

#[test]
fn a_gradient_is_the_same_from_what_reads_the_number() {
    let (folder, run) = run();
    let run = run.to_str().unwrap();
    for (layer, at) in
        [("image", "0,10,11"), ("conv1", "2,3,4"), ("bn1", "2,3,4"), ("relu1", "2,3,4"), ("maxpool1", "2,3,4"), ("flatten1", "7,0,0")]
    {
        let found = json(folder.path(), &["explain", run, "test:0", "--layer", layer, "--at", at, "--backward", "--json"]);
        let (plan, again) = (found["gradient"].as_f64().unwrap(), found["recomputed"].as_f64().unwrap());
        assert!((plan - again).abs() <= 1e-5 * plan.abs().max(1e-2), "{layer}: {plan} and {again}");
        assert!(!found["readers"].as_array().unwrap().is_empty());
    }
    let own = json(folder.path(), &["explain", run, "test:0", "--layer", "fc1", "--at", "3,0,0", "--backward", "--class", "3", "--json"]);
    assert_eq!((own["own"].as_f64(), own["gradient"].as_f64(), own["class"].as_str()), (Some(1.0), Some(1.0), Some("Dress")));
    let by_name = ["explain", run, "test:0", "--layer", "conv1", "--at", "2,3,4", "--backward", "--class", "Bag"];
    let output = convnet(folder.path(), &by_name);
    let text = stdout(&output);
    assert!(text.contains("score of 'Bag'") && text.contains("read by bn1") && text.contains("gradient:"), "{text}");
    let weight = json(folder.path(), &["explain", run, "test:0", "--layer", "conv1", "--weight", "2,0,1,1", "--json"]);
    let terms = weight["terms"].as_array().unwrap();
    let sum: f64 = terms.iter().map(|term| term["product"].as_f64().unwrap()).sum();
    assert!(terms.len() == 144 && (sum - weight["gradient"].as_f64().unwrap()).abs() < 1e-9, "{} terms", terms.len());
}

#[test]
fn a_convolution_is_shown_in_every_view() {
    let (folder, run) = run();
    let run = run.to_str().unwrap();
    let of = |view: &str| json(folder.path(), &["explain", run, "test:0", "--layer", "conv1", "--at", "2,3,4", view, "--json"]);
    let forward = json(folder.path(), &["explain", run, "test:0", "--layer", "conv1", "--at", "2,3,4", "--json"]);
    let found = of("--correlation");
    assert_eq!(found["correlation"], forward["sum"]);
    assert!((found["convolution"].as_f64().unwrap() - found["correlation_flipped"].as_f64().unwrap()).abs() < 1e-9);
    let matrices = of("--columns");
    assert_eq!((matrices["sum"].as_f64(), matrices["entries"].as_array().unwrap().len()), (forward["sum"].as_f64(), 25));
    assert_eq!((matrices["columns"][1].as_u64(), matrices["column"].as_u64()), (Some(144), Some(40)));
    let coverage = json(folder.path(), &["explain", run, "test:0", "--layer", "conv1", "--coverage", "--json"]);
    let reads: f64 = coverage["reads"]["values"].as_array().unwrap().iter().map(|count| count.as_f64().unwrap()).sum();
    assert_eq!(reads, 144.0 * 25.0);
    let output = convnet(folder.path(), &["explain", run, "test:0", "--layer", "maxpool1", "--coverage"]);
    assert!(stdout(&output).contains("ways from each pixel of the image"), "{}", stdout(&output));
}

#[test]
fn drawings_are_written_and_files_of_others_left_alone() {
    let (folder, run) = run();
    let run = run.to_str().unwrap();
    for (name, arguments) in [
        ("forward.svg", vec!["--at", "2,3,4"]),
        ("backward.svg", vec!["--at", "2,3,4", "--backward", "--language", "ko"]),
        ("weight.svg", vec!["--weight", "2,0,1,1"]),
        ("correlation.svg", vec!["--at", "2,3,4", "--correlation"]),
        ("columns.svg", vec!["--at", "2,3,4", "--columns"]),
        ("coverage.svg", vec!["--coverage"]),
    ] {
        let arguments = [vec!["explain", run, "test:0", "--layer", "conv1", "--picture", name], arguments].concat();
        for _ in 0..2 {
            let output = convnet(folder.path(), &arguments);
            assert!(output.status.success() && stdout(&output).contains(name), "{name}: {}", stderr(&output));
        }
        let svg = fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
    }
    fs::write(folder.path().join("mine.svg"), "mine").unwrap();
    let place = ["explain", run, "test:0", "--layer", "conv1", "--at", "2,3,4"];
    refused(folder.path(), &[&place[..], &["--picture", "mine.svg"]].concat(), 2, &["mine.svg", "another name"]);
    assert_eq!(fs::read_to_string(folder.path().join("mine.svg")).unwrap(), "mine");
    refused(folder.path(), &[&place[..], &["--picture", "a.png"]].concat(), 2, &["a.png", ".svg"]);
    refused(folder.path(), &[&place[..], &["--class", "Bag"]].concat(), 2, &["--class", "--backward"]);
    refused(folder.path(), &[&place[..], &["--backward", "--class", "Boat"]].concat(), 2, &["Boat", "Sneaker"]);
    refused(folder.path(), &[&place[..], &["--backward", "--columns"]].concat(), 2, &["--columns"]);
    refused(folder.path(), &["explain", run, "test:0", "--layer", "conv1"], 2, &["--at"]);
    refused(folder.path(), &["explain", run, "test:0", "--layer", "fc1", "--at", "0,0,0", "--columns"], 2, &["fc1", "convolution"]);
    refused(folder.path(), &["explain", run, "test:0", "--layer", "conv1", "--weight", "9,0,0,0"], 2, &["6x1x5x5", "9,0,0,0"]);
}
