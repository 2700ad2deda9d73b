//! A number by which a training knows its images again.

use crate::data::Dataset;

/// A number over every pixel, label and class name, by which a resumed training knows its data again.
pub fn fingerprint(data: &Dataset) -> String {
    // FNV-1a over words of eight bytes: fast, and it need not withstand an enemy.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut take = |bytes: &[u8]| {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            hash = (hash ^ u64::from_le_bytes(padded)).wrapping_mul(0x0000_0100_0000_01b3);
            hash ^= hash >> 29;
        }
    };
    for split in [&data.train, &data.test] {
        take(&(split.len() as u64).to_le_bytes());
        take(split.pixels());
        split.labels().iter().for_each(|label| take(&(*label as u64).to_le_bytes()));
    }
    data.classes.iter().for_each(|class| take(class.as_bytes()));
    format!("{hash:016x}")
}
