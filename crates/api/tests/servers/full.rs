//! Servers whose disk has no room left: whoever leads hands over, whoever follows waits, and all go on when there is room.
//!
//! It refuses to fill the machine's disk: a file that would grow below a full directory does not.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certwright_api::limits::Bounds;
use certwright_core::Reason;
use certwright_proto::status::{Refusal, from_status};
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_seams::Seams;
use certwright_seams::disk::{Disk, File, Open, OsDisk, Stat};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::support::{Cluster, PATIENCE, cluster, demo, is_served, leader, until};

/// Octets of a segment of the log: some tens of certificates of the size below.
const SEGMENT_OCTETS: u64 = 512 * 1024;

/// The machine's disk, on which servers may be left without room: what they have they keep, and nothing grows.
#[derive(Default)]
struct FillingDisk {
    disk: OsDisk,
    full: Arc<Mutex<BTreeSet<PathBuf>>>,
}

struct FillingFile {
    file: Box<dyn File>,
    path: PathBuf,
    full: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl FillingFile {
    /// An error when the file would grow where there is no room.
    fn grow(&self, len: u64) -> io::Result<()> {
        let is_full = self.full.lock().unwrap().iter().any(|folder| self.path.starts_with(folder));
        if is_full && len > self.file.len()? { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl File for FillingFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.grow(offset + data.len() as u64)?;
        self.file.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.grow(len)?;
        self.file.preallocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.grow(len)?;
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }
}

impl Disk for FillingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let (file, path, full) = (self.disk.open(path, how)?, path.to_path_buf(), self.full.clone());
        Ok(Box::new(FillingFile { file, path, full }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.disk.create_dir_all(path, mode)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.disk.symlink(target, link)
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        self.disk.read_link(link)
    }

    fn chown(&self, path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
        self.disk.chown(path, owner, group)
    }

    fn chmod(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.disk.chmod(path, mode)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.disk.stat(path)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        self.disk.available(path)
    }
}

/// Servers on one such disk, the first of which has an issuer; and what is full of it.
async fn servers(count: usize) -> (Cluster, Arc<Mutex<BTreeSet<PathBuf>>>) {
    let disk = FillingDisk::default();
    let full = disk.full.clone();
    let seams = Seams { disk: Arc::new(disk), ..Seams::system() };
    let mut servers = Cluster::with(Bounds::default(), seams, Some(SEGMENT_OCTETS)).await;
    demo(servers.channel(1)).await;
    for number in 2..=count {
        servers.grow(number, 1).await;
    }
    (servers, full)
}

/// Declares a certificate with many long names.
async fn declare(channel: &Channel, number: usize) -> Result<(), Refusal> {
    let label = "a".repeat(60);
    let dns_names = (0..90).map(|name| format!("{label}.{label}.n{number}-{name}.example.com")).collect();
    let spec = Some(v1::CertificateSpec { dns_names, issuer: "demo".into(), ..Default::default() });
    let name = format!("namespaces/default/certificates/c{number}");
    let certificate = Some(v1::Certificate { name, spec, ..Default::default() });
    let request_id = format!("30000000-0000-4000-8000-{number:012}");
    let request = v1::CreateCertificateRequest { certificate, request_id, ..Default::default() };
    let declared = CertificatesClient::new(channel.clone()).create_certificate(request).await;
    declared.map(|_| ()).map_err(|status| from_status(&status))
}

/// The same, repeated as clients do; answers how long it took.
async fn declare_patiently(channel: &Channel, number: usize) -> Duration {
    let start = Instant::now();
    while let Err(refusal) = declare(channel, number).await {
        let again = refusal.retry_after.is_some() || refusal.reason == Reason::OutcomeUnknown;
        assert!(again && start.elapsed() < PATIENCE, "{refusal:?}");
        tokio::time::sleep(refusal.retry_after.unwrap_or(Duration::from_millis(50))).await;
    }
    start.elapsed()
}

/// Waits until all servers have applied as much as the one that leads.
async fn agree(servers: &Cluster) {
    until("all servers are as far", PATIENCE, async || {
        let seen = cluster(servers.channel(servers.numbers()[0])).await.ok()?;
        let applied: BTreeSet<u64> = seen.nodes.iter().map(|node| node.applied_index).collect();
        (applied.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_room_hands_over_and_comes_back_when_there_is() {
    let (servers, full) = servers(3).await;
    let first = leader(servers.channel(1)).await;
    assert_eq!(first, "server-1", "who founded it leads");
    full.lock().unwrap().insert(servers.folder.path().join("server-1"));
    // Through a server that does not lead, as any client might.
    let (mut number, mut longest) = (0, Duration::ZERO);
    let start = Instant::now();
    while leader(servers.channel(2)).await == first {
        longest = longest.max(declare_patiently(servers.channel(2), number).await);
        number += 1;
        assert!(start.elapsed() < 2 * PATIENCE, "{number} written, and it still leads");
    }
    // Several segments more, which the one without room cannot take.
    for _ in 0..120 {
        longest = longest.max(declare_patiently(servers.channel(2), number).await);
        number += 1;
    }
    assert!(longest < Duration::from_secs(10), "a write took {longest:?}");
    assert_ne!(leader(servers.channel(2)).await, first);
    is_served(servers.channel(1)).await;
    let request = v1::TransferLeadershipRequest { name: first };
    let refused = ClusterClient::new(servers.channel(2).clone()).transfer_leadership(request).await.unwrap_err();
    assert_eq!(from_status(&refused).reason, Reason::NotReady, "{refused}");
    full.lock().unwrap().clear();
    agree(&servers).await;
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_without_room_refuses_with_a_reason_and_goes_on_when_there_is() {
    let (servers, full) = servers(1).await;
    full.lock().unwrap().insert(servers.folder.path().join("server-1"));
    let mut number = 0;
    let refusal = loop {
        match declare(servers.channel(1), number).await {
            Ok(()) => number += 1,
            Err(refusal) => break refusal,
        }
        assert!(number < 1000);
    };
    assert_eq!(refusal.reason, Reason::StorageFailed, "{refusal:?}");
    assert!(refusal.retry_after.is_some() && refusal.message.contains("no room"), "{refusal:?}");
    // It serves reads, and keeps refusing: nothing was handed to consensus that it could not store.
    is_served(servers.channel(1)).await;
    assert_eq!(declare(servers.channel(1), number).await.unwrap_err().reason, Reason::StorageFailed);
    full.lock().unwrap().clear();
    declare_patiently(servers.channel(1), number).await;
    servers.stop().await;
}
