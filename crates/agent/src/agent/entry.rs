//! One instance as the loop knows it: wish, what is here, and what is being done about it.
//!
//! It refuses DER: that is on disk, and a thousand instances must fit into little memory.

use std::time::Duration;

use certwright_core::ids::CertificateName;

use crate::failure::Failure;
use crate::plan::{Attempt, Held, Request, Wish};

/// One instance.
pub(super) struct Entry {
    pub(super) certificate: CertificateName,
    pub(super) wish: Wish,
    pub(super) held: Held,
    pub(super) request: Request,
    /// Whether a delivery is under way.
    pub(super) delivering: bool,
    /// Share of the sum that a resume token belongs to.
    pub(super) sum: u64,
    /// W3C trace context of what made the servers speak of it last.
    pub(super) traceparent: String,
    /// The newest generation that this process has seen or found installed: only a newer one is news.
    pub(super) known: u64,
    /// Epoch of the restored log whose servers were told again what is installed; 0 before.
    pub(super) vouched_in: u64,
    /// When the newest generation came, by the monotonic clock.
    pub(super) received_at: Duration,
}

impl Entry {
    pub(super) fn new(certificate: CertificateName, wish: Wish, held: Held, received_at: Duration) -> Self {
        let known = held.targets.values().map(|installed| installed.generation).max().unwrap_or(0);
        Self {
            certificate,
            wish,
            held,
            request: Request::Idle,
            delivering: false,
            sum: 0,
            traceparent: String::new(),
            known,
            vouched_in: 0,
            received_at,
        }
    }

    pub(super) fn issued_generation(&self) -> u64 {
        self.wish.issued.as_ref().map_or(0, |issued| issued.generation)
    }

    /// The newest generation that is no news.
    pub(super) fn known_generation(&self) -> u64 {
        self.known
    }

    /// Whether the request on its way is no longer the question: it was answered, or its issuance ended otherwise.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.request, Request::Sent { generation, .. } if generation != self.wish.wanted_generation)
    }

    /// The issued generation is not what it should be: every target waits before it is tried again.
    pub(super) fn on_unverified(&mut self, generation: u64, failure: &Failure, now: Duration) {
        self.held.refused = Some((generation, failure.reason));
        for target in &self.wish.targets {
            let before = self.held.attempts.get(&target.name).copied();
            self.held.attempts.insert(target.name.clone(), Attempt::after(before, generation, now));
        }
    }

    pub(super) fn is_making(&self) -> bool {
        self.request == Request::Making
    }

    /// A request on its way is sent again; a refusal stays one.
    pub(super) fn on_down(&mut self) {
        if matches!(self.request, Request::Sent { .. }) {
            self.request = Request::Idle;
        }
    }
}
