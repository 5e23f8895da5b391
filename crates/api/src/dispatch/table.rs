//! Every command by its path, as forwarded ones arrive: decode, run, encode.
//!
//! It refuses what is not in the table; a command that is missing here works on the leader only, which a test notices.

use std::sync::Arc;

use bytes::Bytes;
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::Call;
use prost::Message;
use tracing::Instrument;

use super::Method;
use crate::doors::Doors;
use crate::limits::COMMAND_TIMEOUT;
use crate::services::{agents, authorities, certificates, cluster, issue, issuers, join, tokens};
use crate::session::{AdoptHeld, ReadmitAgent, RenewAgentIdentity, Report, SubmitCsr};
use crate::trace;

macro_rules! table {
    ($($method:ty),* $(,)?) => {
        /// Every path that can be forwarded.
        #[cfg(test)]
        pub(crate) const PATHS: &[&str] = &[$(<$method>::PATH),*];

        /// Runs a forwarded command on this server, which leads.
        pub(crate) async fn run_encoded(
            doors: &Arc<Doors>,
            path: &str,
            call: Call,
            message: Bytes,
        ) -> Result<Bytes, Rejection> {
            $(if path == <$method>::PATH {
                return run_one::<$method>(doors, call, message).await;
            })*
            Err(Rejection::new(Reason::NotYetSupported, format!("this build knows no command {path:?}")))
        }
    };
}

table![
    issue::Issue,
    SubmitCsr,
    Report,
    RenewAgentIdentity,
    ReadmitAgent,
    AdoptHeld,
    certificates::CreateCertificate,
    certificates::UpdateCertificate,
    certificates::DeleteCertificate,
    certificates::RenewCertificate,
    issuers::CreateIssuer,
    issuers::UpdateIssuer,
    issuers::DeleteIssuer,
    authorities::CreateAuthority,
    agents::UpdateAgent,
    agents::DeleteAgent,
    tokens::CreateToken,
    tokens::RevokeToken,
    cluster::ReadIndex,
    cluster::RequestDigest,
    cluster::RenewIdentity,
    cluster::RemoveNode,
    cluster::TransferLeadership,
    cluster::SetNodeRole,
    cluster::ReleaseRenewals,
    cluster::RebaseTime,
    cluster::SetRetention,
    join::JoinAgent,
    join::JoinNode,
];

async fn run_one<M: Method>(doors: &Arc<Doors>, call: Call, message: Bytes) -> Result<Bytes, Rejection> {
    let request = M::Request::decode(message)
        .map_err(|error| Rejection::new(Reason::Internal, format!("a forwarded message cannot be read: {error}")))?;
    let span = tracing::info_span!("lead", rpc.method = M::PATH);
    let call = Call { trace: trace::adopt(&span, call.trace), ..call };
    let run = tokio::time::timeout(COMMAND_TIMEOUT, M::run(doors, call, request).instrument(span)).await;
    let unknown = || Rejection::new(Reason::OutcomeUnknown, "the command was not committed in time");
    let response = run.unwrap_or_else(|_| Err(unknown()))?;
    Ok(response.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::PATHS;

    #[test]
    fn paths_are_unique() {
        let mut sorted = PATHS.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), PATHS.len());
    }
}
