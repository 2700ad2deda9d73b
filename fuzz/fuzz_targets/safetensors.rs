//! Any bytes, read as a safetensors file: no panic, and what is read survives
//! writing.
#![no_main]

use convnet_formats::safetensors::{read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = read(bytes) {
        let written = write(&file).expect("what was read can be written");
        let again = read(&written).expect("what was written can be read");
        assert_eq!(write(&again).expect("what was read can be written"), written);
    }
});
