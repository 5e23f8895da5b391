//! A disk in memory that loses what was not synced when the power goes, and fails as told.
//!
//! It refuses permissions: modes and owners are kept, not enforced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::disk::{Disk, File, Open, Stat};

mod body;
#[cfg(test)]
mod tests;
mod tree;

use body::{Body, DirBody, FileBody};
use tree::{Node, Tree, error, in_dir, in_file};

/// What a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Opening a file.
    Open,
    /// Reading from a file.
    Read,
    /// Writing, growing, cutting or preallocating a file.
    Write,
    /// Syncing a file: what was pending will never reach the disk.
    Sync,
    /// Syncing a directory.
    SyncDir,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
}

/// A failure to come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What fails.
    pub operation: Operation,
    /// Only where the path contains this; empty is everywhere.
    pub path_contains: String,
    /// How many such operations succeed first.
    pub after: u64,
    /// How many fail then.
    pub times: u64,
    /// How they fail.
    pub kind: io::ErrorKind,
}

struct State {
    tree: Tree,
    rng: StdRng,
    faults: Vec<Fault>,
    capacity_octets: Option<u64>,
    /// Grows with every kill and power cut; handles and views of earlier ones are dead.
    boot: u64,
    locks: std::collections::BTreeSet<u64>,
    syncs: u64,
    /// Operations until the running process dies.
    kill_after: Option<u64>,
}

/// A simulated disk. Clones share it. The value itself outlives power cuts; what a process gets is [`boot`](Self::boot).
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// `None` for the value that outlives power cuts.
    boot: Option<u64>,
}

impl SimDisk {
    /// An empty disk; the seed decides what a power cut leaves of unsynced data.
    pub fn new(seed: u64) -> Self {
        let state = State {
            tree: Tree::new(),
            rng: StdRng::seed_from_u64(seed),
            faults: Vec::new(),
            capacity_octets: None,
            boot: 0,
            locks: Default::default(),
            syncs: 0,
            kill_after: None,
        };
        Self { state: Arc::new(Mutex::new(state)), boot: None }
    }

    /// The disk as a process sees it until the next kill or power cut, after which every call fails.
    pub fn boot(&self) -> Self {
        Self { state: Arc::clone(&self.state), boot: Some(self.lock().boot) }
    }

    /// The process dies: handles and locks are gone, what was written stays.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// The process dies after that many further operations of views made by [`boot`](Self::boot).
    pub fn kill_after(&self, operations: u64) {
        self.lock().kill_after = Some(operations);
    }

    /// The power goes: as [`kill`](Self::kill), and of what was not synced anything between nothing and all remains:
    /// file data since the last `sync_data`, names since the last `sync_dir`, torn at any octet or sector.
    pub fn crash(&self) {
        self.kill();
        let mut state = self.lock();
        let State { tree, rng, .. } = &mut *state;
        tree.crash(rng);
    }

    /// An independent copy with everything pending, another seed, and no faults.
    pub fn fork(&self, seed: u64) -> Self {
        let disk = Self::new(seed);
        let state = self.lock();
        let mut other = disk.lock();
        other.tree = state.tree.fork();
        other.capacity_octets = state.capacity_octets;
        drop(other);
        disk
    }

    /// Adds a failure to come.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Forgets all failures to come.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// The octets that all files together may have; growth beyond fails with `StorageFull`.
    pub fn set_capacity(&self, octets: Option<u64>) {
        self.lock().capacity_octets = octets;
    }

    /// Octets that all files have.
    pub fn used(&self) -> u64 {
        self.lock().tree.used()
    }

    /// Flips bits of one octet for good, as failing media do.
    pub fn flip(&self, path: &Path, offset: u64, bits: u8) -> io::Result<()> {
        let node = self.lock().tree.find(path, true)?;
        in_file(&node, |file| file.flip(offset as usize, bits))
    }

    /// Shows every file below a directory as a power cut now would leave it at the least.
    pub fn durable(&self, under: &Path, mut show: impl FnMut(&[u8])) -> io::Result<()> {
        self.lock().tree.durable(under, &mut show)
    }

    /// Files synced so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    fn is_dead(&self) -> bool {
        self.boot.is_some_and(|boot| boot != self.lock().boot)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if the caller's process still lives and no fault strikes.
    fn enter(&self, operation: Option<Operation>, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if self.boot.is_some() && state.kill_after.is_some() {
            state.kill_after = state.kill_after.and_then(|operations| operations.checked_sub(1));
            if state.kill_after.is_none() {
                state.kill();
            }
        }
        if self.boot.is_some_and(|boot| boot != state.boot) {
            return Err(error(io::ErrorKind::BrokenPipe, "this process was killed"));
        }
        match operation.map_or(Ok(()), |operation| state.strike(operation, path)) {
            Ok(()) => Ok(state),
            Err(error) => Err(error),
        }
    }
}

impl State {
    fn kill(&mut self) {
        self.boot += 1;
        self.locks.clear();
        self.kill_after = None;
    }

    fn strike(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        let text = path.to_string_lossy();
        let matching = |fault: &&mut Fault| fault.operation == operation && text.contains(&fault.path_contains);
        for fault in self.faults.iter_mut().filter(matching) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(error(fault.kind, "injected fault"));
            }
        }
        Ok(())
    }

    /// Room for a file to grow from one size to another.
    fn reserve(&self, from: usize, to: usize) -> io::Result<()> {
        let growth = to.saturating_sub(from) as u64;
        match self.capacity_octets {
            Some(capacity) if growth > 0 && self.tree.used() + growth > capacity => {
                Err(error(io::ErrorKind::StorageFull, "the simulated disk is full"))
            }
            _ => Ok(()),
        }
    }
}

struct SimFile {
    disk: SimDisk,
    node: Arc<Node>,
    path: PathBuf,
    writable: bool,
    locked: Mutex<bool>,
}

impl SimFile {
    /// Grows or cuts, or writes within the size that results.
    fn change(&self, len: impl FnOnce(usize) -> usize, change: impl FnOnce(&mut FileBody, usize)) -> io::Result<()> {
        let state = self.disk.enter(Some(Operation::Write), &self.path)?;
        if !self.writable {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let before = in_file(&self.node, |file| file.data.len())?;
        let after = len(before);
        state.reserve(before, after)?;
        in_file(&self.node, |file| change(file, after))
    }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = offset as usize;
        self.change(|len| len.max(offset + data.len()), |file, _| file.write(offset, data))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let _state = self.disk.enter(Some(Operation::Read), &self.path)?;
        in_file(&self.node, |file| {
            let rest = file.data.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.disk.enter(Some(Operation::Sync), &self.path) {
            Ok(mut state) => {
                state.syncs += 1;
                in_file(&self.node, FileBody::sync)
            }
            // A dead process syncs nothing and spoils nothing.
            Err(error) if self.disk.is_dead() => Err(error),
            Err(error) => {
                in_file(&self.node, FileBody::fail_sync)?;
                Err(error)
            }
        }
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let len = len as usize;
        self.change(|before| before.max(len), FileBody::set_len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|_| len as usize, FileBody::set_len)
    }

    fn len(&self) -> io::Result<u64> {
        let _state = self.disk.enter(None, &self.path)?;
        in_file(&self.node, |file| file.data.len() as u64)
    }

    fn lock(&self) -> io::Result<()> {
        let mut state = self.disk.enter(None, &self.path)?;
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        if !*locked && !state.locks.insert(self.node.id) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        *locked = true;
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        // A lock of an earlier life was cleared with it and may be another's by now.
        if *self.locked.lock().unwrap_or_else(PoisonError::into_inner)
            && let Ok(mut state) = self.disk.enter(None, &self.path)
        {
            state.locks.remove(&self.node.id);
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut state = self.enter(Some(Operation::Open), path)?;
        let found = state.tree.find(path, true);
        let node = match (how, found) {
            (Open::CreateNew(_), Ok(_)) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (_, Ok(node)) => node,
            (Open::Create(mode) | Open::CreateNew(mode), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, name) = state.tree.parent(path)?;
                let node = state.tree.create(Body::File(FileBody::default()), mode);
                in_dir(&parent, |directory| directory.change(vec![(name, Some(Arc::clone(&node)))]))?;
                node
            }
            (_, Err(error)) => return Err(error),
        };
        in_file(&node, |_| ())?;
        let disk = Self { state: Arc::clone(&self.state), boot: Some(state.boot) };
        let writable = how != Open::Read;
        Ok(Box::new(SimFile { disk, node, path: path.to_path_buf(), writable, locked: Mutex::new(false) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = self.enter(Some(Operation::Rename), from)?;
        let node = state.tree.find(from, false)?;
        let (source, old) = state.tree.parent(from)?;
        let (target, new) = state.tree.parent(to)?;
        if source.id == target.id {
            return in_dir(&source, |directory| directory.change(vec![(old, None), (new, Some(node))]));
        }
        in_dir(&target, |directory| directory.change(vec![(new, Some(node))]))?;
        in_dir(&source, |directory| directory.change(vec![(old, None)]))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = self.enter(Some(Operation::Remove), path)?;
        if let Body::Dir(_) = state.tree.find(path, false)?.lock().body {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let (parent, name) = state.tree.parent(path)?;
        in_dir(&parent, |directory| directory.change(vec![(name, None)]))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let state = self.enter(Some(Operation::Remove), path)?;
        tree::in_dir(&*state.tree.find(path, false)?, |_| ())?;
        let (parent, name) = state.tree.parent(path)?;
        in_dir(&parent, |directory| directory.change(vec![(name, None)]))
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut state = self.enter(None, path)?;
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors.into_iter().filter(|ancestor| ancestor.file_name().is_some()) {
            match state.tree.find(ancestor, true) {
                Ok(node) => tree::in_dir(&node, |_| ())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (parent, name) = state.tree.parent(ancestor)?;
                    let node = state.tree.create(Body::Dir(DirBody::default()), mode);
                    in_dir(&parent, |directory| directory.change(vec![(name, Some(node))]))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.enter(None, path)?;
        Ok(tree::entries(&*state.tree.find(path, true)?)?.into_keys().map(PathBuf::from).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.enter(None, path)?;
        match state.tree.find(path, true) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let state = self.enter(Some(Operation::SyncDir), path)?;
        let node = state.tree.find(path, true)?;
        in_dir(&node, DirBody::sync)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut state = self.enter(None, link)?;
        if state.tree.find(link, false).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let (parent, name) = state.tree.parent(link)?;
        let node = state.tree.create(Body::Link(target.to_path_buf()), 0o777);
        in_dir(&parent, |directory| directory.change(vec![(name, Some(node))]))
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        let state = self.enter(None, link)?;
        match &state.tree.find(link, false)?.lock().body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
    }

    fn chown(&self, path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
        let state = self.enter(None, path)?;
        let node = state.tree.find(path, false)?;
        let mut node = node.lock();
        node.owner = owner.unwrap_or(node.owner);
        node.group = group.unwrap_or(node.group);
        Ok(())
    }

    fn chmod(&self, path: &Path, mode: u32) -> io::Result<()> {
        let state = self.enter(None, path)?;
        state.tree.find(path, true)?.lock().mode = mode;
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.enter(None, path)?;
        let node = state.tree.find(path, false)?;
        let node = node.lock();
        Ok(Stat {
            owner: node.owner,
            group: node.group,
            mode: node.mode,
            is_dir: matches!(node.body, Body::Dir(_)),
            is_symlink: matches!(node.body, Body::Link(_)),
        })
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let state = self.enter(None, path)?;
        Ok(state.capacity_octets.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.tree.used())))
    }
}
