//! A tuning as a file: JSON, with the version and the machine that it was measured by.
//!
//! ```text
//! { "format": "convnet tuning 1", "convnet": "0.1.0", "machine": { … },
//!   "choices": [ { "problem": "conv n1 c64 28x28 -> 64 w3 s1 p1", "pass": "forward", "seconds": { "direct": 0.0012, … } } ] }
//! ```
//!
//! A choice for weights that change after so many uses has `uses`; without, they are used for long.

use std::collections::BTreeMap;
use std::path::Path;

use convnet_kernels::conv::Pass;
use convnet_kernels::conv::tuning::{Measured, Question, Tuning};
use serde::{Deserialize, Serialize};

use super::Signature;
use crate::error::{Error, Result};
use crate::file::{read_whole, write_whole};

const FORMAT: &str = "convnet tuning 1";

/// The largest file that is read.
const LIMIT: u64 = 16 << 20;

/// A tuning with where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    /// Version of the program that measured.
    pub convnet: String,
    /// The machine that was measured.
    pub machine: Signature,
    pub tuning: Tuning,
}

/// The part of the file by which it is known; the rest may be that of another version.
#[derive(Deserialize)]
struct Head {
    format: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    convnet: String,
    machine: Signature,
    choices: Vec<Choice>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    problem: String,
    pass: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uses: Option<usize>,
    seconds: BTreeMap<String, f64>,
}

/// Writes a tuning, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, machine: &Signature, tuning: &Tuning) -> Result<()> {
    let choice = |(question, measured): (&Question, &[Measured])| Choice {
        problem: question.shape().to_string(),
        pass: question.pass().name().to_owned(),
        uses: Some(question.uses()).filter(|uses| *uses != usize::MAX),
        seconds: measured.iter().map(|measured| (measured.algorithm.clone(), measured.seconds)).collect(),
    };
    let mut choices: Vec<Choice> = tuning.iter().map(choice).collect();
    choices.sort_by(|one, other| (&one.problem, &one.pass, one.uses).cmp(&(&other.problem, &other.pass, other.uses)));
    let document = Document { format: FORMAT.into(), convnet: env!("CARGO_PKG_VERSION").into(), machine: machine.clone(), choices };
    let text = serde_json::to_string_pretty(&document).map_err(|error| Error::format(path, error))?;
    write_whole(path, text.as_bytes())
}

/// Reads a tuning.
///
/// # Errors
/// The file cannot be read or is not such a file; the message says what is wrong with it.
pub(crate) fn read(path: &Path) -> Result<Kept> {
    let wrong = |reason: String| Error::format(path, reason);
    let bytes = read_whole(path, LIMIT)?;
    let damaged = |error: serde_json::Error| wrong(format!("the file is damaged: {error}"));
    let head: Head = serde_json::from_slice(&bytes).map_err(damaged)?;
    if head.format != FORMAT {
        return Err(wrong(format!("its format is '{}', this version reads '{FORMAT}'", head.format.escape_debug())));
    }
    let document: Document = serde_json::from_slice(&bytes).map_err(damaged)?;
    let mut tuning = Tuning::default();
    for choice in &document.choices {
        let question = question(choice).map_err(|reason| wrong(format!("the file is damaged: {reason}")))?;
        for (algorithm, seconds) in &choice.seconds {
            if !tuning.insert(question, algorithm, *seconds) {
                return Err(wrong(format!("the file is damaged: {seconds} seconds for '{}'", choice.problem.escape_debug())));
            }
        }
    }
    Ok(Kept { convnet: document.convnet, machine: document.machine, tuning })
}

fn question(choice: &Choice) -> Result<Question, String> {
    let shape = choice.problem.parse()?;
    let pass = Pass::ALL.into_iter().find(|pass| pass.name() == choice.pass);
    let pass = pass.ok_or_else(|| format!("'{}' is no pass", choice.pass.escape_debug()))?;
    Ok(Question::new(&shape, pass, choice.uses.unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use convnet_kernels::{Isa, Machine};

    use super::*;

    pub(super) fn some() -> Tuning {
        let mut tuning = Tuning::default();
        for (problem, pass, uses) in [
            ("conv n1 c64 28x28 -> 64 w3 s1 p1", Pass::Forward, usize::MAX),
            ("conv n1 c64 28x28 -> 64 w3 s1 p1", Pass::Forward, 1),
            ("conv n2 c3 9x8 -> 4 w3x5 s2x1 p0,1,2,0 d2", Pass::BackwardWeight, 1),
        ] {
            let question = Question::new(&problem.parse().unwrap(), pass, uses);
            tuning.insert(question, "direct", 0.1);
            tuning.insert(question, "winograd 4x4", 1.0 / 3.0);
        }
        tuning
    }

    fn written(tuning: &Tuning) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        write(&path, &Signature::of(&Machine::new(Isa::Portable, 2)), tuning).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        (folder, text)
    }

    fn refusal(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        std::fs::write(&path, text).unwrap();
        read(&path).map(|kept| kept.tuning).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back_to_the_bit() {
        let (folder, text) = written(&some());
        let kept = read(&folder.path().join("tuning.json")).unwrap();
        assert_eq!(kept.tuning, some());
        assert_eq!((kept.convnet.as_str(), kept.machine.threads), (env!("CARGO_PKG_VERSION"), 2));
        assert_eq!(text, written(&some()).1);
    }

    #[test]
    fn a_file_cut_at_any_byte_is_damaged() {
        let (_, text) = written(&some());
        for end in 0..text.len() {
            let error = refusal(&text[..end]);
            assert!(error.contains("damaged"), "cut at {end}: {error}");
        }
    }

    #[test]
    fn a_hostile_file_is_refused_with_what_is_wrong() {
        let (_, text) = written(&some());
        let problem = "conv n1 c64 28x28 -> 64 w3 s1 p1";
        for (old, new, word) in [
            ("convnet tuning 1", "convnet tuning 2", "convnet tuning 2"),
            ("\"choices\"", "\"chances\"", "chances"),
            ("\"forward\"", "\"sideways\"", "'sideways' is no pass"),
            (problem, "conv n0 c64 28x28 -> 64 w3 s1 p1", "at least 1"),
            (problem, "conv n1 c64 28x28 -> 64 w3 s0 p1", "stride"),
            (problem, "conv n1 c64 28x28 -> 64 w99999999999999999 s1 p1 d99999999999999", ""),
            (problem, "conv n99999999999999999 c9999999999 28x28 -> 64 w3 s1 p18446744073709551615", ""),
            (problem, "\\u00e9\\u0000", "not understood"),
            ("0.1,", "-0.1,", "-0.1 seconds"),
            ("0.1,", "0.0,", "0 seconds"),
            ("0.1,", "1e999,", "damaged"),
            ("0.1,", "null,", "damaged"),
            ("0.1,", "[[[[]]]],", "damaged"),
        ] {
            assert!(text.contains(old), "{old}");
            let error = refusal(&text.replace(old, new));
            assert!(error.contains(word), "{old} → {new}: {error}");
        }
        assert!(refusal(&"[".repeat(1 << 20)).contains("damaged"));
        assert!(refusal(&" ".repeat(LIMIT as usize + 1)).contains("more than"));
    }
}
