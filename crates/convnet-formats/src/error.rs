//! What can be wrong with the content of a file.

use std::fmt;

use thiserror::Error;

/// Why a content cannot be read, or cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The content is of another format altogether.
    Foreign,
    /// The content ends before all that it promises.
    Truncated,
    /// The content goes on after its end.
    Trailing,
    /// A size is beyond the limit that the caller or the reader sets.
    TooLarge,
    /// The content breaks a rule of its format or contradicts itself.
    Malformed,
    /// The content is valid, but uses a part of the format that is not read here.
    Unsupported,
    /// What is to be written does not fit the format.
    Unwritable,
}

/// One thing that is wrong with a content: where, what, and what to do.
///
/// It prints as one sentence and leaves out the name of the file, which the
/// caller adds:
///
/// ```
/// let error = convnet_formats::idx::read_idx(b"\x89PNG\r\n\x1a\n....", 1 << 20).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "found a PNG image, expected an IDX file (plain or gzip); choose another file"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct FormatError {
    /// The kind of fault.
    pub fault: Fault,
    /// Where, in bytes from the start of the content (after decompression, where
    /// the content is compressed); `None` where the whole content is meant.
    pub offset: Option<usize>,
    /// What stands there.
    pub found: String,
    /// What should stand there.
    pub expected: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

impl FormatError {
    pub(crate) fn new(fault: Fault, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let remedy = match fault {
            Fault::Foreign => "choose another file",
            Fault::Truncated => "the file is cut off: fetch or write it again",
            Fault::Trailing => "the file is damaged or carries something else besides",
            Fault::Malformed => "the file is damaged: fetch or write it again",
            Fault::TooLarge | Fault::Unsupported | Fault::Unwritable => "",
        };
        FormatError { fault, offset: None, found: found.into(), expected: expected.into(), remedy: remedy.to_owned() }
    }

    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The same error of a part that begins at `start` of the whole.
    pub(crate) fn shifted(mut self, start: usize) -> Self {
        self.offset = self.offset.map(|offset| offset.saturating_add(start));
        self
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(offset) = self.offset {
            write!(f, "at byte {offset}: ")?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// A name out of a file, quoted, with control characters escaped, and short
/// enough to stand in a message.
pub(crate) fn quoted(name: &str) -> String {
    const LONGEST: usize = 80;
    if name.chars().count() <= LONGEST {
        format!("{name:?}")
    } else {
        let start: String = name.chars().take(LONGEST).collect();
        format!("{start:?}… ({} bytes)", name.len())
    }
}

/// Words that may hold text out of a file: control characters escaped, and
/// short enough to stand in a message.
pub(crate) fn printable(words: &str) -> String {
    const LONGEST: usize = 200;
    let mut shown = String::new();
    for character in words.chars().take(LONGEST) {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    if words.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_place_finding_expectation_and_remedy() {
        let error = FormatError::new(Fault::Truncated, "3 bytes", "4 bytes").at(16);
        assert_eq!(error.to_string(), "at byte 16: found 3 bytes, expected 4 bytes; the file is cut off: fetch or write it again");
        let error = FormatError::new(Fault::Unsupported, "values of type I16", "unsigned bytes");
        assert_eq!(error.to_string(), "found values of type I16, expected unsigned bytes");
    }

    #[test]
    fn a_name_of_a_file_cannot_spoil_the_message() {
        assert_eq!(quoted("a\u{1b}[2Jb\n"), "\"a\\u{1b}[2Jb\\n\"");
        let long = "é".repeat(1000);
        let shown = quoted(&long);
        assert!(shown.ends_with("… (2000 bytes)"), "{shown}");
        assert!(shown.chars().count() < 120);

        assert_eq!(printable("unknown field \"a\nb\""), "unknown field \"a\\nb\"");
        assert_eq!(printable(&"x".repeat(1000)).chars().count(), 201);
    }
}
