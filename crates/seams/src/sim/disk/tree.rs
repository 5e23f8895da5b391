//! The simulated tree: nodes, path resolution, copies, and what a power cut leaves of it.
//!
//! It refuses handles and faults.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::body::{Body, DirBody, Entries, FileBody};

/// Links followed in one resolution, as Linux has it.
const LINKS_MAX: usize = 40;

/// A file, directory or link.
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) state: Mutex<NodeState>,
}

#[derive(Clone)]
pub(super) struct NodeState {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
}

impl Node {
    pub(super) fn lock(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tree and the numbers of its nodes.
pub(super) struct Tree {
    root: Arc<Node>,
    next_id: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { root: node(0, Body::Dir(DirBody::default()), 0o755), next_id: 1 }
    }

    pub(super) fn create(&mut self, body: Body, mode: u32) -> Arc<Node> {
        self.next_id += 1;
        node(self.next_id - 1, body, mode)
    }

    /// The node at a path.
    pub(super) fn find(&self, path: &Path, follow_last: bool) -> io::Result<Arc<Node>> {
        let mut links = 0;
        self.walk(path, follow_last, &mut links)
    }

    fn walk(&self, path: &Path, follow_last: bool, links: &mut usize) -> io::Result<Arc<Node>> {
        let parts: Vec<&OsStr> = path.components().filter_map(part).collect();
        let mut trail = vec![Arc::clone(&self.root)];
        let mut here = PathBuf::from("/");
        for (place, name) in parts.iter().enumerate() {
            if *name == ".." {
                here.pop();
                trail.truncate((trail.len() - 1).max(1));
                continue;
            }
            let mut next = child(&trail[trail.len() - 1], name)?;
            let link = if let Body::Link(target) = &next.lock().body { Some(target.clone()) } else { None };
            if let Some(target) = link
                && (follow_last || place + 1 < parts.len())
            {
                *links += 1;
                if *links > LINKS_MAX {
                    return Err(error(io::ErrorKind::InvalidInput, "too many links"));
                }
                next = self.walk(&here.join(target), true, links)?;
            }
            here.push(name);
            trail.push(next);
        }
        Ok(trail.swap_remove(trail.len() - 1))
    }

    /// The directory that holds a path's last name, and that name.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(Arc<Node>, OsString)> {
        let name = path.file_name().ok_or_else(|| error(io::ErrorKind::InvalidInput, "the path has no name"))?;
        let parent = self.find(path.parent().unwrap_or(Path::new("/")), true)?;
        in_dir(&parent, |_| ())?;
        Ok((parent, name.to_os_string()))
    }

    /// Octets of all files that a process can reach.
    pub(super) fn used(&self) -> u64 {
        let mut used = 0;
        visit(&self.root, &mut |state| {
            if let Body::File(file) = &state.body {
                used += file.data.len() as u64;
            }
        });
        used
    }

    /// Shows the files below a directory as they are on the platters, whatever is on its way.
    pub(super) fn durable(&self, under: &Path, show: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut here = Arc::clone(&self.root);
        for name in under.components().filter_map(part) {
            let next = in_dir(&here, |directory| directory.durable.get(name).cloned())?;
            here = next.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        }
        show_durable(&here, show);
        Ok(())
    }

    /// The power goes.
    pub(super) fn crash(&mut self, rng: &mut StdRng) {
        crash(&self.root, rng.next_u64());
    }

    /// An independent copy.
    pub(super) fn fork(&self) -> Self {
        Self { root: copy(&self.root, &mut BTreeMap::new()), next_id: self.next_id }
    }
}

fn node(id: u64, body: Body, mode: u32) -> Arc<Node> {
    Arc::new(Node { id, state: Mutex::new(NodeState { body, mode, owner: 0, group: 0 }) })
}

fn part(component: Component<'_>) -> Option<&OsStr> {
    match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }
}

fn child(directory: &Node, name: &OsStr) -> io::Result<Arc<Node>> {
    // Looked up in place: every path of every file goes through here.
    in_dir(directory, |directory| directory.entries.get(name).cloned())?
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// What a directory has.
pub(super) fn entries(directory: &Node) -> io::Result<Entries> {
    match &directory.lock().body {
        Body::Dir(directory) => Ok(directory.entries.clone()),
        _ => Err(io::Error::from(io::ErrorKind::NotADirectory)),
    }
}

fn show_durable(node: &Node, show: &mut dyn FnMut(&[u8])) {
    let below = match &node.lock().body {
        Body::File(file) => return show(file.durable()),
        Body::Dir(directory) => directory.durable.clone(),
        Body::Link(_) => return,
    };
    below.values().for_each(|node| show_durable(node, show));
}

/// Reads or changes a directory.
pub(super) fn in_dir<T>(directory: &Node, change: impl FnOnce(&mut DirBody) -> T) -> io::Result<T> {
    match &mut directory.lock().body {
        Body::Dir(directory) => Ok(change(directory)),
        _ => Err(io::Error::from(io::ErrorKind::NotADirectory)),
    }
}

/// Reads or changes a file.
pub(super) fn in_file<T>(file: &Node, change: impl FnOnce(&mut FileBody) -> T) -> io::Result<T> {
    match &mut file.lock().body {
        Body::File(file) => Ok(change(file)),
        _ => Err(io::Error::from(io::ErrorKind::IsADirectory)),
    }
}

fn visit(node: &Node, each: &mut dyn FnMut(&NodeState)) {
    let state = node.lock();
    each(&state);
    if let Body::Dir(directory) = &state.body {
        directory.entries.values().for_each(|node| visit(node, each));
    }
}

/// Every node has a generator of its own: how long a file is, which signatures decide, changes nothing for the others.
fn crash(node: &Node, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_add(node.id));
    let mut state = node.lock();
    match &mut state.body {
        Body::File(file) => file.crash(&mut rng),
        Body::Dir(directory) => {
            directory.crash(&mut rng);
            directory.entries.values().for_each(|node| crash(node, seed));
        }
        Body::Link(_) => {}
    }
}

fn copy(original: &Arc<Node>, copies: &mut BTreeMap<u64, Arc<Node>>) -> Arc<Node> {
    if let Some(copy) = copies.get(&original.id) {
        return Arc::clone(copy);
    }
    let mut state = original.lock().clone();
    if let Body::Dir(directory) = &mut state.body {
        for node in directory.entries.values_mut().chain(directory.durable.values_mut()) {
            *node = copy(node, copies);
        }
        for node in directory.pending.iter_mut().flatten().filter_map(|(_, node)| node.as_mut()) {
            *node = copy(node, copies);
        }
    }
    let copy = Arc::new(Node { id: original.id, state: Mutex::new(state) });
    copies.insert(original.id, Arc::clone(&copy));
    copy
}

pub(super) fn error(kind: io::ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text.to_string())
}
