//! Which streams are spoken for: claims of what is in flight and of what waits for it, in order of arrival.
//!
//! It refuses to know what a stream holds. Like a lock table: readers share a lane, a writer has it alone, and nobody
//! overtakes one who waits, so that a steady flow of readers never starves a writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use certwright_core::log::{RequestId, StreamId};

/// What is claimed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Lane {
    /// A stream.
    Stream(StreamId),
    /// A request by actor and id: a repeat waits for the first.
    Request(Arc<str>, RequestId),
}

/// How it is claimed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Mode {
    /// Guards and commutative appends.
    Shared,
    /// Appends with an expected revision.
    Exclusive,
}

/// What one command touches; a lane both read and written is written.
pub(crate) type Claim = BTreeMap<Lane, Mode>;

/// Order of arrival; the lower goes first.
pub(crate) type Ticket = u64;

#[derive(Default, Debug)]
struct Holders {
    shared: usize,
    exclusive: bool,
    readers: BTreeSet<Ticket>,
    writers: BTreeSet<Ticket>,
}

impl Holders {
    /// Whether `ticket` may have the lane now, past nobody who waits with an earlier ticket and would conflict.
    fn admits(&self, ticket: Ticket, mode: Mode) -> bool {
        let behind = |waiting: &BTreeSet<Ticket>| waiting.first().is_some_and(|first| *first < ticket);
        match mode {
            Mode::Exclusive => !self.exclusive && self.shared == 0 && !behind(&self.readers) && !behind(&self.writers),
            Mode::Shared => !self.exclusive && !behind(&self.writers),
        }
    }

    /// Who waits for this lane and would be admitted: the first writer, or the readers before it.
    fn admitted(&self) -> impl Iterator<Item = Ticket> {
        let writer = self.writers.first().copied().filter(|ticket| self.admits(*ticket, Mode::Exclusive));
        let readers = self.readers.iter().copied().take_while(|ticket| self.admits(*ticket, Mode::Shared));
        writer.into_iter().chain(readers)
    }

    fn waiting(&mut self, mode: Mode) -> &mut BTreeSet<Ticket> {
        match mode {
            Mode::Shared => &mut self.readers,
            Mode::Exclusive => &mut self.writers,
        }
    }

    fn is_idle(&self) -> bool {
        self.shared == 0 && !self.exclusive && self.readers.is_empty() && self.writers.is_empty()
    }
}

/// Claims in flight and waiting.
#[derive(Default, Debug)]
pub(crate) struct Overlay {
    lanes: BTreeMap<Lane, Holders>,
    parked: BTreeMap<Ticket, Claim>,
}

impl Overlay {
    /// Takes the whole claim, or none of it and waits under the ticket. `true` when taken.
    pub(crate) fn claim(&mut self, ticket: Ticket, claim: &Claim) -> bool {
        if self.grantable(ticket, claim) {
            for (lane, mode) in claim {
                let holders = self.lanes.entry(lane.clone()).or_default();
                match mode {
                    Mode::Shared => holders.shared += 1,
                    Mode::Exclusive => holders.exclusive = true,
                }
            }
            return true;
        }
        self.wait(ticket, claim.clone());
        false
    }

    /// Waits for the claim under the ticket.
    pub(crate) fn wait(&mut self, ticket: Ticket, claim: Claim) {
        for (lane, mode) in &claim {
            self.lanes.entry(lane.clone()).or_default().waiting(*mode).insert(ticket);
        }
        self.parked.insert(ticket, claim);
    }

    /// Whether the ticket could have that lane now.
    pub(crate) fn is_free(&self, ticket: Ticket, lane: &Lane, mode: Mode) -> bool {
        self.lanes.get(lane).is_none_or(|holders| holders.admits(ticket, mode))
    }

    /// Gives a taken claim back; answers who may be decided again.
    pub(crate) fn release(&mut self, claim: &Claim) -> BTreeSet<Ticket> {
        for (lane, mode) in claim {
            if let Some(holders) = self.lanes.get_mut(lane) {
                match mode {
                    Mode::Shared => holders.shared = holders.shared.saturating_sub(1),
                    Mode::Exclusive => holders.exclusive = false,
                }
            }
        }
        self.awakened(claim)
    }

    /// Ends the wait of a ticket and answers what it waited for; its place is kept by claiming again under it.
    pub(crate) fn unpark(&mut self, ticket: Ticket) -> Claim {
        let claim = self.parked.remove(&ticket).unwrap_or_default();
        for (lane, mode) in &claim {
            if let Some(holders) = self.lanes.get_mut(lane) {
                holders.waiting(*mode).remove(&ticket);
            }
        }
        claim
    }

    /// Who waits for one of these lanes and could go now. Forgets lanes that nobody holds.
    pub(crate) fn awakened(&mut self, claim: &Claim) -> BTreeSet<Ticket> {
        let mut candidates = BTreeSet::new();
        for lane in claim.keys() {
            let Some(holders) = self.lanes.get(lane) else { continue };
            if holders.is_idle() {
                self.lanes.remove(lane);
                continue;
            }
            candidates.extend(holders.admitted());
        }
        candidates.retain(|ticket| self.parked.get(ticket).is_some_and(|claim| self.grantable(*ticket, claim)));
        candidates
    }

    fn grantable(&self, ticket: Ticket, claim: &Claim) -> bool {
        claim.iter().all(|(lane, mode)| self.is_free(ticket, lane, *mode))
    }
}

#[cfg(test)]
mod tests;
