//! What the indexes hold, in a form in which live and rebuilt ones are equal: without tombstones, floors, and the
//! difference between calendar and queue.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Trigger;
use crate::ids::{AgentName, Generation, Namespace};
use crate::log::Position;
use crate::state::indexes::holders::Holders;
use crate::state::indexes::{InstanceKey, SharedName};
use crate::state::{Counts, State};

/// One agent's scope: by change, by name, open.
type ScopeSummary = (
    Vec<((Position, InstanceKey), SharedName)>,
    BTreeSet<SharedName>,
    Vec<(InstanceKey, SharedName, Generation, Trigger)>,
);

#[derive(PartialEq, Debug)]
pub(super) struct Summary<'a> {
    names: &'a BTreeSet<SharedName>,
    namespaces: &'a BTreeMap<Namespace, usize>,
    due: BTreeSet<(InstanceKey, SharedName)>,
    scopes: BTreeMap<AgentName, ScopeSummary>,
    holders: &'a Holders,
    counts: Counts,
}

impl State {
    pub(super) fn summary(&self) -> Summary<'_> {
        let scopes = self.indexes.scopes.iter().filter(|(_, scope)| !scope.is_empty());
        let summarize = |(agent, scope): (&AgentName, &crate::state::indexes::scope::Scope)| {
            let start = (Position::START, (0, 0, 0));
            let last = Position { index: u64::MAX, ordinal: u32::MAX };
            let live = scope.after(start, last, usize::MAX).into_iter();
            let open = scope.open().map(|(key, name, generation, trigger)| (key, name.clone(), generation, trigger));
            let live = live.map(|(at, name, _)| (at, name.clone())).collect();
            (agent.clone(), (live, scope.names().clone(), open.collect()))
        };
        Summary {
            names: &self.indexes.names,
            namespaces: &self.indexes.namespaces,
            due: self.indexes.due.members(),
            scopes: scopes.map(summarize).collect(),
            holders: &self.indexes.holders,
            counts: self.indexes.counts,
        }
    }
}
