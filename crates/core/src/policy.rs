//! Policy.
//!
//! To be filled.

use crate::ids::Actor;

/// An actor that was authorised for what it asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorizedActor(Actor);

impl AuthorizedActor {
    /// Who it is.
    pub fn actor(&self) -> &Actor {
        &self.0
    }
}
