//! Errors on the screen, and exit codes: 0 done, 1 the work failed or a check did not hold, 2 wrong usage or unreadable
//! input.

use std::io::ErrorKind;
use std::process::ExitCode;

use convnet::Error;
use miette::{Diagnostic, GraphicalReportHandler, NamedSource, SourceSpan};

/// The work failed, or a check did not hold.
pub const FAILED: u8 = 1;
/// Wrong usage or unreadable input.
pub const USAGE: u8 = 2;
/// Stopped by the user, as shells count it.
pub const INTERRUPTED: u8 = 130;

/// A mistake in a network's text, with the text.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
struct TextDiagnostic {
    message: String,
    #[source_code]
    text: NamedSource<String>,
    #[label("here")]
    place: SourceSpan,
}

/// Prints the error and gives the exit code that belongs to it.
pub fn report(error: Error) -> ExitCode {
    match &error {
        Error::Text(text) => {
            let place = SourceSpan::new(text.offset.into(), text.length);
            let message = format!("line {}, column {}: {}", text.line, text.column, text.message);
            let diagnostic = TextDiagnostic { message, text: NamedSource::new("network", text.source_text.clone()), place };
            let mut page = String::new();
            if GraphicalReportHandler::new().render_report(&mut page, &diagnostic).is_ok() {
                eprint!("{page}");
            } else {
                eprintln!("error: {error}");
            }
        }
        _ => eprintln!("error: {error}"),
    }
    ExitCode::from(code(&error))
}

fn code(error: &Error) -> u8 {
    match error {
        Error::Failed(_) => FAILED,
        // What cannot be read is the caller's choice of file; what cannot be written is work that failed.
        Error::Io { source, action, .. } if source.kind() == ErrorKind::StorageFull || writes(action) => FAILED,
        _ => USAGE,
    }
}

/// Whether an action, told as the library tells it, changes something on the disk.
fn writes(action: &str) -> bool {
    ["cannot write", "cannot make", "cannot remove"].iter().any(|beginning| action.starts_with(beginning))
}
