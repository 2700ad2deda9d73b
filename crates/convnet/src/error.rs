//! What can go wrong, by whose fault.

use std::path::{Path, PathBuf};

use convnet_kernels::memory::NoMemory;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Few kinds, told apart by whose fault it is. Each message names the layer, file or argument, what was found, what was
/// needed and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The wiring or the sizes of a network do not fit together.
    #[error("{0}")]
    Shape(String),
    /// The text form of a network has a mistake at a known place.
    #[error("{0}")]
    Text(#[from] TextError),
    /// A file is damaged or is not what it should be.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found, what was needed, what to do.
        reason: String,
    },
    /// The request is valid, but this program cannot do it; the message says what it can.
    #[error("{0}")]
    Unsupported(String),
    /// An argument of a call or of the command line cannot be used.
    #[error("{0}")]
    Argument(String),
    /// The work was begun as asked and did not succeed, such as a training whose loss became infinite.
    #[error("{0}")]
    Failed(String),
    /// The operating system refused.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as in `cannot write the checkpoint`.
        action: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// A damaged or foreign file.
    pub fn format(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Format { path: path.into(), reason: reason.to_string() }
    }

    /// A refusal of the operating system, ready for `map_err`.
    pub fn io(path: impl AsRef<Path>, action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let (path, action) = (path.as_ref().to_owned(), action.into());
        move |source| Self::Io { path, action, source }
    }
}

impl From<NoMemory> for Error {
    fn from(none: NoMemory) -> Self {
        Self::Argument(format!("{none}; use a smaller batch or a smaller network"))
    }
}

/// A mistake in the text form of a network, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct TextError {
    /// What is wrong and what would be right.
    pub message: String,
    /// The whole text, for pointing into it.
    pub source_text: String,
    /// First byte of the wrong part.
    pub offset: usize,
    /// Bytes in the wrong part.
    pub length: usize,
    /// Line of the wrong part, from 1.
    pub line: usize,
    /// Column of the wrong part in characters, from 1.
    pub column: usize,
}

impl TextError {
    /// The mistake at `offset..offset + length` of `text`.
    pub fn new(text: &str, offset: usize, length: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&letter| letter != '\n').count() + 1;
        Self { message: message.into(), source_text: text.to_owned(), offset, length, line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_error_counts_lines_and_columns_from_one() {
        let error = TextError::new("input 1x2x3\nconw 3", 12, 4, "unknown layer 'conw'");
        assert_eq!(error.to_string(), "line 2, column 1: unknown layer 'conw'");
        assert_eq!(TextError::new("é x", 3, 1, "").column, 3);
    }
}
