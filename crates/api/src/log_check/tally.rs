//! What the entries of a log say, entry by entry: how many events, whether checkpoints agree with the chain, and where history
//! begins.
//!
//! It refuses events that it cannot read: a newer program wrote them, or they were altered.

use std::collections::VecDeque;

use certwright_core::Event;
use certwright_core::event::{HistoryTrimmed, SignedCheckpoint};
use certwright_core::ids::ClusterId;
use certwright_core::state::State;
use certwright_proto::storage::{DomainCodec, decode_entry};
use certwright_raft::chain::Chain;
use certwright_raft::wal::{Floor, Record, Seen};
use certwright_raft::{Beginning, DIGEST_VERSION, Folded};

/// Values of the chain remembered for the next checkpoint: many times what the busiest log has between two.
const CHAINS_MAX: usize = 1 << 16;

/// What is wrong where [`Tally::is_told`] says no.
pub(crate) const UNTOLD: &str = "no entry says that history begins there, with that snapshot";

/// Counts events; those of entries that are superseded later are taken back.
#[derive(Default)]
pub(crate) struct Tally {
    /// Of entries that nothing supersedes any more.
    settled: u64,
    /// Index of the first of the entries below.
    first_index: u64,
    /// Events of each entry since the log's beginning, or since a snapshot was jumped to.
    counts: Vec<u32>,
    /// The chain's value after the newest entries, by index.
    chains: VecDeque<(u64, Chain)>,
    cluster_id: Option<ClusterId>,
    key: Option<[u8; 32]>,
    /// What history begins with.
    base: Option<Beginning>,
    /// Where history was said to begin, and the entries that say so.
    told: Vec<(u64, HistoryTrimmed)>,
    /// Agreed, and not known here.
    checkpoints: (u64, u64),
}

impl Tally {
    /// For the entries after what history begins with.
    pub(crate) fn after(base: &Folded<State>) -> Self {
        let (first_index, cluster) = (base.floor().first_index, &base.state().cluster);
        let (cluster_id, key) = (cluster.id, cluster.checkpoints.key.as_ref().map(|key| key.public_key));
        let beginning = Beginning { floor: base.floor(), digest: base.digest(&DomainCodec) };
        let mut tally = Self { first_index, cluster_id, key, base: Some(beginning), ..Self::default() };
        if let Some(before) = first_index.checked_sub(1) {
            tally.remember(before, Some(base.chain()));
        }
        tally
    }

    /// For whatever entries come.
    pub(crate) fn anywhere(base: Option<&Folded<State>>) -> Self {
        let known = base.map(Self::after).unwrap_or_default();
        Self { cluster_id: known.cluster_id, key: known.key, base: known.base, ..Self::default() }
    }

    pub(crate) fn events(&self) -> u64 {
        self.settled + self.counts.iter().map(|&count| u64::from(count)).sum::<u64>()
    }

    /// Whether entries that nothing supersedes say of what history begins with that it does, and the same of a floor. Who can
    /// write a snapshot and a floor that fit each other has not written those entries yet, which checkpoints sign.
    pub(crate) fn is_told(&self, floor: Option<Floor>) -> bool {
        let base = self.base.map(|base| (base.floor, Some(base.digest)));
        let begins = base.into_iter().chain(floor.map(|floor| (floor, None)));
        let says = |it: &HistoryTrimmed, floor: Floor, digest: Option<[u8; 32]>| {
            (it.first_index, it.chain) == (floor.first_index, floor.chain)
                && digest.is_none_or(|digest| digest == it.digest)
        };
        // Before the first entry of all there is nothing to be told of.
        let mut begins = begins.filter(|(floor, _)| floor.first_index > 0);
        begins.all(|(floor, digest)| self.told.iter().any(|(_, it)| says(it, floor, digest)))
    }

    /// Checkpoints that agree with the chain, and those of which that is not known here.
    pub(crate) fn checkpoints(&self) -> (u64, u64) {
        self.checkpoints
    }

    pub(crate) fn see(&mut self, seen: Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Segment(_, index) => {
                if self.events() == 0 && self.counts.is_empty() {
                    self.first_index = index;
                }
                Ok(())
            }
            Seen::Entry(record, chain) => {
                // The checkpoint in an entry is about those before it.
                let events = self.read(record)?;
                self.count(record.index, events);
                self.remember(record.index, chain);
                Ok(())
            }
            Seen::Superseded(next_index) => {
                self.counts.truncate(next_index.saturating_sub(self.first_index) as usize);
                self.chains.retain(|(index, _)| *index < next_index);
                self.told.retain(|(index, _)| *index < next_index);
                Ok(())
            }
            Seen::Jumped(next_index, chain) => {
                (self.settled, self.first_index, self.counts) = (self.events(), next_index, Vec::new());
                self.remember(next_index.saturating_sub(1), chain);
                Ok(())
            }
        }
    }

    fn count(&mut self, index: u64, events: u32) {
        if index == self.first_index + self.counts.len() as u64 {
            self.counts.push(events);
        } else {
            // Of a gap: fetched entries are committed ones.
            self.settled += u64::from(events);
        }
    }

    fn remember(&mut self, index: u64, chain: Option<Chain>) {
        if self.chains.back().is_some_and(|(last, _)| last + 1 != index) {
            self.chains.clear();
        }
        if let Some(chain) = chain {
            self.chains.push_back((index, chain));
        }
        if self.chains.len() > CHAINS_MAX {
            self.chains.pop_front();
        }
    }

    /// How many events an entry holds; what they say of the log is compared with it.
    fn read(&mut self, record: &Record) -> Result<u32, String> {
        if !record.has_transactions() {
            return Ok(0);
        }
        let entry = decode_entry(&DomainCodec, record.payload.clone())
            .map_err(|error| format!("{error}: altered, or written by a newer certwright"))?;
        let appends = entry.transactions.iter().flat_map(|transaction| &transaction.appends);
        let mut count = 0;
        for event in appends.flat_map(|append| &append.events) {
            count += 1;
            match event {
                Event::ClusterBootstrapped { cluster_id, .. } => self.cluster_id = Some(*cluster_id),
                Event::CheckpointKeyMade { public_key, .. } => self.key = Some(*public_key),
                Event::CheckpointSigned(signed) => self.compare(signed)?,
                Event::HistoryTrimmed(trimmed) => {
                    self.compare_base(trimmed)?;
                    self.told.push((record.index, **trimmed));
                }
                _ => {}
            }
        }
        Ok(count)
    }

    /// What history begins with is what the log says it is.
    fn compare_base(&self, trimmed: &HistoryTrimmed) -> Result<(), String> {
        let begins = self.base.filter(|base| base.floor.first_index == trimmed.first_index);
        match begins {
            Some(_) if trimmed.digest_version != DIGEST_VERSION => {
                let (first, form) = (trimmed.first_index, trimmed.digest_version);
                Err(format!(
                    "the snapshot before entry {first} was hashed in form {form}: a newer certwright has to look"
                ))
            }
            Some(base) if (base.floor.chain, base.digest) != (trimmed.chain, trimmed.digest) => {
                Err(format!("the snapshot before entry {} is not what the log says it is", trimmed.first_index))
            }
            _ => Ok(()),
        }
    }

    fn compare(&mut self, signed: &SignedCheckpoint) -> Result<(), String> {
        let at = signed.index;
        let signer = self.cluster_id.zip(self.key);
        if signer.is_some_and(|(cluster_id, key)| !signed.of(cluster_id).is_signed(&key, &signed.signature)) {
            return Err(format!("the signature of the checkpoint at {at} does not verify"));
        }
        let place = self.chains.binary_search_by_key(&at, |(index, _)| *index);
        match (signer, place) {
            (_, Ok(place)) if self.chains[place].1 != signed.chain => {
                Err(format!("the checkpoint at {at} says another chain than the entries before it have"))
            }
            (Some(_), Ok(_)) => {
                self.checkpoints.0 += 1;
                Ok(())
            }
            _ => {
                self.checkpoints.1 += 1;
                Ok(())
            }
        }
    }
}
