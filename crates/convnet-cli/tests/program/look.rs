//! `convnet look` as a user meets it.

use std::fs;

use super::{convnet, json, png, refused, run, stderr, stdout};

#[test]
fn look_writes_a_page_pictures_and_numbers() {
    let (folder, run) = run();
    let run = run.to_str().unwrap();
    let found = json(folder.path(), &["look", run, "--steps", "4", "--out", "seen", "--json"]);
    let files: Vec<&str> = found["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    for file in [
        "look.html",
        "look.json",
        "filters/conv1.png",
        "maps/0-test-5/relu1.png",
        "attribution/0-test-5/grad-cam.png",
        "synthetic/fc1.png",
        "patches/conv1.png",
        "codes/grid.png",
        "inversion/0-test-5.png",
        "similarity/layers.png",
    ] {
        let beginning = file.split('-').next().unwrap();
        assert!(files.iter().any(|found| found.starts_with(beginning)), "{file} in {files:?}");
    }
    for file in &files {
        assert!(folder.path().join("seen").join(file).is_file(), "{file}");
    }
    let numbers: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join("seen/look.json")).unwrap()).unwrap();
    assert_eq!(numbers["filters"][0]["filters"].as_array().unwrap().len(), 6);
    assert!(numbers["filters"][0]["filters"][0]["norm"].as_f64().unwrap() > 0.0);
    assert_eq!((numbers["statistics"]["images"].as_u64(), numbers["images"].as_array().unwrap().len()), (Some(1000), 3));
    let relu = numbers["statistics"]["layers"].as_array().unwrap().iter().find(|layer| layer["layer"] == "relu1").unwrap();
    assert_eq!(relu["whole"]["low"].as_f64(), Some(0.0));
    let methods = numbers["images"][0]["attributions"].as_array().unwrap();
    assert_eq!(methods.len(), 11);
    assert!(methods[0]["randomisation"]["stages"].as_array().unwrap().len() >= 3 && methods[0]["deletion"].is_object(), "{}", methods[0]);
    assert_eq!(numbers["synthetic"][0]["images"].as_array().unwrap().len(), 6);
    assert!(numbers["synthetic"][0]["standing"][0]["quantile"].is_f64());
    assert_eq!(numbers["patches"][0]["channels"][0]["top"].as_array().unwrap().len(), 9);
    let mistakes = &numbers["mistakes"];
    assert!(mistakes["accuracy"].as_f64().unwrap() > 0.5 && mistakes["calibration"]["bins"].as_array().unwrap().len() == 15);
    assert!(mistakes["pairs"][0]["worst"][0]["name"].as_str().unwrap().starts_with("test:"), "{}", mistakes["pairs"][0]);
    assert!(mistakes["curves"][0]["auc"].as_f64().unwrap() > 0.8, "{}", mistakes["curves"][0]);
    assert_eq!((numbers["codes"]["layer"].as_str(), numbers["codes"]["images"].as_array().unwrap().len()), (Some("flatten1"), 1000));
    assert_eq!(numbers["codes"]["neighbours"][0]["pixels"].as_array().unwrap().len(), 6);
    let trust = |map: &str| numbers["codes"][map]["trustworthiness"].as_f64().unwrap();
    assert!(trust("pca") > 0.5 && trust("tsne") > 0.9 && trust("tsne") <= 1.0, "{} {}", trust("pca"), trust("tsne"));
    assert_eq!(numbers["inversions"][2]["layers"][0]["layer"], "relu1");
    assert_eq!(numbers["similarity"]["rows"].as_array().unwrap().len(), 5);
    let picture = image::open(folder.path().join("seen/filters/conv1.png")).unwrap();
    assert!(picture.width() >= 300, "small filters are enlarged");
    // What it wrote itself it may write again.
    json(folder.path(), &["look", run, "--out", "seen", "--samples", "10", "--steps", "0", "--method", "none", "--json"]);
}

#[test]
fn look_takes_images_layers_and_languages() {
    let (folder, run) = run();
    let run = run.to_str().unwrap();
    png(&folder.path().join("seen.png"), 3);
    let output = convnet(
        folder.path(),
        &[
            "look",
            run,
            "seen.png",
            "test:8",
            "--layer",
            "conv1",
            "--scale",
            "map",
            "--language",
            "ko",
            "--steps",
            "2",
            "--method",
            "gradient",
            "--out",
            "ko",
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("ko/look.html"), "{}", stdout(&output));
    let page = fs::read_to_string(folder.path().join("ko/look.html")).unwrap();
    assert!(page.contains("lang=\"ko\"") && page.contains("seen.png") && page.contains("test:8"));
    assert!(page.contains("id=\"conv1/5\"") && !page.contains("id=\"relu1\""));
    assert!(folder.path().join("ko/maps/0-seen/conv1.png").is_file());
}

#[test]
fn the_default_folder_is_beside_the_model() {
    let (folder, run) = run();
    let (parent, model) = (folder.path().join("models"), run.join("model.safetensors"));
    fs::create_dir_all(&parent).unwrap();
    fs::copy(model, parent.join("shirts.safetensors")).unwrap();
    let found = json(
        folder.path(),
        &["look", "models/shirts.safetensors", "test:0", "--layer", "conv1", "--steps", "0", "--method", "none", "--json"],
    );
    assert_eq!(found["folder"], "models/shirts-look");
    let mut names: Vec<String> = fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["shirts-look", "shirts.safetensors"]);
}

#[test]
fn look_compares_networks_and_looks_at_the_codes_it_is_asked_for() {
    let (folder, run) = run();
    let run = run.to_str().unwrap();
    let common = ["look", run, "--samples", "40", "--steps", "0", "--method", "none", "--json"];
    let numbers = |more: &[&str]| {
        json(folder.path(), &[&common, more].concat());
        let out = more.iter().position(|word| *word == "--out").map(|place| more[place + 1]).unwrap();
        serde_json::from_slice::<serde_json::Value>(&fs::read(folder.path().join(out).join("look.json")).unwrap()).unwrap()
    };
    let found = numbers(&["--out", "compared", "--compare", run, "--codes", "relu1", "--invert", "conv1", "test:3"]);
    assert_eq!((found["codes"]["layer"].as_str(), found["codes"]["features"].as_u64()), (Some("relu1"), Some(6 * 12 * 12)));
    assert_eq!(found["comparison"]["debiased"], found["similarity"]["debiased"], "a network compared with itself");
    let inverted = &found["inversions"][0]["layers"][0];
    assert!(inverted["layer"] == "conv1" && inverted["error"].as_f64().unwrap() < inverted["start_error"].as_f64().unwrap());
    let nothing = numbers(&["--out", "without", "--codes", "none", "--invert", "none"]);
    assert!(nothing["codes"].is_null() && nothing["inversions"].as_array().unwrap().is_empty());
    refused(folder.path(), &[&common[..], &["--codes", "conv9", "--out", "none"]].concat(), 2, &["conv9", "conv1, bn1"]);
    refused(folder.path(), &[&common[..], &["--invert", "conv9", "--out", "none"]].concat(), 2, &["conv9", "conv1, bn1"]);
    refused(folder.path(), &[&common[..], &["--compare", "missing", "--out", "none"]].concat(), 2, &["missing"]);
}

#[test]
fn look_refuses_what_it_cannot_do_and_leaves_the_files_of_others() {
    let (folder, run) = run();
    let run = run.to_str().unwrap();
    let others = folder.path().join("others");
    fs::create_dir_all(&others).unwrap();
    fs::write(others.join("look.html"), "mine").unwrap();
    refused(folder.path(), &["look", run, "--out", "others", "--layer", "conv1"], 2, &["look.html", "--out"]);
    assert_eq!(fs::read_to_string(others.join("look.html")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&others).unwrap().count(), 1, "nothing was written beside it");
    refused(folder.path(), &["look", run, "--layer", "conv7", "--out", "none"], 2, &["conv7", "conv1, bn1"]);
    refused(folder.path(), &["look", run, "missing.png", "--out", "none"], 2, &["missing.png"]);
    refused(folder.path(), &["look", run, "test:1000", "--out", "none"], 2, &["test:1000", "test:999"]);
    refused(folder.path(), &["look", run, "--language", "de", "--out", "none"], 2, &["de", "en and ko"]);
    refused(folder.path(), &["look", run, "--method", "magic", "--out", "none"], 2, &["magic", "grad-cam"]);
    refused(folder.path(), &["look", run, "--samples", "0", "--out", "none"], 2, &["--samples"]);
    assert!(!folder.path().join("none").exists());
}
