//! `server`: bootstrap or join when told to, then serve until a signal.
//!
//! It refuses to touch a directory that belongs to another cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use certwright_agent::Context;
use certwright_api::backup::schedule::Schedule;
use certwright_api::bootstrap::Administrator;
use certwright_api::node::{Advertise, Listen, NodeConfig, Timers};
use certwright_api::{Node, bootstrap, join};
use certwright_core::ids::{Actor, NodeName};
use certwright_core::spec::KeyEncoding;
use certwright_core::{Reason, Rejection};
use certwright_custody::backup::Recipient;
use certwright_proto::join_token::FILE_OCTETS_MAX;
use certwright_seams::{Disk, Seams};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Global, ServerArgs};
use crate::failure::Failure;
use crate::output::note;
use crate::telemetry;

/// Runs the verb.
pub async fn run(_: &Global, args: ServerArgs) -> Result<ExitCode, Failure> {
    let seams = Seams::system();
    let telemetry = telemetry::start("certwright-server", &seams)?;
    let outcome = found_and_serve(args, &seams).await;
    telemetry.stop(&*seams.exec).await;
    outcome
}

async fn found_and_serve(args: ServerArgs, seams: &Seams) -> Result<ExitCode, Failure> {
    let config = config(&args)?;
    if args.bootstrap || args.join.is_some() {
        free(&args, seams).await?;
    }
    if args.bootstrap {
        let file = args.data.join("administrator.context");
        bootstrap(&config, seams.clone(), |administrator| keep(administrator, &*seams.disk, &file)).await?;
        note(&format!("administrator's context: {}", file.display()));
    } else if let Some(server) = &args.join {
        let token = token(args.token.as_deref().unwrap_or_default(), &*seams.disk)?;
        let record = join(&config, seams.clone(), server, &token).await?;
        note(&format!("joined cluster {} as {} (node {})", record.cluster_id, record.name, record.node_id));
    }
    let node = Node::start(config, seams.clone()).await?;
    let addresses = node.addresses();
    note(&format!("serving: grpc {} raft {} http {}", addresses.api, addresses.raft, addresses.http));
    serve(node).await
}

/// Serves until a signal, then stops in good order; a port or log that ended by itself is a failure.
async fn serve(mut node: Node) -> Result<ExitCode, Failure> {
    let hear = |kind| signal(kind).map_err(|error| Failure::internal(format!("no signal handler: {error}")));
    let (mut terminate, mut interrupt) = (hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?);
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = node.ended() => {
            let message = format!("{ended} ended by itself; the log above says why");
            return Err(Rejection::new(Reason::StorageFailed, message).into());
        }
    }
    node.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a taken address before a cluster is founded or a token is used for it.
async fn free(args: &ServerArgs, seams: &Seams) -> Result<(), Failure> {
    if seams.disk.exists(&args.data.join("node.json")).unwrap_or(false) {
        return Ok(());
    }
    for (given, usual) in [(args.grpc, 7443), (args.raft, 7444), (args.http, 7480)] {
        let address = given.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], usual)));
        let taken = |error| Rejection::new(Reason::PortInUse, format!("cannot listen on {address}: {error}"));
        seams.net.listen(address).await.map(drop).map_err(taken)?;
    }
    Ok(())
}

fn config(args: &ServerArgs) -> Result<NodeConfig, Failure> {
    let mut config = NodeConfig::new(args.data.clone());
    config.name = args.name.as_deref().map(NodeName::parse).transpose()?;
    config.listen = Listen { api: args.grpc, raft: args.raft, http: args.http };
    let told = |listen: Option<SocketAddr>, usual: u16| {
        args.advertise.as_ref().map(|host| format!("{host}:{}", listen.map_or(usual, |address| address.port())))
    };
    config.renewals_percent = args.renewal_brake;
    (config.segment_octets, config.snapshot_octets) = (args.segment_octets, args.snapshot_octets);

    config.backups = args.backup_dir.clone().zip(args.backup_recipient.as_deref()).map(schedule(args)).transpose()?;
    config.timers = Timers::for_round_trips(args.round_trip);
    config.advertise =
        Advertise { api: told(args.grpc, 7443), raft: told(args.raft, 7444), http: told(args.http, 7480) };
    Ok(config)
}

fn schedule(args: &ServerArgs) -> impl Fn((PathBuf, &str)) -> Result<Schedule, Failure> {
    let (every, keep) = (args.backup_every, usize::from(args.backup_keep));
    move |(directory, recipient)| {
        let recipient = Recipient::parse(recipient).map_err(|error| {
            Failure::usage(
                format!("--backup-recipient: {error}"),
                "make a key pair: certwright operator backup keygen FILE",
            )
        })?;
        Ok(Schedule { directory, recipient, every, keep })
    }
}

/// The first administrator's context, written for good.
pub fn keep(administrator: &Administrator, disk: &dyn Disk, file: &Path) -> Result<(), Rejection> {
    let internal =
        |what: &str, error: &dyn std::fmt::Display| Rejection::new(Reason::Internal, format!("{what}: {error}"));
    let key_pem =
        administrator.key.to_pem(KeyEncoding::Pkcs8).map_err(|error| internal("the key cannot be written", &error))?;
    let context = Context {
        cluster_id: administrator.cluster_id,
        actor: Actor::parse(&administrator.name)
            .ok_or_else(|| internal("the administrator's name", &administrator.name))?,
        servers: vec![administrator.server.clone()],
        ca_pem: administrator.ca_pem.clone(),
        certificate_pem: administrator.certificate_pem.clone(),
        key_pem,
    };
    context.save(disk, file).map_err(|error| Rejection::new(Reason::StorageFailed, error.to_string()))
}

/// A token given as it is, or as `@FILE`.
fn token(given: &str, disk: &dyn Disk) -> Result<String, Failure> {
    let Some(file) = given.strip_prefix('@') else {
        return Ok(given.to_string());
    };
    let octets = disk.read(Path::new(file), FILE_OCTETS_MAX).map_err(|error| Failure::file(file, error))?;
    String::from_utf8(octets).map(|text| text.trim().to_string()).map_err(|error| Failure::file(file, error))
}
