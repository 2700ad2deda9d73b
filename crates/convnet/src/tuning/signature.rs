//! What must be the same for measured times to be worth anything.

use std::fmt;
use std::path::Path;

use convnet_kernels::Machine;
use serde::{Deserialize, Serialize};

/// A computer as far as the speed of one algorithm against another depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The processor's name, where the system tells it.
    pub cpu: Option<String>,
    /// The instruction set in use.
    pub isa: String,
    /// The first processor's caches where the system tells them, as `L1 Data 48K`.
    pub caches: Vec<String>,
    /// Threads in use.
    pub threads: usize,
}

impl Signature {
    /// Of this machine.
    pub fn of(machine: &Machine) -> Self {
        Self { cpu: cpu_name(), isa: machine.isa.name().to_owned(), caches: caches(), threads: machine.threads.count() }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.cpu.as_deref().unwrap_or("unknown processor");
        let caches = if self.caches.is_empty() { "unknown caches".to_owned() } else { self.caches.join(", ") };
        write!(formatter, "{cpu}, {caches}, {} instructions, {} threads", self.isa, self.threads)
    }
}

/// The processor's name, where the system tells it.
fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let (_, name) = text.lines().find_map(|line| line.strip_prefix("model name"))?.split_once(':')?;
    Some(name.trim().to_owned())
}

/// The caches of the first processor, where the system tells them.
fn caches() -> Vec<String> {
    let folder = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let word = |index: usize, name: &str| {
        let text = std::fs::read_to_string(folder.join(format!("index{index}")).join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    let cache = |index: usize| Some(format!("L{} {} {}", word(index, "level")?, word(index, "type")?, word(index, "size")?));
    (0..16).map_while(cache).collect()
}

#[cfg(test)]
mod tests {
    use convnet_kernels::Isa;

    use super::*;

    #[test]
    fn a_signature_tells_machines_apart_by_instructions_and_threads() {
        let of = |isa, threads| Signature::of(&Machine::new(isa, threads));
        assert_eq!(of(Isa::detect(), 2), of(Isa::detect(), 2));
        assert_ne!(of(Isa::detect(), 2), of(Isa::detect(), 1));
        let text = of(Isa::Portable, 3).to_string();
        assert!(text.contains("portable instructions") && text.contains("3 threads"), "{text}");
        assert!(Isa::available().len() == 1 || of(Isa::Portable, 1) != of(Isa::detect(), 1));
    }
}
