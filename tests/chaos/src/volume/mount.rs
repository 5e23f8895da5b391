//! The volume under a directory of the machine, through the kernel: what programs do to files there arrives here.
//!
//! It refuses hard links, extended attributes and locks between machines; locks between processes are the kernel's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::{Change, Content, Done, Kind, Node, Tree, Volume};

/// Everything goes through the kernel, which may therefore remember it until it is unmounted.
const REMEMBERED: Duration = Duration::from_secs(3600);
const BLOCK_OCTETS: u32 = 4096;
/// What it says about its size; it has no end of its own.
const BLOCKS: u64 = 16 * 1024 * 1024;
const NAME_OCTETS_MAX: u32 = 255;
const GENERATION: Generation = Generation(0);

/// A volume that is mounted; it is unmounted when this is dropped.
pub struct Mounted {
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts it at an existing directory.
    pub fn new(volume: Arc<Volume>, at: &Path) -> io::Result<Self> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("certwright-chaos".into()), MountOption::NoAtime];
        let session = fuser::spawn_mount(Kernel(volume), at, &config)?;
        Ok(Self { session: Some(session) })
    }

    /// Unmounts it and waits until nothing more can arrive.
    pub fn unmount(mut self) -> io::Result<()> {
        let ended = self.session.take().map_or(Ok(()), BackgroundSession::umount_and_join);
        // What was under way when the connection to the kernel ended has ended with it.
        ended
            .or_else(|error| if error.raw_os_error() == Some(Errno::ECONNABORTED.into()) { Ok(()) } else { Err(error) })
    }
}

/// The kernel's view of a volume.
struct Kernel(Arc<Volume>);

fn attributes(number: u64, node: &Node) -> FileAttr {
    let (kind, size) = match &node.kind {
        Kind::File { seen, .. } => (FileType::RegularFile, seen.size()),
        Kind::Directory { .. } => (FileType::Directory, 0),
        Kind::Link(target) => (FileType::Symlink, target.as_os_str().len() as u64),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: node.modified,
        kind,
        perm: (node.mode & 0o7777) as u16,
        nlink: 1,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: BLOCK_OCTETS,
        flags: 0,
    }
}

fn node(request: &Request, kind: Kind, mode: u32) -> Node {
    Node { kind, mode, owner: (request.uid(), request.gid()), modified: SystemTime::now() }
}

fn directory() -> Kind {
    Kind::Directory { seen: BTreeMap::new(), kept: BTreeMap::new() }
}

fn file() -> Kind {
    Kind::File { seen: Content::default(), kept: Content::default(), pending: Vec::new() }
}

impl Kernel {
    fn added(&self, parent: INodeNo, name: &OsStr, node: Node) -> Done<FileAttr> {
        let mut tree = self.0.working()?;
        let number = tree.add(parent.0, name, node)?;
        Ok(attributes(number, tree.node(number)?))
    }

    fn removed(&self, parent: INodeNo, name: &OsStr) -> Done<()> {
        let mut tree = self.0.working()?;
        let number = tree.named(parent.0, name)?;
        if matches!(&tree.node(number)?.kind, Kind::Directory { seen, .. } if !seen.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        tree.edit(vec![(parent.0, name.to_owned(), None)])
    }

    fn looked(&self, number: INodeNo) -> Done<FileAttr> {
        let tree = self.0.looking()?;
        Ok(attributes(number.0, tree.node(number.0)?))
    }

    fn set(&self, number: INodeNo, size: Option<u64>, set: impl FnOnce(&mut Node)) -> Done<FileAttr> {
        let mut tree = self.0.working()?;
        set(tree.node_mut(number.0)?);
        if let Some(size) = size {
            tree.change(number.0, Change::Resize(size))?;
        }
        Ok(attributes(number.0, tree.node(number.0)?))
    }

    fn renamed(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), flags: RenameFlags) -> Done<()> {
        if !flags.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut tree = self.0.working()?;
        let number = tree.named(from.0.0, from.1)?;
        tree.edit(vec![(from.0.0, from.1.to_owned(), None), (to.0.0, to.1.to_owned(), Some(number))])
    }

    fn read_from(&self, number: INodeNo, offset: u64, size: u32) -> Done<Vec<u8>> {
        match &self.0.looking()?.node(number.0)?.kind {
            Kind::File { seen, .. } => Ok(seen.read(offset, u64::from(size))),
            _ => Err(Errno::EISDIR),
        }
    }

    fn link_of(&self, number: INodeNo) -> Done<PathBuf> {
        match &self.0.looking()?.node(number.0)?.kind {
            Kind::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// What a directory holds from there on, in the order in which it was made, so that places stay what they are.
    fn listed(&self, number: INodeNo, after: u64) -> Done<Vec<(u64, FileType, OsString)>> {
        let tree = self.0.looking()?;
        let kind = |number: u64| tree.node(number).map(|node| attributes(number, node).kind);
        let mut found: Vec<_> = tree.names(number.0)?.iter().filter(|(_, number)| **number > after).collect();
        found.sort_by_key(|(_, number)| **number);
        found.into_iter().map(|(name, number)| Ok((*number, kind(*number)?, name.clone()))).collect()
    }

    fn work(&self, work: impl FnOnce(&mut Tree) -> Done<()>, reply: ReplyEmpty) {
        match self.0.working().and_then(|mut tree| work(&mut tree)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}

fn entry(found: Done<FileAttr>, reply: ReplyEntry) {
    match found {
        Ok(found) => reply.entry(&REMEMBERED, &found, GENERATION),
        Err(error) => reply.error(error),
    }
}

fn attribute(found: Done<FileAttr>, reply: ReplyAttr) {
    match found {
        Ok(found) => reply.attr(&REMEMBERED, &found),
        Err(error) => reply.error(error),
    }
}

fn empty(done: Done<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Kernel {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.looking().and_then(|tree| {
            let number = tree.named(parent.0, name)?;
            Ok(attributes(number, tree.node(number)?))
        });
        entry(found, reply);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attribute(self.looked(number), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = |node: &mut Node| {
            node.mode = mode.unwrap_or(node.mode);
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
        };
        attribute(self.set(number, size, set), reply);
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.link_of(number) {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        entry(self.added(parent, name, node(request, directory(), mode & !umask)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.removed(parent, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.removed(parent, name), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        entry(self.added(parent, name, node(request, Kind::Link(target.to_owned()), 0o777)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(self.renamed((parent, name), (new_parent, new_name), flags), reply);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_from(number, offset, size) {
            Ok(octets) => reply.data(&octets),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        octets: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let change = Change::Write(offset, octets.to_vec());
        match self.0.working().and_then(|mut tree| tree.change(number.0, change)) {
            Ok(()) => reply.written(octets.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.work(|tree| tree.sync_file(number.0), reply);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.listed(number, offset) {
            Ok(found) => {
                for (number, kind, name) in found {
                    if reply.add(INodeNo(number), number, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let sync = |tree: &mut Tree| {
            tree.sync_directory(number.0);
            Ok(())
        };
        self.work(sync, reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let files = BLOCKS;
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, files, files, BLOCK_OCTETS, NAME_OCTETS_MAX, BLOCK_OCTETS);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.added(parent, name, node(request, file(), mode & !umask)) {
            Ok(found) => reply.created(&REMEMBERED, &found, GENERATION, FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let grow = |tree: &mut Tree| {
            let size = match &tree.node(number.0)?.kind {
                Kind::File { seen, .. } => seen.size().max(offset + length),
                _ => return Err(Errno::EISDIR),
            };
            tree.change(number.0, Change::Resize(size))
        };
        self.work(grow, reply);
    }
}
