//! Both readers against damaged files: cut anywhere, and changed by thousands
//! of seeded mutations. They must not panic and must not allocate beyond their
//! promise. One test, because the counter of allocations is one for all.

use convnet_formats::idx::{self, Packing};
use convnet_formats::safetensors::{self, TensorData, TensorFile, Values};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MUTATIONS: u64 = 20_000;
const KIBIBYTE: usize = 1 << 10;

/// SplitMix64: a step and a mix.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The file with one to eight bytes changed, put in or taken out; bytes that
/// tend to matter (0, 255, the digits and signs of JSON) come up more often.
fn mutated(file: &[u8], seed: u64) -> Vec<u8> {
    const TELLING: &[u8] = b"\x00\xff\x7f\x80\x01{}[]\",:0123456789-eE.\\";
    let mut random = Random(seed);
    let mut bytes = file.to_vec();
    let rounds = if random.next().is_multiple_of(2) { 1 } else { 2 + random.below(7) };
    for _ in 0..rounds {
        let place = random.below(bytes.len().max(1));
        let byte = match random.below(2) {
            0 => TELLING[random.below(TELLING.len())],
            _ => random.next() as u8,
        };
        match random.below(8) {
            0 => bytes.insert(place.min(bytes.len()), byte),
            1 if bytes.len() > 1 => {
                bytes.remove(place);
            }
            2 => bytes.truncate(place.max(1)),
            _ => {
                if let Some(changed) = bytes.get_mut(place) {
                    *changed = byte;
                }
            }
        }
    }
    bytes
}

/// Runs `read` and returns how many bytes it had allocated at most.
fn peak_of<T>(read: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = read();
    (result, MEMORY.peak_usage().saturating_sub(before))
}

fn example() -> TensorFile {
    let mut file = TensorFile::default();
    file.metadata.insert("network".into(), "input 1x4x4 -> fc 2".into());
    file.tensors.insert("weight".into(), TensorData::f32([2, 16], vec![0.25; 32]));
    file.tensors.insert("bias".into(), TensorData::f32([2], vec![1.0, -1.0]));
    file.tensors.insert("step".into(), TensorData { dims: vec![], values: Values::I64(vec![3]) });
    file
}

#[test]
fn damaged_files_neither_panic_nor_exceed_the_memory() {
    let limit = 4 * KIBIBYTE;
    // The decoder of gzip has a window of 32 KiB and tables beside the values.
    let idx_most = limit + 96 * KIBIBYTE;
    let dims = [3, 8, 8];
    let pixels: Vec<u8> = (0..192).map(|pixel| (pixel * 37 % 251) as u8).collect();
    let mut read = 0_u64;
    for packing in [Packing::Plain, Packing::Gzip] {
        let file = idx::write_idx(&dims, &pixels, packing).unwrap();
        let (whole, _) = peak_of(|| idx::read_idx(&file, limit));
        assert_eq!(whole.unwrap().data, pixels);
        let cut = (0..file.len()).map(|length| file[..length].to_vec());
        let changed = (0..MUTATIONS).map(|seed| mutated(&file, seed));
        for (number, bytes) in cut.chain(changed).enumerate() {
            let (result, peak) = peak_of(|| idx::read_idx(&bytes, limit));
            assert!(peak <= idx_most, "{packing:?} case {number}: {peak} bytes allocated, result {result:?}");
            if let Ok(idx) = result {
                assert_eq!(idx.dims.iter().product::<usize>(), idx.data.len(), "{packing:?} case {number}");
                read += 1;
            }
        }
    }
    assert!(read > 1000, "mutations of pixels stay readable, so many cases reach the end: {read}");

    let file = safetensors::write(&example()).unwrap();
    let cut = (0..file.len()).map(|length| file[..length].to_vec());
    let changed = (0..MUTATIONS).map(|seed| mutated(&file, seed));
    let mut read = 0_u64;
    for (number, bytes) in cut.chain(changed).enumerate() {
        let most = 2 * bytes.len() + 16 * KIBIBYTE;
        let (result, peak) = peak_of(|| safetensors::read(&bytes));
        assert!(peak <= most, "safetensors case {number}: {peak} bytes allocated, result {result:?}");
        if let Ok(tensors) = result {
            let written = safetensors::write(&tensors).unwrap();
            let again = safetensors::read(&written).unwrap();
            // Compared as text, so that NaN equals NaN.
            assert_eq!(format!("{again:?}"), format!("{tensors:?}"), "safetensors case {number}");
            read += 1;
        }
    }
    assert!(read > 1000, "mutations of values stay readable, so many cases reach the end: {read}");
}
