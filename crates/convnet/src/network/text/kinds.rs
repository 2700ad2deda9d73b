//! The words that begin a layer, and those that therefore cannot be names.

use super::nearest::nearest;
use crate::layer::Layer;

/// Other spellings of a kind.
const ALIASES: [(&str, &str); 4] = [("pool", "maxpool"), ("batchnorm", "bn"), ("linear", "fc"), ("dense", "fc")];

/// Words of the language that begin no layer: statements and options.
const WORDS: [&str; 18] = [
    "input", "let", "from", "identity", "stride", "pad", "same", "dilation", "groups", "no", "bias", "ceil", "exclude", "eps", "momentum",
    "affine", "x", "nn",
];

/// Complete layers, for those who left the numbers out.
const COMPLETE: [(&str, &str); 9] = [
    ("conv", "conv 64 3x3 pad 1"),
    ("fc", "fc 10"),
    ("maxpool", "maxpool 2"),
    ("avgpool", "avgpool 2"),
    ("lppool", "lppool 2 3x3"),
    ("adaptive avgpool", "adaptive avgpool 6x6"),
    ("adaptive maxpool", "adaptive maxpool 6x6"),
    ("dropout", "dropout 0.5"),
    ("spatial dropout", "spatial dropout 0.5"),
];

/// The kind that these words begin with, and how many of them it is.
///
/// # Errors
/// The words begin no layer; with the nearest that there is.
pub(super) fn find(words: &[&str]) -> Result<(&'static str, usize), String> {
    let lower: Vec<String> = words.iter().take(3).map(|word| word.to_ascii_lowercase()).collect();
    let begins = |kind: &&str| kind.split(' ').enumerate().all(|(at, word)| lower.get(at).is_some_and(|found| found == word));
    let longest = Layer::KINDS.iter().copied().filter(begins).max_by_key(|kind| kind.len());
    let alias = || ALIASES.iter().find(|(alias, _)| lower.first().is_some_and(|word| word == alias)).map(|(_, kind)| *kind);
    if let Some(kind) = longest {
        return Ok((kind, kind.split(' ').count()));
    }
    alias().map(|kind| (kind, 1)).ok_or_else(|| unknown(&lower))
}

fn unknown(words: &[String]) -> String {
    let word = words.first().map_or("", String::as_str);
    let mut kinds = Layer::KINDS.to_vec();
    kinds.sort_unstable();
    let candidates = || kinds.iter().copied().chain(["identity", "from", "input", "let"]).chain(ALIASES.map(|(alias, _)| alias));
    let meant = (1..=words.len()).rev().find_map(|count| nearest(&words[..count].join(" "), candidates()));
    match meant {
        Some(meant) => format!("'{word}' is not a layer; did you mean '{meant}'?"),
        None => format!("'{word}' is not a layer; layers are {}", kinds.join(", ")),
    }
}

/// A complete layer of this kind, for a message about a missing number.
pub(super) fn complete(kind: &str) -> Option<&'static str> {
    COMPLETE.iter().find(|(name, _)| *name == kind).map(|(_, text)| *text)
}

/// Whether this word means something already, so that it cannot name a constant, a definition or a parameter.
pub(super) fn is_reserved(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    WORDS.contains(&word.as_str())
        || ALIASES.iter().any(|(alias, _)| *alias == word)
        || Layer::KINDS.iter().any(|kind| kind.split(' ').any(|part| part == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_in_any_case_and_by_their_aliases() {
        assert_eq!(find(&["CONV", "64"]), Ok(("conv", 1)));
        assert_eq!(find(&["Linear", "10"]), Ok(("fc", 1)));
        assert!(find(&["conw", "64"]).unwrap_err().contains("did you mean 'conv'?"));
        assert!(find(&["transformer"]).unwrap_err().contains("layers are a"));
        for (_, kind) in ALIASES {
            assert!(Layer::KINDS.contains(&kind), "an alias of '{kind}', which is no kind");
        }
    }

    #[test]
    fn words_of_layers_and_options_are_reserved() {
        for word in ["conv", "Relu", "stride", "dense", "identity"] {
            assert!(is_reserved(word), "{word}");
        }
        assert!(!is_reserved("k") && !is_reserved("classes") && !is_reserved("block"));
    }
}
