//! The few small files of custody, through the disk seam.
//!
//! It refuses files that are larger than a key.

use std::path::Path;

use certwright_seams::Disk;
use zeroize::Zeroizing;

use crate::CustodyError;

/// More than any of the files holds.
const OCTETS_MAX: u64 = 4096;

fn failed(path: &Path, source: std::io::Error) -> CustodyError {
    CustodyError::Disk { path: path.display().to_string(), source }
}

/// The file, or `None` when there is none.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CustodyError> {
    if !disk.exists(path).map_err(|error| failed(path, error))? {
        return Ok(None);
    }
    disk.read(path, OCTETS_MAX).map(|octets| Some(Zeroizing::new(octets))).map_err(|error| failed(path, error))
}

/// Writes the file as a whole, readable by its owner alone.
pub(crate) fn write(disk: &dyn Disk, path: &Path, data: &[u8]) -> Result<(), CustodyError> {
    disk.write_atomic(path, data, 0o600).map_err(|error| failed(path, error))
}
