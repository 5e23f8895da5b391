//! Who calls, and whether the role allows it.
//!
//! It refuses rules of its own: `core::policy::authorize` holds them, this is where doors ask before they read.

use certwright_core::policy::{self, Action, Resource};
use tonic::{Request, Status};

use crate::listener::Caller;
use crate::refuse;

/// Who sent a request, as the connection proved it.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    // Absent only when a service is mounted on a port that is not ours.
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::internal("the connection has no caller"))
}

/// Lets the caller go on, or refuses with UNAUTHENTICATED or PERMISSION_DENIED.
pub(crate) fn allow(caller: &Caller, action: Action, resource: &Resource) -> Result<(), Status> {
    policy::authorize(&caller.actor, action, resource).map(drop).map_err(refuse::status)
}
