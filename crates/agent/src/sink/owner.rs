//! Owners and groups by name or number, from the local account files.
//!
//! It refuses name services: an agent must be able to write while the network is down.

use std::io;
use std::path::Path;

use certwright_seams::Disk;

/// Octets of an account file that are looked at.
const ACCOUNT_OCTETS_MAX: u64 = 4 * 1024 * 1024;

/// The user id of `name`, which may be a number.
pub(super) fn user(disk: &dyn Disk, name: &str) -> io::Result<u32> {
    lookup(disk, Path::new("/etc/passwd"), "user", name)
}

/// The group id of `name`, which may be a number.
pub(super) fn group(disk: &dyn Disk, name: &str) -> io::Result<u32> {
    lookup(disk, Path::new("/etc/group"), "group", name)
}

fn lookup(disk: &dyn Disk, file: &Path, kind: &str, name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let accounts = disk.read(file, ACCOUNT_OCTETS_MAX)?;
    find(&String::from_utf8_lossy(&accounts), name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no {kind} {name:?} in {}", file.display())))
}

/// Both files are lines of `name:password:number:...` (passwd(5), group(5)).
fn find(accounts: &str, name: &str) -> Option<u32> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_a_whole() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/:\nwww-data:x:34:34::/:\n";
        assert_eq!(find(accounts, "www"), Some(33));
        assert_eq!(find(accounts, "www-data"), Some(34));
        assert_eq!(find(accounts, "ww"), None);
    }
}
