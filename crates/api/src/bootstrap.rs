//! The birth of a cluster: its id, its first server, its system authority and its first administrator.
//!
//! It refuses to happen twice: killed at any step it is taken up again, and a finished one changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use certwright_core::event::NodeRecord;
use certwright_core::ids::{ClusterId, NodeName};
use certwright_core::x509::Names;
use certwright_core::{Reason, Rejection};
use certwright_custody::{LeafKey, NodeSeal};
use certwright_issuance::order::{Bootstrap, BootstrapAnswer, IdentityAnswer};
use certwright_proto::identity;
use certwright_raft::Member;
use certwright_seams::{Entropy, Seams};
use rustls::pki_types::CertificateDer;

use crate::data_dir::{DataDir, Phase, Record};
use crate::node::{Advertise, Listen, NodeConfig, Rooms};
use crate::tls;

/// The usual ports on loopback: API, internal, HTTP.
const PORTS: (u16, u16, u16) = (7443, 7444, 7480);
/// A single voter elects itself at once; this covers a slow disk.
const LEADERSHIP_TIMEOUT: Duration = Duration::from_secs(30);
/// The name of the first administrator.
pub const ADMINISTRATOR: &str = "admin";

/// What the first administrator needs to reach its cluster.
pub struct Administrator {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// `administrator/admin`.
    pub name: String,
    /// The API address of the first server.
    pub server: String,
    /// The system authority's certificate, PEM.
    pub ca_pem: String,
    /// The administrator's certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PKCS#8 PEM.
    pub key: LeafKey,
}

/// Creates a cluster in a data directory, unless one is there. `keep` must store the administrator's context for good:
/// what it was given cannot be had again once it has returned.
pub async fn bootstrap(
    config: &NodeConfig,
    seams: Seams,
    keep: impl FnOnce(&Administrator) -> Result<(), Rejection>,
) -> Result<Record, Rejection> {
    let data = DataDir::open(&config.data, seams.disk.clone())?;
    let mut record = match data.record()? {
        Some(record) if record.phase == Phase::Member => return Ok(record),
        Some(record) if record.phase == Phase::Bootstrapping => record,
        Some(record) if record.phase == Phase::Restoring => return Err(data.unfinished()),
        Some(_) => return Err(crate::data_dir::foreign("the data directory", "it is joining a cluster")),
        None => begin(config, &data, &seams)?,
    };
    settle(config, &data, &mut record, &seams, keep).await?;
    Ok(record)
}

/// Founds what is not founded yet, keeps the certificates and the administrator's context, and makes the directory a
/// member's.
pub(crate) async fn settle(
    config: &NodeConfig,
    data: &DataDir,
    record: &mut Record,
    seams: &Seams,
    keep: impl FnOnce(&Administrator) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let answer = found(config, data, record, seams).await?;
    let chain = chain_der(&answer.node);
    data.write_certificates(pem(&chain).as_bytes())?;
    let administrator = Administrator {
        cluster_id: record.cluster()?,
        name: format!("administrator/{ADMINISTRATOR}"),
        server: addresses(config, record)?.api,
        ca_pem: pem(&chain[chain.len() - 1..]),
        certificate_pem: pem(&chain_der(&answer.administrator)[..1]),
        key: data.administrator_key()?,
    };
    keep(&administrator)?;
    record.phase = Phase::Member;
    record.log_created = true;
    data.write_record(record)?;
    data.forget_administrator_key()
}

/// Draws the cluster's id and writes down that it is being created.
fn begin(config: &NodeConfig, data: &DataDir, seams: &Seams) -> Result<Record, Rejection> {
    let record = fresh_record(config, draw_cluster_id(&*seams.entropy), 1, 1, Phase::Bootstrapping)?;
    data.write_record(&record)?;
    Ok(record)
}

/// A cluster's id is the host of every identity's URI, and a host may not end in a number (`x509::names::check_dns`): one
/// of digits alone, of which there is one in three million, is drawn again.
fn draw_cluster_id(entropy: &dyn Entropy) -> ClusterId {
    loop {
        let mut octets = [0; 16];
        entropy.fill(&mut octets);
        let id = ClusterId(octets);
        if id.to_string().bytes().any(|digit| digit.is_ascii_alphabetic()) {
            return id;
        }
    }
}

/// Opens the log as its only voter and has the leader's rooms create everything.
async fn found(
    config: &NodeConfig,
    data: &DataDir,
    record: &Record,
    seams: &Seams,
) -> Result<BootstrapAnswer, Rejection> {
    let key = data.node_key()?;
    let registry = prometheus::Registry::new();
    let rooms = Rooms::open(config, record, data, provisional(record, &key)?, &registry, seams).await?;
    let founded = async {
        let node = node_record(config, record, &key, &rooms.seal)?;
        let me = Member { node_id: node.id, address: node.raft_address.clone(), spki_hash: node.spki_hash };
        rooms.log.initialize(me).await.map_err(|error| internal("consensus did not start", &error))?;
        let mut leadership = rooms.log.leadership();
        tokio::time::timeout(LEADERSHIP_TIMEOUT, leadership.wait_for(|it| it.ready))
            .await
            .map_err(|error| internal("the first server did not become leader", &error))?
            .map_err(|error| internal("the log ended", &error))?;
        let order = Bootstrap {
            cluster_id: record.cluster()?,
            epoch: record.epoch,
            node,
            node_spki: key.public_key().spki_der().to_vec(),
            administrator_csr: request(&data.administrator_key()?)?,
        };
        let answer = rooms.control.bootstrap(order).await?;
        if record.epoch > 1 {
            // Agents that have seen the epoch before want to see a checkpoint of this one.
            rooms.control.checkpoint().await?;
        }
        Ok(answer)
    }
    .await;
    rooms.log.shutdown().await;
    founded
}

/// The server as the cluster will know it.
pub(crate) fn node_record(
    config: &NodeConfig,
    record: &Record,
    key: &LeafKey,
    seal: &NodeSeal,
) -> Result<NodeRecord, Rejection> {
    let addresses = addresses(config, record)?;
    Ok(NodeRecord {
        id: record.node_id,
        name: record.node_name()?,
        raft_address: addresses.raft,
        api_address: addresses.api,
        http_address: addresses.http,
        spki_hash: key.spki_hash(),
        hpke_public: seal.public().to_vec(),
    })
}

/// Before the system authority exists the log runs alone under a certificate of its own.
fn provisional(record: &Record, key: &LeafKey) -> Result<std::sync::Arc<rustls::sign::CertifiedKey>, Rejection> {
    let uri = identity::format_uri(record.cluster()?, &certwright_core::ids::Actor::Node(record.node_id))
        .expect("nodes have an identity");
    let mut params = rcgen::CertificateParams::default();
    let uri = uri.try_into().map_err(|error| internal("the identity cannot be written", &error))?;
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let pkcs8 = key.to_pkcs8().map_err(|error| internal("the key cannot be used", &error))?;
    let signer = rcgen::KeyPair::try_from(pkcs8.as_slice());
    let signer = signer.map_err(|error| internal("the key cannot be used", &error))?;
    let certificate = params.self_signed(&signer).map_err(|error| internal("cannot sign for itself", &error))?;
    tls::certified_key(vec![certificate.der().clone()], key)
}

/// A PKCS #10 request that proves possession of a key; its names are not read.
pub(crate) fn request(key: &LeafKey) -> Result<Vec<u8>, Rejection> {
    key.request(&Names::default()).map_err(|error| internal("cannot make a request", &error))
}

/// A record for a new data directory.
pub(crate) fn fresh_record(
    config: &NodeConfig,
    cluster: ClusterId,
    node_id: u64,
    epoch: u64,
    phase: Phase,
) -> Result<Record, Rejection> {
    let Listen { api, raft, http } = config.listen;
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let listen = [(api, PORTS.0), (raft, PORTS.1), (http, PORTS.2)].map(|(asked, port)| asked.unwrap_or(local(port)));
    if listen.iter().any(|address| address.port() == 0) {
        return Err(Rejection::field(Reason::Usage, "listen", "a server keeps its ports: choose them"));
    }
    let name = config.name.clone().map_or_else(|| NodeName::parse("server-1"), Ok)?;
    Ok(Record {
        version: 1,
        cluster_id: cluster.to_string(),
        node_id,
        epoch,
        name: name.to_string(),
        phase,
        api_listen: listen[0].to_string(),
        raft_listen: listen[1].to_string(),
        http_listen: listen[2].to_string(),
        log_created: false,
    })
}

/// The addresses under which others will find the server.
pub(crate) struct Reachable {
    pub(crate) api: String,
    pub(crate) raft: String,
    pub(crate) http: String,
}

/// What is advertised: as configured, else where it listens; a wildcard address is no place to connect to.
pub(crate) fn addresses(config: &NodeConfig, record: &Record) -> Result<Reachable, Rejection> {
    let pick = |asked: &Option<String>, listen: &str, what: &str| match asked {
        Some(address) => Ok(address.clone()),
        None if listen.parse::<SocketAddr>().is_ok_and(|it| is_wildcard(it.ip())) => Err(Rejection::field(
            Reason::Usage,
            format!("advertise-{what}"),
            format!("the server listens on {listen}: say under which address others reach it"),
        )),
        None => Ok(listen.to_owned()),
    };
    let Advertise { api, raft, http } = &config.advertise;
    Ok(Reachable {
        api: pick(api, &record.api_listen, "api")?,
        raft: pick(raft, &record.raft_listen, "raft")?,
        http: pick(http, &record.http_listen, "http")?,
    })
}

fn is_wildcard(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

/// An identity with the authorities above it, DER.
fn chain_der(identity: &IdentityAnswer) -> Vec<CertificateDer<'static>> {
    let parts = std::iter::once(&identity.certificate).chain(&identity.chain);
    parts.map(|der| CertificateDer::from(der.to_vec())).collect()
}

/// Certificates as PEM text.
pub(crate) fn pem(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|der| certwright_core::x509::pem::certificate(der)).collect()
}

pub(crate) fn internal(what: &str, why: &dyn std::fmt::Display) -> Rejection {
    Rejection::new(Reason::Internal, format!("{what}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Draws digits the first time, letters the second.
    #[derive(Debug)]
    struct Drawn(AtomicU8);

    impl Entropy for Drawn {
        fn fill(&self, octets: &mut [u8]) {
            octets.fill(if self.0.fetch_add(1, Ordering::Relaxed) == 0 { 0x42 } else { 0xab });
        }
    }

    #[test]
    fn a_cluster_id_can_stand_in_a_uri() {
        let id = draw_cluster_id(&Drawn(AtomicU8::new(0)));
        assert_eq!(id, ClusterId([0xab; 16]));
        let uri = identity::format_uri(id, &certwright_core::ids::Actor::Node(1)).expect("nodes have an identity");
        assert_eq!(certwright_core::x509::names::check_uri(&uri), Ok(()));
        assert!(certwright_core::x509::names::check_uri(&uri.replace("ab", "42")).is_err());
    }
}
