//! The program as a user meets it: its commands, its JSON, its exit codes, and what it says to bad input.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

#[path = "program/browser.rs"]
mod browser;
#[path = "program/explain.rs"]
mod explain;
#[path = "program/look.rs"]
mod look;
#[path = "program/squeezenet.rs"]
mod squeezenet;

/// A small network that trains in a second.
const NET: &str = "input 1x28x28 -> conv 6 5x5 stride 2 -> bn -> relu -> maxpool 2 -> flatten -> fc 10";

fn convnet(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_convnet")).current_dir(folder).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = convnet(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", stdout(&output)))
}

/// Fails with this exit code, says all of these words on stderr, does not panic.
fn refused(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let output = convnet(folder, arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(!text.contains("panicked"), "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?} does not say '{word}': {text}");
    }
}

/// A run folder that all tests may read.
fn run() -> &'static (tempfile::TempDir, PathBuf) {
    static RUN: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let output = convnet(folder.path(), &["train", NET, "--epochs", "2", "--out", "run", "--seed", "3"]);
        assert!(output.status.success(), "{}", stderr(&output));
        for said in ["test images are right", "run/report.html", "convnet eval run", "convnet predict run"] {
            assert!(stdout(&output).contains(said), "{}", stdout(&output));
        }
        let run = folder.path().join("run");
        (folder, run)
    })
}

/// Writes one image of the embedded test set as a PNG.
fn png(path: &Path, number: usize) {
    let data = convnet::data::Dataset::embedded();
    let image = image::GrayImage::from_raw(28, 28, data.test.image(number).to_vec()).unwrap();
    image.save(path).unwrap();
}

#[test]
fn a_run_folder_holds_everything_of_a_training() {
    let (_, run) = run();
    for file in [
        "network.txt",
        "run.toml",
        "metrics.jsonl",
        "checkpoint/last.safetensors",
        "checkpoint/best.safetensors",
        "model.safetensors",
        "report.html",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("<html") && page.contains("Sneaker"));
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches(r#""kind":"epoch""#).count(), 2);
}

#[test]
fn train_ends_with_one_json_document() {
    let folder = tempfile::tempdir().unwrap();
    let document = json(folder.path(), &["train", NET, "--epochs", "1", "--json"]);
    assert_eq!(document["run"], "runs/1");
    assert_eq!(document["epochs"], 1);
    for (part, key) in [("train", "loss"), ("train", "accuracy"), ("test", "loss"), ("test", "accuracy")] {
        assert!(document[part][key].is_f64(), "{document}");
    }
    assert!(document["seconds"].as_f64().unwrap() > 0.0 && document["images_per_second"].as_f64().unwrap() > 0.0);
    // The next run takes the next number and leaves the first alone.
    assert_eq!(json(folder.path(), &["train", NET, "--epochs", "1", "--json"])["run"], "runs/2");
}

#[test]
fn the_threads_change_no_bit_of_a_model() {
    let folder = tempfile::tempdir().unwrap();
    for threads in ["1", "2", "3", "8"] {
        json(folder.path(), &["train", NET, "--epochs", "1", "--threads", threads, "--out", threads, "--json"]);
    }
    let model = |threads: &str| fs::read(folder.path().join(threads).join("model.safetensors")).unwrap();
    for threads in ["2", "3", "8"] {
        assert!(model(threads) == model("1"), "{threads} threads");
    }
}

#[test]
fn computing_activations_again_has_a_price_that_the_summary_shows() {
    let folder = tempfile::tempdir().unwrap();
    let net = "input 3x16x16 -> [conv 8 3x3 pad 1 -> relu]*8 -> flatten -> fc 10";
    let memory = json(folder.path(), &["summary", net, "--batch", "8", "--recompute", "--json"])["memory"].take();
    let bytes = |of: &Value| of["activations"].as_u64().unwrap();
    assert!(bytes(&memory["recomputing"]["memory"]) < bytes(&memory["training"]), "{memory}");
    assert!(memory["recomputing"]["macs"].as_u64().unwrap() > 0 && memory["recomputing"]["segments"].as_u64().unwrap() > 0, "{memory}");
    let text = stdout(&convnet(folder.path(), &["summary", net, "--batch", "8", "--recompute"]));
    // Where the lines end depends on the sizes, and these on the instruction set.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("recomputing  ") && words.contains("MACs more for one image"), "{text}");
    assert!(json(folder.path(), &["summary", net, "--json"])["memory"]["recomputing"].is_null());
    for out in ["kept", "again"] {
        let mut arguments = vec!["train", NET, "--epochs", "1", "--out", out];
        arguments.extend((out == "again").then_some("--recompute"));
        assert!(convnet(folder.path(), &arguments).status.success());
    }
    let model = |run: &str| fs::read(folder.path().join(run).join("model.safetensors")).unwrap();
    assert!(model("kept") == model("again"));
    json(folder.path(), &["bench", "train", net, "--batch", "4", "--recompute", "--rounds", "1", "--json"]);
}

/// A network whose convolutions can be computed in several ways.
const SQUARE_NET: &str = "input 1x28x28 -> conv 6 3x3 stride 2 -> bn -> relu -> conv 8 3x3 pad 1 -> maxpool 2 -> flatten -> fc 10";

fn tuning(folder: &Path, arguments: &[&str], cache: Option<&Path>) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convnet"));
    command.current_dir(folder).args(arguments).args(["--tune", "--threads", "1"]);
    for variable in ["CONVNET_CACHE", "XDG_CACHE_HOME", "HOME"] {
        command.env_remove(variable);
    }
    cache.map(|cache| command.env("CONVNET_CACHE", cache));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    (stdout(&output), stderr(&output))
}

#[test]
fn what_was_measured_is_kept_in_a_cache_that_is_looked_through_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let model = ["bench", "model", SQUARE_NET, "--batch", "2", "--rounds", "1"];
    let said = |cache: Option<&Path>| tuning(folder.path(), &model, cache).1;
    assert!(said(Some(&cache)).contains("tuning: 1 of 1"));
    assert!(said(Some(&cache)).contains("tuning: 0 of 1"));
    let files: Vec<PathBuf> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    for (text, word) in [("{", "damaged"), (r#"{"format": "convnet tuning 9"}"#, "convnet tuning 9")] {
        fs::write(&files[0], text).unwrap();
        let said = said(Some(&cache));
        assert!(said.contains("measured times are not used") && said.contains(word) && said.contains("tuning: 1 of 1"), "{said}");
    }
    assert!(said(Some(&cache)).contains("tuning: 0 of 1"));
    for (cache, word) in [(None, "CONVNET_CACHE"), (Some(files[0].as_path()), "cannot")] {
        let said = said(cache);
        assert!(said.contains("warning: ") && said.contains(word) && said.contains("tuning: 1 of 1"), "{said}");
    }
    let explained = tuning(folder.path(), &["summary", SQUARE_NET, "--batch", "2", "--explain"], Some(&cache)).0;
    assert!(explained.contains("measured to take") && !explained.contains("expected to take"), "{explained}");
    let expected = convnet(folder.path(), &["summary", SQUARE_NET, "--batch", "2", "--explain"]);
    assert!(stdout(&expected).contains("expected to take") && !stdout(&expected).contains("measured"), "{}", stdout(&expected));
    refused(folder.path(), &["summary", SQUARE_NET, "--tune"], 2, &["--explain"]);
}

#[test]
fn a_tuned_training_keeps_its_choices() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let arguments = ["train", SQUARE_NET, "--epochs", "1", "--out", "run"];
    // Three passes of a training, and the evaluation with weights that stay.
    assert!(tuning(folder.path(), &arguments, Some(&cache)).1.contains("tuning: 4 of 4"));
    let run = folder.path().join("run");
    assert!(fs::read_to_string(run.join("run.toml")).unwrap().contains("tuned = true"));
    assert!(fs::read_to_string(run.join("tuning.json")).unwrap().contains("-> 8 w3 s1 p1"));
    assert!(tuning(folder.path(), &["eval", "run", "--batch", "50"], Some(&cache)).1.contains("tuning: 0 of 1"));
    png(&folder.path().join("a.png"), 0);
    assert!(tuning(folder.path(), &["predict", "run", "a.png"], Some(&cache)).1.contains("tuning: 1 of 1"));
    refused(folder.path(), &["train", "--resume", "run", "--tune"], 2, &["--tune"]);
}

#[test]
fn a_precision_is_asked_for_by_name_kept_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let net = "input 1x28x28 -> conv 16 5x5 stride 3 -> relu -> conv 16 3x3 -> relu -> flatten -> fc 10";
    let output = convnet(folder.path(), &["train", net, "--epochs", "1", "--out", "run", "--precision", "bf16"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read_to_string(folder.path().join("run/run.toml")).unwrap().contains("precision = \"bf16\""));
    refused(folder.path(), &["train", "--resume", "run", "--precision", "f32x3"], 2, &["f32x3", "was begun with bf16"]);
    assert!(convnet(folder.path(), &["train", "--resume", "run"]).status.success());
    refused(folder.path(), &["eval", "run", "--precision", "fp8"], 2, &["fp8", "f32, f32x6, f32x3, bf16"]);
    for precision in ["f32", "bf16"] {
        let timings = json(folder.path(), &["bench", "model", net, "--rounds", "1", "--json", "--precision", precision]);
        assert_eq!(timings[0]["precision"], precision);
    }
    let timings =
        json(folder.path(), &["bench", "layers", "conv n1 c16 8x8 -> 16 w3 s1 p1", "--rounds", "1", "--json", "--precision", "f32x3"]);
    assert!(timings.as_array().unwrap().iter().all(|timing| timing["algorithm"] == "tiles f32x3" && timing["precision"] == "f32x3"));
    let explained = stdout(&convnet(folder.path(), &["summary", net, "--explain", "--precision", "f32x6"]));
    assert!(explained.contains("products of f32x6") && explained.contains("forward: tiles f32x6"), "{explained}");
    assert!(explained.contains("not tiles f32x6: fewer than 16 channels"), "{explained}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_a_resumed_training_equals_one_that_was_not_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = |out: &'static str| ["train", NET, "--epochs", "3", "--seed", "9", "--out", out];
    assert!(convnet(folder.path(), &arguments("whole")).status.success());
    let mut child = Command::new(env!("CARGO_BIN_EXE_convnet"))
        .current_dir(folder.path())
        .args(arguments("half"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Wait until the first logged step, so that the signal meets a training that is under way.
    let metrics = folder.path().join("half/metrics.jsonl");
    while fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(130) {
        assert!(stdout(&output).contains("convnet train --resume half"), "{}", stdout(&output));
        assert!(convnet(folder.path(), &["train", "--resume", "half"]).status.success());
    } else {
        // The training was faster than the signal.
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let model = |out: &str| fs::read(folder.path().join(out).join("model.safetensors")).unwrap();
    assert!(model("half") == model("whole"));
}

#[test]
fn summary_gives_the_numbers_of_the_course() {
    let folder = tempfile::tempdir().unwrap();
    let quiz = json(folder.path(), &["summary", "input 3x32x32 -> conv 10 5x5 pad 2", "--json"]);
    assert_eq!(quiz["input"], serde_json::json!([3, 32, 32]));
    let layer = &quiz["layers"][0];
    assert_eq!(layer["output"], serde_json::json!([10, 32, 32]));
    for (key, value) in [("weights", 750), ("biases", 10), ("parameters", 760), ("macs", 768_000), ("flops", 1_536_000)] {
        assert_eq!(layer[key], value, "{key}");
    }
    assert_eq!(layer["formula"], "(5·5·3 + 1)·10");
    let vgg = json(folder.path(), &["summary", "vgg16", "--json"]);
    assert_eq!(vgg["totals"]["parameters"], 138_357_544u64);
    assert_eq!(vgg["totals"]["macs"], 15_470_264_320u64);
    assert!(vgg["totals"]["inference_bytes"].as_u64().unwrap() < vgg["totals"]["training_bytes"].as_u64().unwrap());
    let fields: Vec<u64> = vgg["layers"].as_array().unwrap().iter().map(|layer| layer["receptive_field"][0].as_u64().unwrap()).collect();
    assert!(fields.contains(&212));
}

#[test]
fn a_size_that_does_not_fit_is_warned_of_solved_and_refused_when_strict() {
    let folder = tempfile::tempdir().unwrap();
    let net = "input 3x7x7 -> conv 4 3x3 stride 3";
    let summary = json(folder.path(), &["summary", net, "--json"]);
    assert_eq!(summary["warnings"].as_array().unwrap().len(), 1, "{summary}");
    let solved = json(folder.path(), &["summary", net, "--solve", "stride", "--layer", "conv1", "--json"]);
    let strides: Vec<u64> =
        solved["axes"][0]["solutions"].as_array().unwrap().iter().map(|value| value["value"].as_u64().unwrap()).collect();
    assert!(strides.contains(&2) && !strides.contains(&3), "{solved}");
    refused(folder.path(), &["summary", net, "--sizes", "strict"], 2, &["line 1, column"]);
}

#[test]
fn eval_predict_explain_and_check_use_a_run_folder() {
    let (folder, run) = run();
    let run = run.to_str().unwrap();
    let found = json(folder.path(), &["eval", run, "--json"]);
    assert_eq!(found["images"], 1000);
    assert!(found["accuracy"].as_f64().unwrap() > 0.5, "{found}");
    assert_eq!(found["confusion"].as_array().unwrap().len(), 10);
    assert!((0.0..0.5).contains(&found["calibration"]["ece"].as_f64().unwrap()), "{}", found["calibration"]);

    let picture = folder.path().join("picture.png");
    png(&picture, 0);
    let predicted = json(folder.path(), &["predict", run, picture.to_str().unwrap(), "--top", "2", "--json"]);
    assert_eq!(predicted[0]["top"].as_array().unwrap().len(), 2);

    for layer in ["conv1", "bn1", "relu1", "maxpool1", "fc1"] {
        let at = if layer == "fc1" { "3,0,0" } else { "2,3,4" };
        let explained = json(folder.path(), &["explain", run, "test:0", "--layer", layer, "--at", at, "--json"]);
        let (output, again) = (explained["output"].as_f64().unwrap(), explained["recomputed"].as_f64().unwrap());
        assert!((output - again).abs() <= 1e-4 * output.abs().max(1.0), "{layer}: {output} and {again}");
        assert_eq!(explained["choice"].is_object(), layer == "maxpool1");
    }
    let same = json(folder.path(), &["explain", run, picture.to_str().unwrap(), "--layer", "conv1", "--at", "2,3,4", "--json"]);
    assert_eq!(same, json(folder.path(), &["explain", run, "test:0", "--layer", "conv1", "--at", "2,3,4", "--json"]));

    let checked = json(folder.path(), &["check", run, "--json"]);
    assert_eq!(checked["holds"], true);
    assert_eq!(checked["layers"].as_array().unwrap().len(), 6);
}

#[test]
fn bench_prints_what_it_measured() {
    let folder = tempfile::tempdir().unwrap();
    let problem = "conv n1 c4 8x8 -> 4 w3 s1 p1";
    let layers = json(folder.path(), &["bench", "layers", problem, "--rounds", "2", "--json"]);
    let passes: Vec<&str> = layers.as_array().unwrap().iter().map(|timing| timing["pass"].as_str().unwrap()).collect();
    assert_eq!(passes, ["forward", "backward_input", "backward_weight"]);
    assert_eq!(layers[0]["problem"], problem);
    let pooling = json(folder.path(), &["bench", "layers", "maxpool 2 @ 2x3x8x8", "--pass", "backward", "--rounds", "2", "--json"]);
    assert_eq!((pooling.as_array().unwrap().len(), pooling[0]["sample"].as_array().unwrap().len()), (1, 16));
    refused(folder.path(), &["bench", "layers", "relu @ 1x2x3"], 2, &["relu @ 1x2x3", "NxCxHxW"]);
    refused(folder.path(), &["bench", "layers", "--pass", "sideways"], 2, &["'sideways'", "backward_weight"]);
    for what in ["model", "train"] {
        let timing = json(folder.path(), &["bench", what, NET, "--batch", "2", "--rounds", "2", "--json"]);
        assert_eq!((timing[0]["batch"].as_u64(), timing[0]["precision"].as_str()), (Some(2), Some("f32")));
        assert!(timing[0]["images_per_second"].as_f64().unwrap() > 0.0);
    }
    assert!(json(folder.path(), &["bench", "machine", "--json"])["peak_gflops"].as_f64().unwrap() > 0.1);
}

/// Runs with these lines on standard input.
fn with_input(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convnet"));
    let command = command.current_dir(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_paced_bench_answers_each_line_with_one_record() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [["bench", "layers", "bn @ 2x3x8x8", "--paced"], ["bench", "model", NET, "--paced"], ["bench", "train", NET, "--paced"]]
    {
        let output = with_input(folder.path(), &arguments, "\n3\n1\n");
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        let records: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 3, "{arguments:?}");
        assert!(records.iter().all(|record| record[0]["sample"] == records[0][0]["sample"]), "{records:?}");
    }
    let output = with_input(folder.path(), &["bench", "layers", "relu @ 1x2x3x3", "--paced"], "faster\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("'faster'"), "{}", stderr(&output));
}

#[test]
fn the_model_that_is_measured_can_be_written_and_predicts() {
    let folder = tempfile::tempdir().unwrap();
    json(folder.path(), &["bench", "model", NET, "--rounds", "1", "--write-model", "m.safetensors", "--json"]);
    let image = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([(7 * x + 5 * y) as u8]));
    image.save(folder.path().join("image.png")).unwrap();
    let prediction = json(folder.path(), &["predict", "m.safetensors", "image.png", "--json"]);
    assert!(prediction[0]["top"][0]["probability"].as_f64().unwrap() > 0.0, "{prediction}");
    refused(folder.path(), &["bench", "model", "input 1x8x8 -> conv 4 3x3", "--write-model", "n.safetensors"], 2, &["4x6x6"]);
}

#[test]
fn a_mistake_in_a_text_is_pointed_at() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("net.txt"), "input 3x32x32\nconv 10 5x5 pad 2\nconw 10 3x3\n").unwrap();
    refused(folder.path(), &["summary", "net.txt"], 2, &["line 3, column 1", "conw", "conv"]);
    refused(folder.path(), &["summary", "input 3x4x4 -> conv 8 5x5"], 2, &["line 1, column", "5", "4"]);
    refused(folder.path(), &["summary", "input 3x32x32 -> conv 1000000000000000000 3x3 -> conv 1000000000000000000 3x3"], 2, &["line 1"]);
    refused(folder.path(), &["summary", "no-such-net"], 2, &["no-such-net"]);
    refused(folder.path(), &["summary", "resnet81"], 2, &["resnet18"]);
}

#[test]
fn an_absurd_network_is_refused_without_taking_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let net = "input 1x28x28 -> conv 1000000000 3x3 pad 1 -> global avgpool -> flatten -> fc 10";
    let output = convnet(folder.path(), &["train", net, "--out", "run"]);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    assert!(stderr(&output).contains("MiB") && !stderr(&output).contains("panicked"), "{}", stderr(&output));
    assert!(!folder.path().join("run").exists());
}

#[test]
fn bad_images_are_named_and_nothing_half_written_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let idx = path.join("idx");
    fs::create_dir(&idx).unwrap();
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        fs::write(idx.join(name), [0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 28, 0, 0]).unwrap();
    }
    refused(path, &["train", NET, "--data", "idx", "--out", "run"], 2, &["idx", "ubyte"]);
    fs::create_dir(path.join("empty")).unwrap();
    refused(path, &["train", NET, "--data", "empty", "--out", "run"], 2, &["empty"]);
    refused(path, &["train", NET, "--data", "missing", "--out", "run"], 2, &["missing"]);
    refused(path, &["train", "input 1x28x28 -> flatten -> fc 7", "--out", "run"], 2, &["7", "10 classes"]);
    refused(path, &["train", NET, "--epochs", "0", "--out", "run"], 2, &["epochs is 0"]);
    refused(path, &["train", NET, "--threads", "0"], 2, &["--threads"]);
    assert!(!path.join("run").exists());
}

#[test]
fn broken_images_are_left_out_up_to_a_share() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["boots", "shirts"] {
        let class = folder.path().join("photos").join(class);
        fs::create_dir_all(&class).unwrap();
        (0..30).for_each(|number| png(&class.join(format!("{number}.png")), number));
    }
    fs::write(folder.path().join("photos/boots/broken.png"), b"\x89PNG\r\n\x1a\n and no more").unwrap();
    let net = "input 1x28x28 -> conv 4 5x5 stride 2 -> relu -> flatten -> fc 2";
    let output = convnet(folder.path(), &["train", net, "--data", "photos", "--epochs", "1", "--batch", "8", "--out", "run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("broken.png") && stderr(&output).contains("1 broken image"), "{}", stderr(&output));
    let none = ["train", net, "--data", "photos", "--epochs", "1", "--broken-share", "0", "--out", "strict"];
    refused(folder.path(), &none, 2, &["broken.png"]);

    // Whatever the seed of the training, an evaluation draws the same test images.
    let seeded = json(
        folder.path(),
        &["train", net, "--data", "photos", "--epochs", "1", "--batch", "8", "--seed", "7", "--out", "seeded", "--json"],
    );
    let found = json(folder.path(), &["eval", "seeded", "--data", "photos", "--json"]);
    let loss = |value: &Value| value["loss"].as_f64().unwrap();
    assert!((loss(&found) - loss(&seeded["test"])).abs() < 1e-9, "{found} and {seeded}");

    // Images of a class that the model does not know are not given a number of another.
    fs::create_dir_all(folder.path().join("other/test/hats")).unwrap();
    fs::create_dir_all(folder.path().join("other/test/boots")).unwrap();
    png(&folder.path().join("other/test/hats/1.png"), 1);
    png(&folder.path().join("other/test/boots/1.png"), 1);
    refused(folder.path(), &["eval", "run", "--data", "other"], 2, &["hats"]);
    fs::write(folder.path().join("text.png"), "this is no picture").unwrap();
    refused(folder.path(), &["predict", "run", "text.png"], 2, &["text.png"]);
}

#[test]
fn damaged_models_are_refused() {
    let (folder, run) = run();
    let model = fs::read(run.join("model.safetensors")).unwrap();
    for length in [0, 7, 8, 100, model.len() / 2, model.len() - 1] {
        let path = folder.path().join(format!("cut-{length}.safetensors"));
        fs::write(&path, &model[..length]).unwrap();
        refused(folder.path(), &["eval", path.to_str().unwrap()], 2, &["cut-"]);
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_an_error_before_training() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser writes everywhere; there the folder is a file instead.
    let target = if fs::write(locked.join("probe"), "").is_ok() {
        fs::remove_file(locked.join("probe")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        "file/run"
    } else {
        "locked/run"
    };
    let output = convnet(folder.path(), &["train", NET, "--epochs", "1", "--out", target]);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", stderr(&output));
    assert!(stderr(&output).contains(target) && !stderr(&output).contains("panicked"), "{}", stderr(&output));
}
