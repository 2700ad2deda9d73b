//! Measured times that stay from one call of the program to the next.

use std::path::{Path, PathBuf};

use convnet_kernels::Machine;
use convnet_kernels::conv::tuning::Tuning;

use super::file::{read, write};
use super::signature::Signature;
use crate::error::{Error, Result};

/// The environment variable that names the folder of the cache.
pub const FOLDER_VARIABLE: &str = "CONVNET_CACHE";

/// The measured times of one machine: one file for each instruction set and number of threads. It is looked through before it
/// is trusted: a file that is damaged, or was measured by another version or on another machine, counts as empty.
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
    machine: Signature,
    tuning: Tuning,
    ignored: Option<String>,
}

impl Cache {
    /// The folder for what stays: `$CONVNET_CACHE`, or `convnet` in `$XDG_CACHE_HOME`, or `~/.cache/convnet`.
    ///
    /// # Errors
    /// The environment names none of them.
    pub fn folder() -> Result<PathBuf> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let shared = || Some(variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?.join("convnet"));
        variable(FOLDER_VARIABLE).or_else(shared).ok_or_else(|| {
            Error::Argument(format!("there is no folder to keep measured times in; name one in the environment variable {FOLDER_VARIABLE}"))
        })
    }

    /// What is known of this machine in this folder, which need not exist.
    pub fn open(folder: &Path, machine: &Machine) -> Self {
        let machine = Signature::of(machine);
        let path = folder.join(format!("tuning-{}-{}.json", machine.isa, machine.threads));
        let (tuning, ignored) = match path.exists() {
            false => (Tuning::default(), None),
            true => match trusted(&path, &machine) {
                Ok(tuning) => (tuning, None),
                Err(reason) => (Tuning::default(), Some(reason)),
            },
        };
        Self { path, machine, tuning, ignored }
    }

    /// The file, which need not exist.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the file that is there is not used.
    pub fn ignored(&self) -> Option<&str> {
        self.ignored.as_deref()
    }

    /// What is known.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Adds to what is known and writes it, with what another process may have written in the meantime. A file that was
    /// ignored is replaced.
    ///
    /// # Errors
    /// The file cannot be written. What is known here is added to all the same.
    pub fn add(&mut self, tuning: &Tuning) -> Result<()> {
        let mut whole = trusted(&self.path, &self.machine).unwrap_or_default();
        whole.merge(&self.tuning);
        whole.merge(tuning);
        self.tuning = whole;
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder, "cannot make the folder for measured times"))?;
        }
        write(&self.path, &self.machine, &self.tuning)
    }
}

/// The tuning of a file that this version measured on this machine, or why it is not that.
fn trusted(path: &Path, machine: &Signature) -> Result<Tuning, String> {
    let ignored = |reason: String| format!("measured times are not used: {reason}");
    let kept = read(path).map_err(|error| ignored(error.to_string()))?;
    let (version, place) = (env!("CARGO_PKG_VERSION"), path.display());
    if kept.convnet != version {
        return Err(ignored(format!("{place} was measured by convnet {}, this is {version}", kept.convnet.escape_debug())));
    }
    if kept.machine != *machine {
        return Err(ignored(format!(
            "{place} was measured on another machine ({}), this is {machine}",
            kept.machine.to_string().escape_debug()
        )));
    }
    Ok(kept.tuning)
}

#[cfg(test)]
mod tests {
    use convnet_kernels::Isa;
    use convnet_kernels::conv::Pass;
    use convnet_kernels::conv::tuning::Question;

    use super::*;

    fn machine() -> Machine {
        Machine::new(Isa::Portable, 2)
    }

    fn tuning(problem: &str, algorithm: &str, seconds: f64) -> Tuning {
        let mut tuning = Tuning::default();
        tuning.insert(Question::new(&problem.parse().unwrap(), Pass::Forward, 1), algorithm, seconds);
        tuning
    }

    fn first() -> Tuning {
        tuning("conv n1 c64 28x28 -> 64 w3 s1 p1", "direct", 2.0)
    }

    #[test]
    fn what_is_added_is_known_the_next_time_and_by_others_too() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new").join("folder");
        let (mut one, mut other) = (Cache::open(&place, &machine()), Cache::open(&place, &machine()));
        assert!(one.tuning().is_empty() && one.ignored().is_none());
        one.add(&first()).unwrap();
        other.add(&tuning("conv n1 c64 28x28 -> 64 w3 s1 p1", "winograd 4x4", 1.0)).unwrap();
        other.add(&tuning("conv n2 c64 28x28 -> 64 w3 s1 p1", "direct", 1.0)).unwrap();
        let again = Cache::open(&place, &machine());
        assert!(again.ignored().is_none(), "{again:?}");
        assert_eq!(again.tuning(), other.tuning());
        assert_eq!(again.tuning().iter().map(|(_, times)| times.len()).sum::<usize>(), 3);
    }

    #[test]
    fn a_file_of_another_version_or_machine_or_no_file_at_all_is_ignored_with_the_reason_and_then_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(folder.path(), &machine());
        cache.add(&first()).unwrap();
        let text = std::fs::read_to_string(cache.path()).unwrap();
        let version = format!("\"convnet\": \"{}\"", env!("CARGO_PKG_VERSION"));
        for (old, new, word) in [
            (version.as_str(), "\"convnet\": \"0.0.7\"", "by convnet 0.0.7"),
            ("\"threads\": 2", "\"threads\": 1", "1 threads), this is"),
            ("\"caches\": [", "\"caches\": [\"L9 Unified 1K\",", "L9 Unified 1K"),
            ("\"isa\": \"portable\"", "\"isa\": \"mmx\"", "mmx instructions"),
            ("\"cpu\": ", "\"cpu\": \"Zuse\", \"x\": ", "unknown field"),
            ("{", "", "damaged"),
            ("convnet tuning 1", "convnet model 1", "convnet model 1"),
        ] {
            assert!(text.contains(old), "{old} is not in {text}");
            let changed = text.replacen(old, new, 1).replace("\"L9 Unified 1K\",\n    ]", "\"L9 Unified 1K\"]").replace(",]", "]");
            std::fs::write(cache.path(), changed).unwrap();
            let ignoring = Cache::open(folder.path(), &machine());
            assert!(ignoring.tuning().is_empty());
            assert!(ignoring.ignored().is_some_and(|reason| reason.contains(word)), "{new}: {:?}", ignoring.ignored());
        }
        Cache::open(folder.path(), &machine()).add(&first()).unwrap();
        assert_eq!(Cache::open(folder.path(), &machine()).tuning(), &first());
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_an_error_that_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut cache = Cache::open(&file.join("cache"), &machine());
        assert!(cache.add(&first()).is_err());
        assert_eq!(cache.tuning(), &first());
    }
}
