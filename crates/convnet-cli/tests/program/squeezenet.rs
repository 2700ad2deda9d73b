//! A network that others trained, SqueezeNet 1.1 on ImageNet, where `tools/squeezenet.py` has put it.

use std::path::{Path, PathBuf};

use super::json;

/// The environment variable that names the folder which `tools/squeezenet.py` wrote.
const FOLDER: &str = "CONVNET_SQUEEZENET";

/// The model and its photographs; `None`, and a message, where there are none.
fn found() -> Option<(PathBuf, PathBuf)> {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: {FOLDER} names no folder; tools/squeezenet.py makes one");
    }
    // A test runs in the folder of its crate, whoever set the variable stood in that of the workspace.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder?);
    Some((folder.join("squeezenet.safetensors"), folder.join("photographs")))
}

#[test]
fn squeezenet_knows_as_many_photographs_as_its_authors_network() {
    let Some((model, photographs)) = found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["eval", model.to_str().unwrap(), "--data", photographs.to_str().unwrap(), "--json"];
    let found = json(folder.path(), &arguments);
    assert_eq!(found["images"], 20, "{found}");
    let right = |name: &str| 20.0 * found[name].as_f64().unwrap();
    assert!((right("accuracy") - 12.0).abs() < 1e-9 && (right("top5") - 19.0).abs() < 1e-9, "{found}");
}
