//! Any bytes, read as an IDX file: no panic, no more memory than the limit, and
//! what is read is as long as its dimensions say and survives writing.
#![no_main]

use convnet_formats::idx::{Packing, read_idx, write_idx};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(idx) = read_idx(bytes, LIMIT) {
        assert!(idx.data.len() <= LIMIT);
        let written = write_idx(&idx.dims, &idx.data, Packing::Plain).expect("what was read can be written");
        assert_eq!(read_idx(&written, LIMIT), Ok(idx));
    }
});
