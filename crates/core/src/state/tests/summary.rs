//! What the indexes hold, in a form in which live and rebuilt ones are equal: without tombstones, floors, and the
//! difference between calendar and queue.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Trigger;
use crate::ids::{AgentName, CertificateName, Generation, Namespace};
use crate::log::Position;
use crate::state::indexes::due::Held;
use crate::state::indexes::holders::Holders;
use crate::state::indexes::scope::{Place, Scope};
use crate::state::{Counts, State};

/// One agent's scope: by change, by name, open.
type ScopeSummary = (Vec<Place>, BTreeSet<CertificateName>, Vec<(Held, Generation, Trigger)>);

#[derive(PartialEq, Debug)]
pub(super) struct Summary<'a> {
    namespaces: &'a BTreeMap<Namespace, usize>,
    due: BTreeSet<Held>,
    scopes: BTreeMap<AgentName, ScopeSummary>,
    holders: &'a Holders,
    counts: Counts,
}

impl State {
    pub(super) fn summary(&self) -> Summary<'_> {
        let scopes = self.indexes.scopes.iter().filter(|(_, scope)| !scope.is_empty());
        let summarize = |(agent, scope): (&AgentName, &Scope)| {
            let last = Position { index: u64::MAX, ordinal: u32::MAX };
            let live = scope.after(&Place::behind(Position::START), last, usize::MAX).into_iter();
            let open =
                scope.open().map(|(name, number, generation, trigger)| ((name.clone(), number), generation, trigger));
            (agent.clone(), (live.map(|(place, _)| place.clone()).collect(), scope.names().clone(), open.collect()))
        };
        Summary {
            namespaces: &self.indexes.namespaces,
            due: self.indexes.due.members(),
            scopes: scopes.map(summarize).collect(),
            holders: &self.indexes.holders,
            counts: self.indexes.counts,
        }
    }
}
