//! Recognises files of other formats by their first bytes, so that a message
//! can say what the file is and not only what it is not.

/// First bytes of the formats that are most often mistaken for another.
const SIGNATURES: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"RIFF", "a RIFF file (WebP, WAV or AVI)"),
    (b"PK\x03\x04", "a ZIP archive (as .zip, .npz and PyTorch's .pt are)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"BZh", "a bzip2 file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (as Keras's .h5 is)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF file"),
    (b"\x80\x02", "a Python pickle (as PyTorch's older .pt is)"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x7fELF", "a program (ELF)"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file it stands for"),
    (b"<!DOCTYPE", "an HTML page (an error page of a download?)"),
    (b"<!doctype", "an HTML page (an error page of a download?)"),
    (b"<html", "an HTML page (an error page of a download?)"),
    (b"<?xml", "an XML document"),
];

/// The name of the format that `content` begins like, if it is a known one.
pub(crate) fn recognise(content: &[u8]) -> Option<&'static str> {
    if content.is_empty() {
        return Some("an empty file");
    }
    if let Some((_, name)) = SIGNATURES.iter().find(|(signature, _)| content.starts_with(signature)) {
        return Some(name);
    }
    if content.get(257..262) == Some(b"ustar") {
        return Some("a tar archive");
    }
    if let [0, 0, 0x08 | 0x09 | 0x0b..=0x0e, 1..=8, ..] = content {
        return Some("an IDX file");
    }
    if content.get(8) == Some(&b'{') {
        return Some("a safetensors file");
    }
    None
}

/// What `content` is in words, judged by its first bytes: the name of its format if it is a known one (`a PNG image`), or
/// the bytes themselves.
pub fn describe(content: &[u8]) -> String {
    if let Some(name) = recognise(content) {
        return name.to_owned();
    }
    let shown = &content[..content.len().min(8)];
    if shown.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return format!("a text that begins with {:?}", String::from_utf8_lossy(shown));
    }
    let bytes: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("a file that begins with the bytes {}", bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_recognised_under_its_own_name() {
        for (signature, name) in SIGNATURES {
            let mut content = signature.to_vec();
            content.extend([7; 300]);
            assert_eq!(recognise(&content), Some(*name));
        }
    }

    #[test]
    fn what_is_unknown_is_described_by_its_first_bytes() {
        assert_eq!(describe(b""), "an empty file");
        assert_eq!(describe(b"hello world"), "a text that begins with \"hello wo\"");
        assert_eq!(describe(&[1, 2, 0xff]), "a file that begins with the bytes 01 02 ff");
    }
}
