//! One agent's scope: what it holds, by change and by name, what waits for its CSRs, and what left lately.
//!
//! It refuses to remember everything that left: below the floor the agent reads the complete scope.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, InstanceKey, SharedName};
use crate::event::Trigger;
use crate::ids::Generation;
use crate::limits;
use crate::log::Position;

#[derive(Debug, Default)]
pub(in crate::state) struct Scope {
    /// By last change.
    live: BTreeMap<(Position, InstanceKey), SharedName>,
    /// By name.
    names: BTreeSet<SharedName>,
    /// Issuances under way.
    open: BTreeMap<InstanceKey, (SharedName, Generation, Trigger)>,
    /// What left, by when.
    gone: BTreeMap<(Position, InstanceKey), SharedName>,
    /// What left up to here is forgotten.
    pub(in crate::state) floor: Position,
}

/// An entry of a scope: its place, its name, and whether it is still there.
pub(in crate::state) type Entry<'a> = ((Position, InstanceKey), &'a SharedName, bool);

impl Scope {
    pub(super) fn new(floor: Position) -> Self {
        Self { floor, ..Self::default() }
    }

    pub(super) fn put(&mut self, facts: &Facts, name: &SharedName) {
        self.live.insert((facts.changed, facts.key), name.clone());
        self.names.insert(name.clone());
        if let Some(open) = facts.open {
            self.open.insert(facts.key, (name.clone(), open.generation, open.trigger));
        }
    }

    pub(super) fn take(&mut self, facts: &Facts) {
        self.open.remove(&facts.key);
        if let Some(name) = self.live.remove(&(facts.changed, facts.key)) {
            self.names.remove(&name);
        }
    }

    pub(super) fn leave(&mut self, key: InstanceKey, name: &SharedName, position: Position) {
        self.gone.insert((position, key), name.clone());
        while self.gone.len() > limits::TOMBSTONES_MAX {
            if let Some(((position, _), _)) = self.gone.pop_first() {
                self.floor = self.floor.max(position);
            }
        }
    }

    /// Forgets what left; older readers get the complete scope.
    pub(in crate::state) fn forget(&mut self, position: Position) {
        self.gone.clear();
        self.floor = self.floor.max(position);
    }

    /// Whether the agent holds nothing.
    pub(in crate::state) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(in crate::state) fn len(&self) -> usize {
        self.live.len()
    }

    pub(in crate::state) fn names(&self) -> &BTreeSet<SharedName> {
        &self.names
    }

    pub(in crate::state) fn open(&self) -> impl Iterator<Item = (InstanceKey, &SharedName, Generation, Trigger)> {
        self.open.iter().map(|(key, (name, generation, trigger))| (*key, name, *generation, *trigger))
    }

    /// The newest change.
    pub(in crate::state) fn changed(&self) -> Position {
        let live = self.live.last_key_value().map(|((position, _), _)| *position);
        let gone = self.gone.last_key_value().map(|((position, _), _)| *position);
        live.max(gone).unwrap_or(Position::START)
    }

    /// At most `limit` entries after a place, in the order of change; what left up to `gone_after` is left out.
    pub(in crate::state) fn after(
        &self,
        place: (Position, InstanceKey),
        gone_after: Position,
        limit: usize,
    ) -> Vec<Entry<'_>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (Excluded(place), Unbounded);
        let live = self.live.range(range).map(|(at, name)| (*at, name, true));
        let gone = self.gone.range(range).filter(|((position, _), _)| *position > gone_after);
        let mut page: Vec<_> = live.take(limit).collect();
        page.extend(gone.map(|(at, name)| (*at, name, false)).take(limit));
        page.sort_by_key(|(at, ..)| *at);
        page.truncate(limit);
        page
    }
}
