//! Folding: what each event does to the state. Infallible: an event that does not fit changes nothing.
//!
//! It refuses to decide; whatever it is given has been decided.

use super::{Cut, State};
use crate::event::Event;
use crate::log::{Applied, Fold, Revision, StreamId};

impl Fold for State {
    type Event = Event;
    type Cut = Cut;

    fn revision(&self, _stream: &StreamId) -> Revision {
        0
    }

    fn apply(&mut self, applied: &Applied<'_>, _event: &Event) {
        self.applied = applied.position;
    }

    fn cut(&self) -> Cut {
        self.to_parts()
    }
}
