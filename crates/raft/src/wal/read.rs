//! Reads the entries that a log's files hold, offline: each index once, as the log says it in the end.
//!
//! It refuses to write, to lock, and to skip: where frames are not sound it ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use certwright_seams::disk::Disk;

use super::error::WalError;
use super::frame::{Frame, Read};
use super::segment;
use super::{Identity, Record};

/// Entries by index.
pub(crate) type Entries = BTreeMap<u64, Record>;

/// Whose log it is; `None` when there is no segment.
pub(crate) fn identity(disk: &dyn Disk, directory: &Path) -> Result<Option<Identity>, WalError> {
    let names = disk.list(directory).map_err(WalError::io("list", directory))?;
    let first = names.iter().find_map(|name| Some((directory.join(name), segment::parse_name(name)?)));
    let header = first.map(|(path, sequence)| segment::read_header(disk, path, sequence, None)).transpose()?;
    Ok(header.map(|segment| segment.header.identity))
}

/// Whose log it is and its entries, superseded ones left out; `None` when there is no segment. All of it comes into
/// memory, unlike what [`verify`](super::verify) reads.
pub(crate) fn entries(disk: &dyn Disk, directory: &Path) -> Result<Option<(Identity, Entries)>, WalError> {
    let segments = segment::list(disk, directory, None)?;
    let Some(identity) = segments.first().map(|first| first.header.identity) else { return Ok(None) };
    let mut entries = BTreeMap::new();
    for segment in &segments {
        segment::check_identity(&segment.path, segment.header.identity, identity)?;
        let octets = segment.load(disk)?;
        let walked = segment.walk(&octets, |_, Read { frame, .. }| {
            match frame {
                Frame::Entry(record) => drop(entries.insert(record.index, record)),
                Frame::Truncate(point) => drop(entries.split_off(&point.next_index)),
                _ => {}
            }
            Ok::<_, Infallible>(())
        });
        let Ok(_) = walked;
    }
    Ok(Some((identity, entries)))
}
