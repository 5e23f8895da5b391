//! From the data directory of one server that is left: its whole log, committed or not.
//!
//! It refuses a server that cannot open the data key: without it no CA key is ever opened again.

use std::path::Path;

use certwright_core::event::EpochCause;
use certwright_core::ids::{ClusterId, NodeId};
use certwright_core::state::State;
use certwright_core::{Reason, Rejection};
use certwright_custody::DataKey;
use certwright_proto::storage::DomainCodec;
use certwright_raft::wal::{Identity, Seen};
use certwright_raft::{LogOptions, Survivor};
use certwright_seams::Seams;

use super::{Before, Restored, Site, Taken, Terms};
use crate::bootstrap::Administrator;
use crate::data_dir::{DataDir, Phase, Record, file_failed, foreign};
use crate::log_check::tally::{Tally, UNTOLD};
use crate::node::{NodeConfig, open_seal};

/// Goes on from what the server of that directory has.
pub(super) async fn restore(
    config: &NodeConfig,
    seams: Seams,
    from: &Path,
    terms: Terms,
    keep: impl FnOnce(&Administrator) -> Result<(), Rejection>,
) -> Result<Restored, Rejection> {
    let old = DataDir::open(from, seams.disk.clone())?;
    let record = old.record()?.filter(|record| record.phase == Phase::Member);
    let record = record.ok_or_else(|| foreign(&from.display().to_string(), "no member of a cluster lives there"))?;
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => foreign(&from.display().to_string(), &error.to_string()),
        std::io::ErrorKind::NotFound => {
            let message = format!("{}: {error}: go on from another server, or from a backup", from.display());
            Rejection::new(Reason::NotReady, message)
        }
        _ => file_failed("read", from, error),
    };
    let cluster = record.cluster()?;
    let identity = Identity { cluster_id: cluster.0, node_id: record.node_id, epoch: record.epoch };
    let usual = LogOptions::new(from.to_path_buf(), cluster.0, record.node_id, record.epoch).segment_octets;
    let segment_octets = config.segment_octets.unwrap_or(usual);
    let mut survivor = Survivor::<State>::open(&seams, from, identity, segment_octets, &DomainCodec).map_err(failed)?;
    survivor.require_whole().map_err(failed)?;
    let folded = survivor.fold(&DomainCodec).map_err(failed)?;
    let keys = data_keys(&old, &seams, cluster, &record, folded.state())?;
    let before = Before { cluster, epoch: record.epoch, last_node_id: folded.state().cluster.last_node_id };
    let site = Site::begin(config, &seams, terms, before, folded.at())?;
    let base = survivor.base(&DomainCodec).map_err(failed)?;
    let mut refounding = site.refound(base.as_ref()).await?;
    let mut tally = base.as_ref().map_or_else(Tally::default, Tally::after);
    let mut next = base.map_or(0, |base| base.floor().first_index);
    loop {
        let records = survivor.entries(next).map_err(failed)?;
        if records.is_empty() {
            break;
        }
        for record in records {
            next = record.index + 1;
            let chain = refounding.append(record.clone()).await.map_err(|error| site.failed(error))?;
            tally.see(Seen::Entry(&record, Some(chain))).map_err(|what| foreign("the log", &what))?;
        }
    }
    if !tally.is_told(None) {
        return Err(foreign(&from.display().to_string(), UNTOLD));
    }
    let committed = survivor.committed;
    survivor.close().await;
    let taken = Taken { refounding, folded, tally, committed };
    site.finish(taken, EpochCause::QuorumLost, &keys, keep).await
}

/// Every data key that the survivor can open.
fn data_keys(
    old: &DataDir,
    seams: &Seams,
    cluster: ClusterId,
    record: &Record,
    state: &State,
) -> Result<Vec<DataKey>, Rejection> {
    let seal = open_seal(old, seams)?;
    let me: NodeId = record.node_id;
    let held = state.cluster.nodes.get(&me).map(|node| node.wrapped.clone()).unwrap_or_default();
    let in_use = state.cluster.data_key_id;
    if !held.contains_key(&in_use) {
        let message = format!("this server never got data key {in_use}: go on from another one, or from a backup");
        return Err(Rejection::new(Reason::NotReady, message));
    }
    let open = |(id, wrapped): (&u64, &Vec<u8>)| {
        let failed = |error| Rejection::new(Reason::NotReady, format!("data key {id} does not open: {error}"));
        seal.unwrap(cluster, me, *id, wrapped).map_err(failed)
    };
    held.iter().map(open).collect()
}
