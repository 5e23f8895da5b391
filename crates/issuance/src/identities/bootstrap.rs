//! The birth of a cluster, in steps each of which looks first whether it was done.
//!
//! It refuses a second cluster: a log that belongs to another one is not bootstrapped again.

use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::ids::{Actor, AdministratorName};
use certwright_core::log::Trace;
use certwright_core::spec::{AuthorityPurpose, AuthoritySpec, KeyAlgorithm};
use certwright_core::x509::spki_hash;
use certwright_core::{Reason, Rejection};
use certwright_custody::{Custody, DataKey};

use super::{existing, record, sign, system_authority};
use crate::authorities;
use crate::fault::{self, Point};
use crate::order::{Bootstrap, BootstrapAnswer, Call, IdentityAnswer};
use crate::session::{Session, not_leader};

/// Life of the system authority.
const SYSTEM_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The first administrator.
const ADMINISTRATOR: &str = "admin";

/// Creates the cluster, its data key, its system authority and the first identities; finishes what a killed attempt
/// began, and answers the same again when nothing is left to do.
pub(crate) async fn bootstrap(session: &Session, order: Bootstrap) -> Result<BootstrapAnswer, Rejection> {
    create_cluster(session, &order).await?;
    fault::point(Point::AfterStep);
    let trace = Trace::default();
    let node = order.node.id;
    let unproved = |view: &certwright_raft::View<'_, certwright_core::State>| {
        let cluster = &view.state.cluster;
        cluster.nodes.get(&node).is_some_and(|node| node.proved.is_none()).then_some(cluster.data_key_id)
    };
    if let Some(data_key_id) = session.tools.log.read(unproved) {
        session.act(trace, Command::ProveDataKey { node_id: node, data_key_id }).await?;
    }
    fault::point(Point::AfterStep);
    create_system_authority(session, trace).await?;
    fault::point(Point::AfterStep);
    let node = identity(session, &Actor::Node(node), order.node_spki).await?;
    fault::point(Point::AfterStep);
    let administrator = Actor::Administrator(AdministratorName::parse(ADMINISTRATOR)?);
    let verified = session.verify(order.administrator_csr).await?;
    let administrator = identity(session, &administrator, verified.spki_der().to_vec()).await?;
    Ok(BootstrapAnswer { administrator, node })
}

async fn create_cluster(session: &Session, order: &Bootstrap) -> Result<(), Rejection> {
    match session.tools.log.read(|view| view.state.cluster.id) {
        Some(id) if id == order.cluster_id => return Ok(()),
        Some(id) => return Err(Rejection::new(Reason::AlreadyExists, format!("this is cluster {id} already"))),
        None => {}
    }
    let data_key = DataKey::generate(&*session.tools.seams.entropy);
    let wrapped = certwright_custody::wrap(&data_key, order.cluster_id, order.node.id, &order.node.hpke_public)?;
    let command = Command::BootstrapCluster {
        cluster_id: order.cluster_id,
        epoch: order.epoch,
        node: Box::new(order.node.clone()),
        data_key_id: data_key.id(),
        wrapped,
    };
    session.act(Trace::default(), command).await?;
    session.tools.custody.unlock(data_key);
    if session.over.is_cancelled() {
        // The term ended meanwhile, and with it went the right to hold keys.
        session.tools.custody.lock();
        return Err(not_leader());
    }
    Ok(())
}

async fn create_system_authority(session: &Session, trace: Trace) -> Result<(), Rejection> {
    let name = system_authority()?;
    if session.tools.log.read(|view| view.state.authorities.get(&name).is_some()) {
        authorities::certify(session, trace, &name).await?;
        return Ok(());
    }
    let spec = AuthoritySpec {
        common_name: "certwright system".to_owned(),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        parent: None,
        duration: SYSTEM_DURATION,
        path_len: Some(0),
        purpose: AuthorityPurpose::System,
    };
    authorities::create(session, Call { trace, ..Call::by(Actor::System) }, name, spec).await?;
    Ok(())
}

/// The actor's identity for that key: the one there is, or a new one.
async fn identity(session: &Session, actor: &Actor, spki_der: Vec<u8>) -> Result<IdentityAnswer, Rejection> {
    if let Some((_, answer)) = existing(session, actor, spki_hash(&spki_der)).await? {
        return Ok(answer);
    }
    let hosts = session.tools.log.read(|view| match actor {
        Actor::Node(id) => view.state.cluster.nodes.get(id).map(|node| super::hosts(&node.record)).unwrap_or_default(),
        _ => Vec::new(),
    });
    let (identity, signer) = sign(session, actor, spki_der, hosts).await?;
    let outcome = record(session, Call::by(Actor::System), actor, identity.clone()).await?;
    Ok(super::answer(actor, &identity, &signer, outcome.position))
}
