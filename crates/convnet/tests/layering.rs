//! The house of the library: a module may use only those that stand above it in this list.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up, as `ARCHITECTURE.md` lists them.
const ORDER: [&str; 22] = [
    "error",
    "shape",
    "tensor",
    "random",
    "file",
    "page",
    "tuning",
    "layer",
    "network",
    "zoo",
    "initialise",
    "plan",
    "check",
    "loss",
    "optim",
    "data",
    "model",
    "train",
    "bench",
    "look",
    "io",
    "lib",
];

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The module of a file: the first part of its path.
fn module(root: &Path, file: &Path) -> String {
    let first = file.strip_prefix(root).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules that a line of code names behind `crate::`.
fn used(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or("");
    let word = |rest: &str| rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>();
    code.split("crate::").skip(1).map(word).filter(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase())).collect()
}

#[test]
fn every_module_uses_only_those_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rank = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let module = module(&root, &file);
        let Some(own) = rank(&module) else {
            wrong.push(format!("{module} is not in the list; give it its place"));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        // Tests at the bottom of a file may use what they need.
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        for (number, line) in code.lines().enumerate() {
            for name in used(line) {
                if rank(&name).is_some_and(|other| other > own) {
                    wrong.push(format!("{}:{}: {module} uses {name}, which stands below it", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_is_the_one_in_the_architecture_page() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md")).unwrap();
    let mut from = 0;
    for module in ORDER.iter().filter(|module| !["lib", "io"].contains(module)) {
        let row = format!("| `{module}`");
        let place = page[from..].find(&row).unwrap_or_else(|| panic!("ARCHITECTURE.md lacks `{module}` at its place"));
        from += place;
    }
}
