//! certwright's protobuf messages (public API, agent session, between servers, storage) and all conversions to and
//! from the domain.
//!
//! It refuses decisions and IO: what a message means is `core`'s business, who may send it is the doors'.

pub mod api;
pub mod identity;
pub mod join_token;
pub mod manifest;
mod redacted;
pub mod status;
pub mod storage;
pub mod token;

/// The public API, `certwright.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; documented in the .proto files")]
pub mod v1 {
    tonic::include_proto!("certwright.v1");
}

/// The session between agents and servers.
pub mod agent {
    /// Package `certwright.agent.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; documented in the .proto files")]
    pub mod v1 {
        tonic::include_proto!("certwright.agent.v1");
    }
}

/// What servers say to each other.
pub mod internal {
    /// Package `certwright.internal.v1`.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; documented in the .proto files")]
    pub mod v1 {
        tonic::include_proto!("certwright.internal.v1");
    }
}

/// Largest message of any service, on either side: gRPC's customary bound; lists stay below it by paging.
pub const MESSAGE_OCTETS_MAX: usize = 4 * 1024 * 1024;

/// Every message and service as an encoded `FileDescriptorSet`, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
