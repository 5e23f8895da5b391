//! One agent's scope: what it holds, by change and by name, what waits for its CSRs, and what left lately.
//!
//! It refuses to remember everything that left: below the floor the agent reads the complete scope.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::Facts;
use super::due::Held;
use crate::event::Trigger;
use crate::ids::{CertificateName, Generation, InstanceId};
use crate::limits;
use crate::log::Position;

/// Where in an agent's feed an instance is: when it last changed, its certificate (none stands before all), its number.
/// Flat, because there is one for each instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::state) struct Place {
    index: u64,
    ordinal: u32,
    pub(in crate::state) number: u32,
    pub(in crate::state) name: Option<CertificateName>,
}

impl Place {
    pub(in crate::state) fn new(position: Position, name: CertificateName, number: u32) -> Self {
        Self { index: position.index, ordinal: position.ordinal, number, name: Some(name) }
    }

    /// Before everything after this position.
    pub(in crate::state) fn behind(position: Position) -> Self {
        let (index, ordinal) = match position.ordinal.checked_add(1) {
            Some(ordinal) => (position.index, ordinal),
            None => (position.index.saturating_add(1), 0),
        };
        Self { index, ordinal, number: 0, name: None }
    }

    pub(in crate::state) fn position(&self) -> Position {
        Position { index: self.index, ordinal: self.ordinal }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = |place: &Self| (place.index, place.ordinal);
        let numbers = || self.number.cmp(&other.number);
        parts(self).cmp(&parts(other)).then_with(|| self.name.cmp(&other.name)).then_with(numbers)
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(in crate::state) struct Scope {
    /// By last change.
    live: BTreeSet<Place>,
    /// By name.
    names: BTreeSet<CertificateName>,
    /// Issuances under way.
    open: BTreeMap<Held, (Generation, Trigger)>,
    /// What left, by when.
    gone: BTreeMap<Place, InstanceId>,
    /// What left up to here is forgotten.
    pub(in crate::state) floor: Position,
}

/// An entry of a scope: its place, and its id if it left.
pub(in crate::state) type Entry<'a> = (&'a Place, Option<InstanceId>);

/// What an agent holds, in any order.
#[derive(Default)]
pub(super) struct Rows {
    live: Vec<Place>,
    names: Vec<CertificateName>,
    open: Vec<(Held, (Generation, Trigger))>,
}

impl Rows {
    pub(super) fn add(&mut self, name: &CertificateName, facts: &Facts) {
        self.live.push(Place::new(facts.changed, name.clone(), facts.number));
        self.names.push(name.clone());
        if let Some(open) = facts.open {
            self.open.push(((name.clone(), facts.number), (open.generation, open.trigger)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

impl Scope {
    /// A scope with these, of which nothing left yet.
    pub(super) fn of(floor: Position, rows: Rows) -> Self {
        let Rows { live, names, open } = rows;
        let (live, names) = (live.into_iter().collect(), names.into_iter().collect());
        Self { live, names, open: open.into_iter().collect(), ..Self::new(floor) }
    }

    pub(super) fn new(floor: Position) -> Self {
        Self { floor, ..Self::default() }
    }

    pub(super) fn put(&mut self, name: &CertificateName, facts: &Facts) {
        self.live.insert(Place::new(facts.changed, name.clone(), facts.number));
        self.names.insert(name.clone());
        if let Some(open) = facts.open {
            self.open.insert((name.clone(), facts.number), (open.generation, open.trigger));
        }
    }

    pub(super) fn take(&mut self, name: &CertificateName, facts: &Facts) {
        self.live.remove(&Place::new(facts.changed, name.clone(), facts.number));
        self.names.remove(name);
        if facts.open.is_some() {
            self.open.remove(&(name.clone(), facts.number));
        }
    }

    /// An instance that is there changed.
    pub(super) fn change(&mut self, name: &CertificateName, before: &Facts, after: &Facts) {
        if (before.changed, before.number) != (after.changed, after.number) {
            self.live.remove(&Place::new(before.changed, name.clone(), before.number));
            self.live.insert(Place::new(after.changed, name.clone(), after.number));
        }
        if (before.open, before.number) != (after.open, after.number) {
            if before.open.is_some() {
                self.open.remove(&(name.clone(), before.number));
            }
            if let Some(open) = after.open {
                self.open.insert((name.clone(), after.number), (open.generation, open.trigger));
            }
        }
    }

    /// An instance left the scope at `position`.
    pub(in crate::state) fn leave(&mut self, name: &CertificateName, id: InstanceId, position: Position) {
        self.gone.insert(Place::new(position, name.clone(), id.number), id);
        while self.gone.len() > limits::TOMBSTONES_MAX {
            if let Some((place, _)) = self.gone.pop_first() {
                self.floor = self.floor.max(place.position());
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

    pub(in crate::state) fn names(&self) -> &BTreeSet<CertificateName> {
        &self.names
    }

    pub(in crate::state) fn open(&self) -> impl Iterator<Item = (&CertificateName, u32, Generation, Trigger)> {
        self.open.iter().map(|((name, number), (generation, trigger))| (name, *number, *generation, *trigger))
    }

    /// The newest change; what is forgotten of those that left may be one.
    pub(in crate::state) fn changed(&self) -> Position {
        let live = self.live.last().map(Place::position);
        let gone = self.gone.last_key_value().map(|(place, _)| place.position());
        live.max(gone).map_or(self.floor, |newest| newest.max(self.floor))
    }

    /// At most `limit` entries behind a place, in the order of change; what left up to `gone_after` is left out.
    pub(in crate::state) fn after(&self, place: &Place, gone_after: Position, limit: usize) -> Vec<Entry<'_>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let live = self.live.range((Excluded(place), Unbounded)).map(|place| (place, None));
        let gone = self.gone.range((Excluded(place), Unbounded)).map(|(place, id)| (place, Some(*id)));
        let gone = gone.filter(|(place, _)| place.position() > gone_after);
        let mut page: Vec<_> = live.take(limit).collect();
        page.extend(gone.take(limit));
        page.sort_by(|a, b| a.0.cmp(b.0));
        page.truncate(limit);
        page
    }
}
