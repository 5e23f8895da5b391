//! A file system in memory with two faces: what programs see, and what would be left if the power went now.
//!
//! It refuses to keep anything that nobody synced: octets of a file reach the second face with a sync of that file, names
//! with a sync of their directory, in the order in which they were changed. Owners, modes and times are kept at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use certwright_seams::Entropy;

mod content;
mod mount;
mod power;
#[cfg(test)]
mod tests;

use content::{Change, Content};
pub use mount::Mounted;
pub use power::Power;

/// The number of the topmost directory.
const ROOT: u64 = 1;

/// Names of a directory, with the numbers of what they name.
type Names = BTreeMap<OsString, u64>;

#[derive(Clone)]
enum Kind {
    File { seen: Content, kept: Content, pending: Vec<Change> },
    Directory { seen: Names, kept: Names },
    Link(PathBuf),
}

#[derive(Clone)]
struct Node {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    modified: SystemTime,
}

/// Names that change together: a directory, a name in it, and what it names from now on.
type Edits = Vec<(u64, OsString, Option<u64>)>;

/// Why something is not done, as the kernel numbers it.
type Done<T> = Result<T, fuser::Errno>;

/// Everything on the disk.
struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Changes of names that are not kept yet, oldest first.
    pending: Vec<Edits>,
}

/// A disk. It outlives the processes that use it, and what they mount.
pub struct Volume {
    tree: Mutex<Tree>,
    power: Power,
}

/// What a power cut found.
#[derive(Clone, Copy, Default, Debug)]
pub struct Found {
    /// Files with changes that were not synced.
    pub files: usize,
    /// Changes of names that were not synced.
    pub names: usize,
    /// Pieces of these that are lost.
    pub lost: usize,
}

/// What becomes of changes that were not synced.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    /// The first ones are kept, the last of these torn.
    Beginning,
    /// Any of them are kept, sector by sector; of one sector the first ones.
    Any,
}

impl Fate {
    fn drawn(draw: &dyn Entropy) -> Self {
        [Self::Lost, Self::Kept, Self::Beginning, Self::Any][(draw.next_u64() % 4) as usize]
    }
}

impl Volume {
    /// An empty one with that power.
    pub fn new(power: Power) -> Self {
        let kind = Kind::Directory { seen: Names::new(), kept: Names::new() };
        let root = Node { kind, mode: 0o755, owner: (0, 0), modified: SystemTime::now() };
        let tree = Tree { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, pending: Vec::new() };
        Self { tree: Mutex::new(tree), power }
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tree for something that only looks.
    fn looking(&self) -> Done<MutexGuard<'_, Tree>> {
        let tree = self.lock();
        if self.power.is_on() { Ok(tree) } else { Err(fuser::Errno::EIO) }
    }

    /// The tree for one operation of the disk.
    fn working(&self) -> Done<MutexGuard<'_, Tree>> {
        let tree = self.lock();
        if self.power.spend() { Ok(tree) } else { Err(fuser::Errno::EIO) }
    }

    /// After the power went and everything that used it is gone: from now on what is left is what is seen.
    pub fn lose(&self, draw: &dyn Entropy) -> Found {
        let mut tree = self.lock();
        // Now and then the same happens to everything, as with a disk that had no time at all or all the time it needed.
        let fate = match draw.next_u64() % 4 {
            0 => Some(Fate::Lost),
            1 => Some(Fate::drawn(draw)),
            _ => None,
        };
        let fate = || fate.unwrap_or_else(|| Fate::drawn(draw));
        let mut found = tree.lose_names(fate(), draw);
        for node in tree.nodes.values_mut() {
            if let Kind::File { seen, kept, pending } = &mut node.kind {
                found.files += usize::from(!pending.is_empty());
                found.lost += lose_changes(kept, std::mem::take(pending), fate(), draw);
                *seen = kept.clone();
            }
        }
        found
    }

    /// Whether files below a directory would hold these octets if the power went now.
    pub fn keeps(&self, directory: &Path, octets: &[u8]) -> bool {
        let tree = self.lock();
        let mut at = ROOT;
        for part in directory {
            let Some(Kind::Directory { kept, .. }) = tree.nodes.get(&at).map(|it| &it.kind) else { return false };
            let Some(next) = kept.get(part) else { return false };
            at = *next;
        }
        let Some(Kind::Directory { kept, .. }) = tree.nodes.get(&at).map(|it| &it.kind) else { return false };
        // The newest first: that is where it usually is.
        kept.values().rev().any(|file| match tree.nodes.get(file).map(|it| &it.kind) {
            Some(Kind::File { kept, .. }) => kept.contains(octets),
            _ => false,
        })
    }
}

impl Tree {
    fn node(&self, number: u64) -> Done<&Node> {
        self.nodes.get(&number).ok_or(fuser::Errno::ENOENT)
    }

    fn node_mut(&mut self, number: u64) -> Done<&mut Node> {
        self.nodes.get_mut(&number).ok_or(fuser::Errno::ENOENT)
    }

    fn names(&self, directory: u64) -> Done<&Names> {
        match &self.node(directory)?.kind {
            Kind::Directory { seen, .. } => Ok(seen),
            _ => Err(fuser::Errno::ENOTDIR),
        }
    }

    fn named(&self, directory: u64, name: &OsStr) -> Done<u64> {
        self.names(directory)?.get(name).copied().ok_or(fuser::Errno::ENOENT)
    }

    fn add(&mut self, directory: u64, name: &OsStr, node: Node) -> Done<u64> {
        if self.named(directory, name).is_ok() {
            return Err(fuser::Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.edit(vec![(directory, name.to_owned(), Some(number))])?;
        Ok(number)
    }

    /// Changes names as they are seen.
    fn edit(&mut self, edits: Edits) -> Done<()> {
        for (directory, name, number) in &edits {
            let node = self.node_mut(*directory)?;
            let Kind::Directory { seen, .. } = &mut node.kind else { return Err(fuser::Errno::ENOTDIR) };
            set(seen, name, *number);
        }
        self.pending.push(edits);
        Ok(())
    }

    fn change(&mut self, file: u64, change: Change) -> Done<()> {
        let node = self.node_mut(file)?;
        node.modified = SystemTime::now();
        let Kind::File { seen, pending, .. } = &mut node.kind else { return Err(fuser::Errno::EISDIR) };
        change.apply(seen);
        pending.push(change);
        Ok(())
    }

    fn sync_file(&mut self, file: u64) -> Done<()> {
        if let Kind::File { kept, pending, .. } = &mut self.node_mut(file)?.kind {
            pending.drain(..).for_each(|change| change.apply(kept));
        }
        Ok(())
    }

    /// Keeps the names of a directory, and of those between which and it something was renamed.
    fn sync_directory(&mut self, directory: u64) {
        let mut together = BTreeSet::from([directory]);
        loop {
            let before = together.len();
            for edits in &self.pending {
                if edits.iter().any(|(it, ..)| together.contains(it)) {
                    together.extend(edits.iter().map(|(it, ..)| *it));
                }
            }
            if together.len() == before {
                break;
            }
        }
        let is_meant = |edits: &Edits| edits.iter().any(|(it, ..)| together.contains(it));
        let (now, later) = std::mem::take(&mut self.pending).into_iter().partition(is_meant);
        self.pending = later;
        let now: Vec<Edits> = now;
        now.iter().for_each(|edits| self.keep(edits));
    }

    fn keep(&mut self, edits: &Edits) {
        for (directory, name, number) in edits {
            if let Some(Kind::Directory { kept, .. }) = self.nodes.get_mut(directory).map(|it| &mut it.kind) {
                set(kept, name, *number);
            }
        }
    }

    /// Of every directory's changes the first ones are left, none or all; what no name leads to is gone.
    fn lose_names(&mut self, fate: Fate, draw: &dyn Entropy) -> Found {
        let pending = std::mem::take(&mut self.pending);
        let mut found = Found { names: pending.len(), ..Found::default() };
        let mut ended = BTreeSet::new();
        for edits in pending {
            let ends = match fate {
                Fate::Lost => true,
                Fate::Kept => false,
                Fate::Beginning | Fate::Any => draw.next_u64().is_multiple_of(3),
            };
            if ends || edits.iter().any(|(directory, ..)| ended.contains(directory)) {
                found.lost += 1;
                ended.extend(edits.into_iter().map(|(directory, ..)| directory));
            } else {
                self.keep(&edits);
            }
        }
        let (mut reached, mut open) = (BTreeSet::new(), vec![ROOT]);
        while let Some(number) = open.pop() {
            reached.insert(number);
            if let Some(Kind::Directory { seen, kept }) = self.nodes.get_mut(&number).map(|it| &mut it.kind) {
                seen.clone_from(kept);
                open.extend(kept.values());
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
        found
    }
}

/// Brings what is left of a file's changes to the disk; answers how many pieces are lost.
fn lose_changes(kept: &mut Content, pending: Vec<Change>, fate: Fate, draw: &dyn Entropy) -> usize {
    let pieces: Vec<Change> = pending.iter().flat_map(Change::sectors).collect();
    let first = draw.next_u64() as usize % (pieces.len() + 1);
    // A sector reaches the disk with all that was written to it before; nothing that came after a change of size does
    // without that change.
    let (mut ended, mut is_over, mut lost) = (BTreeSet::new(), false, 0);
    for (place, piece) in pieces.iter().enumerate() {
        let sector = piece.sector();
        let is_left = match fate {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Beginning => place < first,
            Fate::Any => !is_over && !ended.contains(&sector) && draw.next_u64().is_multiple_of(2),
        };
        if is_left {
            piece.apply(kept);
        } else {
            lost += 1;
            is_over |= sector.is_none();
            ended.insert(sector);
        }
    }
    lost
}

fn set(names: &mut Names, name: &OsStr, number: Option<u64>) {
    match number {
        Some(number) => names.insert(name.to_owned(), number),
        None => names.remove(name),
    };
}
