//! What goes to stdout: text for people, or one JSON document and nothing else.

use std::io::{self, IsTerminal, Write};

use convnet::{Error, Result};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Prints a line for people.
    pub fn line(&self, text: impl AsRef<str>) -> Result<()> {
        if self.json || self.quiet { Ok(()) } else { print(text.as_ref()) }
    }

    /// Prints a line for people even when asked to be quiet: the result itself.
    pub fn result(&self, text: impl AsRef<str>) -> Result<()> {
        if self.json { Ok(()) } else { print(text.as_ref()) }
    }

    /// Prints the JSON document, if it is asked for.
    pub fn json(&self, document: &impl serde::Serialize) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| Error::Failed(format!("the result cannot be written as JSON: {error}")))?;
        print(&text)
    }

    /// Tells the user something beside the result, on stderr.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            eprintln!("{}", text.as_ref());
        }
    }

    /// Whether a moving progress bar can be shown.
    pub fn is_live(&self) -> bool {
        !self.json && !self.quiet && io::stderr().is_terminal()
    }
}

/// Writes a line to stdout. A reader that has gone away, as `head` does, is no error.
fn print(text: &str) -> Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("stdout", "cannot write")(error)),
        _ => Ok(()),
    }
}

/// Seconds as `1 h 02 min`, `3 min 20 s` or `12.3 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        3600.. => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        60.. => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_suits_them() {
        assert_eq!(duration(12.34), "12.3 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(3720.0), "1 h 02 min");
    }
}
