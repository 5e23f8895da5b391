//! Opening a log: what lies on disk becomes a running replica.
//!
//! It refuses to start from pieces that contradict each other; such a node is wiped and joins again under a new id.

use std::io;
use std::sync::Arc;

use certwright_core::log::{Codec, Fold};
use certwright_seams::Seams;
use openraft::{Config, Raft, SnapshotPolicy};
use rustls::sign::CertifiedKey;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::backfill::Backfill;
use super::introductions::Introductions;
use super::leadership::Follower;
use super::propose::Packer;
use super::retention::History;
use super::silence::Heard;
use super::snapshots::cut_when_due;
use super::timekeeping::Timekeeper;
use super::witness::Witness;
use super::{Inner, Log};
use crate::base::Bases;
use crate::consensus::store::{LogStore, mark_of};
use crate::consensus::{Types, runtime};
use crate::error::OpenError;
use crate::fold::machine::Machine;
use crate::fold::replica::Replica;
use crate::fold::shared::Shared;
use crate::handle::entries::Entries;
use crate::limits::{INSTALL_SNAPSHOT_TIMEOUT, PROPOSALS_QUEUED_MAX};
use crate::member::Leadership;
use crate::metrics::LogMetrics;
use crate::options::LogOptions;
use crate::peer::channels::Channels;
use crate::peer::client::PeerFactory;
use crate::peer::deaths::Deaths;
use crate::peer::pins::Pins;
use crate::peer::tls::PeerTls;
use crate::projection::worker::{Projection, Worker};
use crate::projection::{ProjectionStore, Projector};
use crate::snapshot::Snapshots;
use crate::snapshot::content::Owner;
use crate::wal::gaps::Gaps;
use crate::wal::{Identity, LogMark, Wal, WalError, WalOptions};

/// Entries of one append between peers; its octets are bounded elsewhere.
const APPEND_ENTRIES_MAX: u64 = 4096;
/// A follower that was away is spoken with again soon.
const BACKOFF: &str = "100ms 200ms ...500ms";

impl From<WalError> for OpenError {
    fn from(error: WalError) -> Self {
        match error {
            WalError::Io { source, .. } => Self::Io(source),
            WalError::Options(what) => Self::Options(what),
            other => Self::Foreign(other.to_string()),
        }
    }
}

fn config(options: &LogOptions) -> Result<Config, OpenError> {
    let config = Config {
        cluster_name: hex::encode(options.cluster_id),
        election_timeout_min: options.election_millis.0,
        election_timeout_max: options.election_millis.1,
        heartbeat_interval: options.heartbeat_millis,
        install_snapshot_timeout: INSTALL_SNAPSHOT_TIMEOUT.as_millis() as u64,
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        backoff: BACKOFF.into(),
        enable_pre_vote: Some(true),
        // A restarted leader is elected again, in a new term: only then does its first own entry prove that nothing
        // it once applied is missing.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| OpenError::Options(error.to_string()))
}

/// What lies on disk.
struct Stored<F: Fold> {
    wal: Wal,
    gaps: Arc<Gaps>,
    bases: Arc<Bases>,
    snapshots: Arc<Snapshots>,
    replica: Replica<F>,
    committed_before: u64,
}

impl<F: Fold> Stored<F> {
    async fn open(
        options: &LogOptions,
        seams: &Seams,
        codec: &dyn Codec<F>,
        metrics: &LogMetrics,
    ) -> Result<Self, OpenError> {
        let owner = Owner { cluster_id: options.cluster_id, epoch: options.epoch };
        let snapshots = Snapshots::open(Arc::clone(&seams.disk), options.data.join("snapshots"), owner)?;
        let snapshot = snapshots.recover(codec)?;
        let mut wal_options = WalOptions::new(options.segment_octets);
        let (seconds, octets) = (metrics.fsync_seconds.clone(), metrics.fsync_octets.clone());
        wal_options.observer = Some(Arc::new(move |sample| {
            seconds.observe(sample.took.as_secs_f64());
            octets.inc_by(sample.octets as u64);
        }));
        let identity = Identity { cluster_id: options.cluster_id, node_id: options.node_id, epoch: options.epoch };
        let (wal, recovered) = Wal::open(seams, &options.data.join("log"), identity, wal_options)?;
        if recovered.fresh && snapshot.is_some() {
            return Err(OpenError::Foreign(
                "there are snapshots but no log: votes may be lost; wipe this node and let it join again under a new id"
                    .into(),
            ));
        }
        let committed_before = recovered.committed.map_or(0, |committed| committed.index + 1);
        let replica = snapshot.unwrap_or_else(|| Replica::genesis(&options.cluster_id));
        let disk = Arc::clone(&seams.disk);
        let gaps = Gaps::open(disk, &*seams.entropy, &options.data.join("backfill"), identity)?;
        let bases = Bases::open(Arc::clone(&seams.disk), &options.data, owner, wal.floor())?;
        jump_to(&wal, &gaps, &replica, committed_before).await?;
        let (gaps, bases, snapshots) = (Arc::new(gaps), Arc::new(bases), Arc::new(snapshots));
        Ok(Self { wal, gaps, bases, snapshots, replica, committed_before })
    }
}

/// A crash between installing a snapshot and purging the log that it covers leaves a log that ends below the snapshot,
/// or goes on differently: what was never committed is cut, and the log goes on after the snapshot.
async fn jump_to<F: Fold>(
    wal: &Wal,
    gaps: &Gaps,
    replica: &Replica<F>,
    committed_before: u64,
) -> Result<(), io::Error> {
    let Some(last) = &replica.applied else { return Ok(()) };
    let mark = mark_of(last);
    let purged_beyond = wal.purged_mark().is_some_and(|purged| purged.index >= mark.index);
    if purged_beyond || holds(wal, mark)? {
        return Ok(());
    }
    let first = wal.first_index();
    let keep = committed_before.max(first).checked_sub(1).filter(|keep| *keep >= first);
    tracing::warn!(index = mark.index, "the log goes on after an installed snapshot");
    wal.truncate_after(keep, Box::new(drop)).await;
    let from = wal.last_mark().map_or(0, |last| last.index + 1);
    gaps.record(wal, from, mark.index + 1, replica.chain)?;
    let (sender, done) = tokio::sync::oneshot::channel();
    wal.purge(mark, Some(replica.chain), Box::new(move |result| drop(sender.send(result)))).await;
    done.await.unwrap_or_else(|_| Err(io::Error::other("the log has stopped")))
}

fn holds(wal: &Wal, mark: LogMark) -> io::Result<bool> {
    let found = wal.read(mark.index, mark.index + 1, 1)?;
    Ok(found.first().is_some_and(|record| record.index == mark.index && record.term == mark.term))
}

impl<F: Fold> Log<F> {
    /// Opens the log in the data directory and starts this node: it answers peers once it is
    /// [served](Self::serve). `identity` is the certificate and key that the membership record pins.
    pub async fn open(
        options: LogOptions,
        seams: Seams,
        codec: Arc<dyn Codec<F>>,
        projector: Arc<dyn Projector<F::Event>>,
        projection: Box<dyn ProjectionStore>,
        identity: Arc<CertifiedKey>,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let config = Arc::new(config(&options)?);
        let metrics = LogMetrics::register(&options.registry).map_err(|error| OpenError::Options(error.to_string()))?;
        let stored = Stored::open(&options, &seams, &*codec, &metrics).await?;
        let Stored { wal, gaps, bases, snapshots, replica, committed_before } = stored;
        let log_end = wal.last_mark().map_or(0, |last| last.index);
        let pins = Arc::new(Pins::default());
        let shared = Shared::new(replica, codec, seams.clone(), metrics, Arc::clone(&pins), &options, committed_before);
        let shared = Arc::new(shared);
        let tls = PeerTls::new(options.cluster_id, Arc::clone(&pins), Arc::clone(&seams.clock), identity);
        let channels = Arc::new(Channels::new(Arc::clone(&seams.net), tls, pins));
        let store = {
            let shared = Arc::clone(&shared);
            LogStore::new(wal.clone(), Arc::clone(&gaps), Arc::new(move || shared.basis()))
        };
        let deaths = Arc::new(Deaths::default());
        let network = PeerFactory {
            me: options.node_id,
            channels: Arc::clone(&channels),
            deaths: Arc::clone(&deaths),
            snapshots: Arc::clone(&snapshots),
            cuts: Arc::clone(&shared.cuts),
            exec: Arc::clone(&seams.exec),
        };
        let machine = Machine { shared: Arc::clone(&shared), snapshots: Arc::clone(&snapshots) };
        let building = Raft::<Types, _>::new(options.node_id, config, network, store.clone(), machine);
        let raft = runtime::scope(Arc::clone(&seams.entropy), building)
            .await
            .map_err(|error| OpenError::Consensus(error.to_string()))?;
        let cluster_id = options.cluster_id;
        let history = History { shared: Arc::clone(&shared), wal, gaps, bases, cluster_id };
        shared.metrics.history_first_index.set(i64::try_from(history.bases.first_index()).unwrap_or(i64::MAX));
        let parts = Parts { node_id: options.node_id, raft, shared, store, history, snapshots, channels, deaths };
        Ok(Self::start(parts, projector, projection, log_end))
    }

    fn start(
        parts: Parts<F>,
        projector: Arc<dyn Projector<F::Event>>,
        projection: Box<dyn ProjectionStore>,
        log_end: u64,
    ) -> Self {
        let Parts { node_id, raft, shared, store, history, snapshots, channels, deaths } = parts;
        let (gaps, entries) = (Arc::clone(&history.gaps), Arc::new(Entries::new(history.clone())));
        let (cancel, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (leadership_sender, leadership) = watch::channel(Leadership::default());
        let follower = Follower {
            me: node_id,
            raft: raft.clone(),
            shared: Arc::clone(&shared),
            leadership: leadership_sender,
            stopped: stopped.clone(),
            wal: store.wal().clone(),
        };
        follower.observe();
        tokio::spawn(follower.run(cancel.clone()));
        let (proposals, queue) = mpsc::channel(PROPOSALS_QUEUED_MAX);
        let packer = Packer::new(raft.clone(), Arc::clone(&shared), leadership.clone(), queue);
        tokio::spawn(packer.run(cancel.clone()));
        let witness = Arc::new(Witness {
            me: node_id,
            raft: raft.clone(),
            wal: store.wal().clone(),
            channels: Arc::clone(&channels),
            deaths,
        });
        tokio::spawn(Arc::clone(&witness).run(cancel.clone()));
        let backfill = Backfill { me: node_id, shared: Arc::clone(&shared), channels: Arc::clone(&channels), gaps };
        tokio::spawn(backfill.run(cancel.clone()));
        tokio::spawn(cut_when_due(raft.clone(), Arc::clone(&shared), Arc::clone(&snapshots), cancel.clone()));
        let projection = Projection::new(projection);
        let (metrics, entries_of) = (shared.metrics.clone(), Arc::clone(&entries));
        let worker = Worker { projection: projection.clone(), projector, entries: entries_of, metrics, log_end };
        let projecting = cancel.clone();
        shared.seams.exec.worker("projection", Box::new(move || Box::pin(worker.run(projecting))));
        let heard = listen(&raft, &shared, &channels, &leadership, &cancel);
        let inner = Inner {
            node_id,
            raft,
            shared,
            store,
            entries,
            history,
            first_state: tokio::sync::Mutex::default(),
            snapshots,
            channels,
            witness,
            projection,
            proposals,
            leadership,
            heard,
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
            stopped,
        };
        Self { inner: Arc::new(inner) }
    }
}

/// What a running log consists of.
struct Parts<F: Fold> {
    node_id: u64,
    raft: Raft<Types, Machine<F>>,
    shared: Arc<Shared<F>>,
    store: LogStore,
    history: History<F>,
    snapshots: Arc<Snapshots>,
    channels: Arc<Channels>,
    deaths: Arc<Deaths>,
}

/// Starts what listens to peers about time and about members that are not known here; answers what notes when a leader spoke.
fn listen<F: Fold>(
    raft: &Raft<Types, Machine<F>>,
    shared: &Arc<Shared<F>>,
    channels: &Arc<Channels>,
    leadership: &watch::Receiver<Leadership>,
    cancel: &CancellationToken,
) -> Arc<Heard> {
    let timekeeper = Timekeeper {
        raft: raft.clone(),
        shared: Arc::clone(shared),
        channels: Arc::clone(channels),
        leadership: leadership.clone(),
    };
    tokio::spawn(timekeeper.run(cancel.clone()));
    let heard = Arc::new(Heard::default());
    heard.note(shared.seams.clock.monotonic());
    let introductions = Introductions {
        shared: Arc::clone(shared),
        channels: Arc::clone(channels),
        heard: Arc::clone(&heard),
        leadership: leadership.clone(),
    };
    tokio::spawn(introductions.run(cancel.clone()));
    heard
}
