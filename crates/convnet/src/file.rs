//! Files written whole or not at all, and read with a limit.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use convnet_kernels::memory::zeros;

use crate::error::{Error, Result};

/// Writes a file so that a reader, or a power cut, finds either the old contents or the new: into a new file beside it,
/// flushed to the disk, then renamed. Nothing is left behind on an error.
///
/// # Errors
/// The folder cannot be written to, or the disk is full.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = temporary_beside(path, folder)?;
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // The error that is told is that of the writing, not that of the tidying up.
        let _ = fs::remove_file(&temporary);
        let hint = match source.kind() {
            std::io::ErrorKind::StorageFull => format!("cannot write {} bytes, the disk is full", bytes.len()),
            _ => "cannot write".to_owned(),
        };
        return Err(Error::io(path, hint)(source));
    }
    // The rename itself is only durable once the folder is; not every file system can flush a folder.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn temporary_beside(path: &Path, folder: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::Argument(format!("'{}' is not the name of a file", path.display())));
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(folder.join(temporary))
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A leftover of a process that died under the same number is in nobody's use.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens a regular file of at most `limit` bytes, and says how many it has.
///
/// # Errors
/// The file cannot be read, is not a regular file, or is longer.
pub fn open(path: &Path, limit: u64) -> Result<(File, u64)> {
    // Looked at before it is opened: opening a pipe would wait for somebody to write.
    if !fs::metadata(path).map_err(Error::io(path, "cannot read"))?.is_file() {
        return Err(Error::format(path, "this is not a regular file"));
    }
    let file = File::open(path).map_err(Error::io(path, "cannot read"))?;
    let metadata = file.metadata().map_err(Error::io(path, "cannot read"))?;
    if metadata.len() > limit {
        return Err(Error::format(path, format!("the file has {} bytes, more than the {limit} that are accepted here", metadata.len())));
    }
    Ok((file, metadata.len()))
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`], or its bytes do not fit into memory.
pub fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, bytes_of_file) = open(path, limit)?;
    // A byte more, so that the end is found without growing.
    let length = usize::try_from(bytes_of_file).unwrap_or(usize::MAX).saturating_add(1);
    let mut bytes = zeros(length).map_err(|_| Error::format(path, format!("its {bytes_of_file} bytes do not fit into memory")))?;
    bytes.clear();
    // The file may grow between the look and the reading.
    file.take(limit).read_to_end(&mut bytes).map_err(Error::io(path, "cannot read"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        write_whole(&path, b"old").unwrap();
        write_whole(&path, b"new and longer").unwrap();
        assert_eq!(read_whole(&path, 100).unwrap(), b"new and longer");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"kept").unwrap();
        assert!(write_whole(&path, b"new").is_err());
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_too_long_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        fs::write(&path, [0; 10]).unwrap();
        assert!(read_whole(&path, 9).unwrap_err().to_string().contains("10 bytes"));
        assert!(read_whole(folder.path(), 9).unwrap_err().to_string().contains("regular file"));
        assert!(read_whole(&folder.path().join("none"), 9).unwrap_err().to_string().contains("cannot read"));
    }
}
