//! Logs whose every checksum and chain value is right, and whose events or checkpoints are not.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use certwright_core::checkpoint::Checkpoint;
use certwright_core::event::{Event, SignedCheckpoint};
use certwright_core::ids::{ClusterId, checkpoints_stream, cluster_stream};
use certwright_core::log::{Append, RequestId, StreamId, Trace, Transaction};
use certwright_core::state::{CheckpointKey, State};
use certwright_core::time::Timestamp;
use certwright_custody::{DataKey, SealedCustody};
use certwright_proto::storage::{DomainCodec, EntryBuilder, encode_transaction};
use certwright_raft::chain::{self, Chain, Link};
use certwright_raft::wal::{Identity, Record, Wal, WalOptions};
use certwright_seams::sim::{InlineExec, SeededEntropy, SimClock, SimDisk};
use certwright_seams::{Seams, net::TcpNet};

use super::*;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const DATA: &str = "/data";

/// A log that is being written, and what signs its checkpoints.
struct Rig {
    disk: SimDisk,
    wal: Wal,
    custody: SealedCustody,
    key: CheckpointKey,
    next_index: u64,
    chain: Chain,
}

impl Rig {
    /// A log that begins with a cluster and its key.
    async fn new() -> Self {
        let disk = SimDisk::new(1);
        let entropy = Arc::new(SeededEntropy::new(1));
        let exec = Arc::new(InlineExec::default());
        let seams = Seams {
            clock: Arc::new(SimClock::new(0)),
            entropy: entropy.clone(),
            net: Arc::new(TcpNet),
            disk: Arc::new(disk.boot()),
            exec: exec.clone(),
        };
        let custody = SealedCustody::new(entropy.clone(), exec);
        custody.unlock(DataKey::generate(&*entropy));
        let key = custody.generate_checkpoint_key().await.unwrap();
        let identity = Identity { cluster_id: CLUSTER.0, node_id: 1, epoch: 1 };
        let log = Path::new(DATA).join("log");
        let (wal, _) = Wal::open(&seams, &log, identity, WalOptions::new(64 * 1024)).unwrap();
        let mut rig = Self { disk, wal, custody, key, next_index: 0, chain: chain::genesis(&CLUSTER.0) };
        rig.append(cluster_stream(), Event::ClusterBootstrapped { cluster_id: CLUSTER, epoch: 1 }).await;
        rig
    }

    async fn with_key() -> Self {
        let mut rig = Self::new().await;
        let CheckpointKey { public_key, sealed_key } = rig.key.clone();
        rig.append(checkpoints_stream(), Event::CheckpointKeyMade { public_key, sealed_key }).await;
        rig
    }

    async fn append(&mut self, stream: StreamId, event: Event) {
        let transaction = Transaction {
            request_id: RequestId([1; 16]),
            request_digest: [0; 16],
            actor: "system".into(),
            trace: Trace::default(),
            guards: vec![],
            appends: vec![Append { stream, expected: None, events: vec![event] }],
        };
        let mut entry = EntryBuilder::new();
        entry.push(&encode_transaction::<State>(&DomainCodec, &transaction));
        self.write(entry.finish(Timestamp::from_millis(1)).to_vec()).await;
    }

    async fn write(&mut self, payload: Vec<u8>) {
        let link = Link { index: self.next_index, term: 1, node: 0, kind: 1 };
        self.chain = chain::next(&self.chain, link, &payload);
        let record = Record { index: self.next_index, term: 1, node: 0, kind: 1, payload: payload.into() };
        let (sender, done) = tokio::sync::oneshot::channel();
        self.wal.append(vec![record], Box::new(move |result| drop(sender.send(result)))).await;
        done.await.unwrap().unwrap();
        self.next_index += 1;
    }

    /// A checkpoint of the entries so far, altered before and after it is signed.
    async fn sign(&mut self, before: impl Fn(&mut Checkpoint), after: impl Fn(&mut SignedCheckpoint)) {
        let (index, chain, at) = (self.next_index - 1, self.chain, Timestamp::from_millis(1));
        let mut checkpoint = Checkpoint { cluster_id: CLUSTER, epoch: 1, index, chain, at };
        before(&mut checkpoint);
        let signature = self.custody.sign_checkpoint(self.key.clone(), checkpoint).await.unwrap();
        let Checkpoint { epoch, index, chain, at, .. } = checkpoint;
        let mut signed = SignedCheckpoint { epoch, index, chain, at, signature };
        after(&mut signed);
        self.append(checkpoints_stream(), Event::CheckpointSigned(Box::new(signed))).await;
    }

    async fn verify(&self) -> LogReport {
        self.wal.close().await;
        verify_log(&self.disk, Path::new(DATA), &mut |_| ()).unwrap()
    }
}

#[tokio::test]
async fn checkpoints_that_say_what_the_chain_was_are_counted() {
    let mut rig = Rig::with_key().await;
    rig.sign(|_| (), |_| ()).await;
    rig.append(cluster_stream(), Event::NodeRemoved { node_id: 9 }).await;
    rig.sign(|_| (), |_| ()).await;
    let report = rig.verify().await;
    assert_eq!((report.log.finding, report.events), (None, 5));
    assert_eq!((report.checkpoints, report.checkpoints_unknown), (2, 0));
}

#[tokio::test]
async fn a_checkpoint_that_the_key_did_not_sign_or_that_says_another_chain_is_found() {
    type Alter = (fn(&mut Checkpoint), fn(&mut SignedCheckpoint), &'static str);
    let cases: [Alter; 5] = [
        (|_| (), |signed| signed.signature[5] ^= 1, "signature"),
        (|_| (), |signed| signed.chain[5] ^= 1, "signature"),
        (|_| (), |signed| signed.index -= 1, "signature"),
        (|before| before.chain[5] ^= 1, |_| (), "another chain"),
        (|before| before.index -= 1, |_| (), "another chain"),
    ];
    for (before, after, expected) in cases {
        let mut rig = Rig::with_key().await;
        rig.append(cluster_stream(), Event::NodeRemoved { node_id: 9 }).await;
        rig.sign(before, after).await;
        let finding = rig.verify().await.log.finding.unwrap();
        assert!(finding.what.contains(expected) && finding.first_bad_index == 3, "{finding:?}");
    }
}

#[tokio::test]
async fn a_checkpoint_whose_key_is_not_here_proves_nothing() {
    let mut rig = Rig::new().await;
    rig.sign(|_| (), |_| ()).await;
    let report = rig.verify().await;
    assert_eq!((report.checkpoints, report.checkpoints_unknown, report.log.finding), (0, 1, None));
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_found() {
    let mut rig = Rig::with_key().await;
    rig.write(vec![0xff; 20]).await;
    let finding = rig.verify().await.log.finding.unwrap();
    assert!(finding.what.contains("newer certwright") && finding.first_bad_index == 2, "{finding:?}");
}

#[tokio::test]
async fn a_snapshot_to_begin_with_that_cannot_be_read_is_found_although_nothing_was_let_go_yet() {
    let rig = Rig::with_key().await;
    let base = Path::new(DATA).join(BASE);
    rig.disk.create_dir_durable(&base, 0o700).unwrap();
    rig.disk.write_atomic(&base.join("1.snapshot"), &[0xff; 100], 0o600).unwrap();
    let report = rig.verify().await;
    let finding = report.log.finding.unwrap();
    assert_eq!((report.log.floor, finding.path, finding.first_bad_index), (None, base, 0));
}
