//! Whether what was written is still there: a slice of the instances every tick, all of them within half a minute.
//!
//! It refuses to read what is in the files, and to look at more than one slice at a time: a slow disk holds up nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use certwright_core::event::Stage;
use certwright_core::ids::{InstanceId, TargetName};

use super::Agent;
use super::work::Finished;
use crate::failure::{Failure, FailureReason};
use crate::plan::Installed;

/// Ticks in which everything is looked at once.
const ROUND_TICKS: usize = 30;
/// Instances looked at in one tick.
const SLICE_MAX: usize = 256;

/// What targets are believed to hold.
pub(super) type Believed = BTreeMap<InstanceId, BTreeMap<TargetName, Arc<Installed>>>;

/// Where the looking is.
#[derive(Default)]
pub(super) struct Look {
    /// Those of the slice under way that nothing was done about since; `None` when no slice is.
    slice: Option<BTreeSet<InstanceId>>,
    /// Whom the servers just spoke of.
    soon: BTreeSet<InstanceId>,
    /// The last one looked at in this round.
    last: Option<InstanceId>,
}

impl Look {
    /// At the next tick rather than in its turn.
    pub(super) fn soon(&mut self, instance: InstanceId) {
        self.soon.insert(instance);
    }

    /// Its files are being written: what was seen of them before says nothing.
    pub(super) fn disturb(&mut self, instance: InstanceId) {
        if let Some(slice) = &mut self.slice {
            slice.remove(&instance);
        }
    }

    /// Who is next.
    fn next<T>(&mut self, entries: &BTreeMap<InstanceId, T>) -> BTreeSet<InstanceId> {
        let mut slice = BTreeSet::new();
        while slice.len() < SLICE_MAX
            && let Some(instance) = self.soon.pop_first()
        {
            slice.insert(instance);
        }
        let turn = entries.len().div_ceil(ROUND_TICKS).min(SLICE_MAX - slice.len());
        let from = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let in_turn: Vec<InstanceId> = entries.range((from, Bound::Unbounded)).take(turn).map(|(id, _)| *id).collect();
        // A turn that comes to the end begins a new round.
        self.last = if in_turn.len() < turn { None } else { in_turn.last().copied() };
        slice.extend(in_turn);
        slice
    }
}

impl Agent {
    /// Looks at the next slice, unless one is under way.
    pub(super) fn look(&mut self) {
        if self.look.slice.is_some() {
            return;
        }
        let slice = self.look.next(&self.entries);
        let mut believed = Believed::new();
        for instance in slice {
            let Some(entry) = self.entries.get(&instance).filter(|entry| !entry.delivering) else { continue };
            let generation = entry.issued_generation();
            let targets = entry
                .held
                .targets
                .iter()
                .filter(|(name, installed)| installed.generation == generation && !entry.held.lost.contains(*name));
            let targets: BTreeMap<_, _> = targets.map(|(name, it)| (name.clone(), it.clone())).collect();
            if !targets.is_empty() {
                believed.insert(instance, targets);
            }
        }
        if believed.is_empty() {
            return;
        }
        self.look.slice = Some(believed.keys().copied().collect());
        self.spawn(self.worker.clone().look(believed), Finished::Looked { lost: Vec::new() });
    }

    /// What a look found to be gone is said, and put back.
    pub(super) fn on_looked(&mut self, lost: Vec<(InstanceId, TargetName)>) {
        let slice = self.look.slice.take().unwrap_or_default();
        for (instance, target) in lost.into_iter().filter(|(instance, _)| slice.contains(instance)) {
            let Some(entry) = self.entries.get_mut(&instance) else { continue };
            let generation = entry.issued_generation();
            entry.held.lost.insert(target.clone());
            let cause = format!("files of generation {generation} are missing at the target; they are written again");
            tracing::warn!(certificate = %entry.certificate, %target, generation, "somebody removed files of a target");
            let failure = Failure::new(FailureReason::TargetLost, cause);
            self.report(instance, generation, Some(target), Stage::Verified, Some(failure));
            self.ready.insert(instance);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn entries(count: u32) -> BTreeMap<InstanceId, ()> {
        (0..count).map(|number| (InstanceId::parse(&format!("5-0-{number}")).unwrap(), ())).collect()
    }

    #[test]
    fn a_round_is_half_a_minute_and_misses_nobody() {
        let (entries, mut look) = (entries(1000), Look::default());
        let slices: Vec<_> = (0..ROUND_TICKS).map(|_| look.next(&entries)).collect();
        assert!(slices.iter().all(|slice| slice.len() <= 34));
        assert_eq!(slices.into_iter().flatten().collect::<BTreeSet<_>>().len(), 1000);
        assert_eq!(look.next(&entries).first(), entries.keys().next(), "and begins anew");
    }

    #[test]
    fn whom_the_servers_spoke_of_comes_first_and_a_slice_stays_bounded() {
        let (entries, mut look) = (entries(20_000), Look::default());
        entries.keys().skip(1000).take(300).for_each(|instance| look.soon(*instance));
        let slice = look.next(&entries);
        assert_eq!(slice.len(), SLICE_MAX);
        assert_eq!(slice.first(), entries.keys().nth(1000));
        assert_eq!(look.next(&entries).len(), SLICE_MAX);
        assert!(look.soon.is_empty());
    }
}
