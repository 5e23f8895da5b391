//! `Debug` for messages that carry a secret, without the secret.
//!
//! It refuses to print a join secret, a proof or the body of a forwarded call, which may hold either.

use std::fmt;

use crate::internal::v1::{ForwardRequest, ForwardResponse, ProveDataKeyResponse};
use crate::v1::{CreateTokenResponse, JoinAgentRequest, JoinNodeRequest};

impl fmt::Debug for JoinAgentRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAgentRequest")
            .field("token_id", &self.token_id)
            .field("agent", &self.agent)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinNodeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinNodeRequest")
            .field("token_id", &self.token_id)
            .field("node", &self.node)
            .field("raft_address", &self.raft_address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CreateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateTokenResponse").field("token", &self.token).field("at", &self.at).finish_non_exhaustive()
    }
}

impl fmt::Debug for ForwardRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardRequest")
            .field("id", &self.id)
            .field("actor", &self.actor)
            .field("method", &self.method)
            .field("message_octets", &self.message.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ForwardResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardResponse")
            .field("id", &self.id)
            .field("message_octets", &self.message.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ProveDataKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProveDataKeyResponse").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let canary = "c4n4ry";
        let printed = [
            format!("{:?}", JoinAgentRequest { token_secret: canary.into(), ..Default::default() }),
            format!("{:?}", JoinNodeRequest { token_secret: canary.into(), ..Default::default() }),
            format!("{:?}", CreateTokenResponse { secret: canary.into(), ..Default::default() }),
            format!("{:?}", ForwardRequest { message: canary.into(), ..Default::default() }),
            format!("{:?}", ForwardResponse { message: canary.into(), ..Default::default() }),
            format!("{:?}", ProveDataKeyResponse { proof: canary.into() }),
        ];
        for text in printed {
            assert!(!text.contains(canary) && !text.contains("99, 52"), "{text}");
        }
    }
}
