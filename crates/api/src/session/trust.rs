//! The roots that certificates of this estate chain to, announced to agents before anything that chains to them.
//!
//! It refuses the system authority: identities are none of what agents deliver.

use certwright_core::State;
use certwright_core::spec::AuthorityPurpose;
use certwright_core::state::Authority;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{TrustBundle, TrustedRoot};

use super::{Over, Session};

/// What was announced last on a session; it changes whenever the list may have changed.
pub(super) type Announced = Option<u64>;

impl Session {
    /// Announces the roots, unless they are those announced last on this session.
    pub(super) async fn announce(&self, last: Announced) -> Result<Announced, Over> {
        let epoch = self.doors.epoch;
        let (mark, bundle) = self.doors.log.read(|view| {
            let mark = mark(view.state);
            (mark, (mark != last).then(|| bundle(view.state, epoch, view.position.index)))
        });
        if let Some(bundle) = bundle {
            self.send(Down::TrustBundle(bundle), String::new()).await?;
        }
        Ok(mark)
    }
}

/// Authorities are never removed and their revisions only grow, so this grows with every change.
pub(super) fn mark(state: &State) -> Announced {
    Some(roots(state).map(|root| root.revision).sum())
}

/// Authorities that certificates of the estate end at.
fn roots(state: &State) -> impl Iterator<Item = &Authority> {
    let issuing = |it: &&Authority| it.spec.purpose == AuthorityPurpose::Issuing && it.spec.parent.is_none();
    state.authorities.iter().filter(issuing)
}

fn bundle(state: &State, epoch: u64, index: u64) -> TrustBundle {
    let root = |root: &Authority| {
        let certificate = root.certified.as_ref()?.certificate.to_vec().into();
        Some(TrustedRoot { authority: root.name.to_string(), certificate })
    };
    TrustBundle { epoch, index, roots: roots(state).filter_map(root).collect() }
}
