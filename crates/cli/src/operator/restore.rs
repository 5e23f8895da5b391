//! `operator restore` and `operator raft force-new-cluster`: a cluster goes on as one new server.
//!
//! It refuses to start that server, and to touch what it restores from.

use std::path::Path;
use std::process::ExitCode;

use certwright_api::node::{Advertise, Listen, NodeConfig};
use certwright_api::restore::{Origin, Restored, Terms, restore};
use certwright_core::ids::NodeName;
use certwright_seams::Seams;
use serde_json::{Value, json};

use super::backup::{key, print};
use crate::args::{Global, NewServer, RestoreArgs};
use crate::failure::Failure;
use crate::output::note;
use crate::server::keep;

/// Restores a backup.
pub(super) async fn run(global: &Global, args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let seams = Seams::system();
    let key = key(&*seams.disk, &args.key)?;
    go_on(global, seams, Origin::Backup(&args.file, &key), &args.server).await
}

/// Goes on from one server's data.
pub(super) async fn force(
    global: &Global,
    from: &Path,
    is_sure: bool,
    server: &NewServer,
) -> Result<ExitCode, Failure> {
    if !is_sure {
        return Err(Failure::usage(
            "whatever the other servers had and this one did not is lost for good, acknowledged or not",
            "if they will never be started again, say so with --yes-others-are-lost",
        ));
    }
    go_on(global, Seams::system(), Origin::Survivor(from), server).await
}

async fn go_on(global: &Global, seams: Seams, origin: Origin<'_>, server: &NewServer) -> Result<ExitCode, Failure> {
    let config = config(server)?;
    let file = server.data.join("administrator.context");
    let disk = seams.disk.clone();
    let terms = Terms { epoch: server.epoch, clock_is_right: server.clock_is_right };
    let restored = restore(&config, seams, origin, terms, |administrator| keep(administrator, &*disk, &file)).await?;
    note(&format!("everything after {} is lost; agents will show what they hold that is newer", restored.after));
    if restored.uncommitted > 0 {
        note(&format!("{} entries that this server did not know to be committed are kept", restored.uncommitted));
    }
    note(&format!("administrator's context: {}", file.display()));
    note(&format!("start it: certwright server --data {}; then let others join", server.data.display()));
    let text = format!(
        "cluster {} restored after entry {}: epoch {}, node {}",
        restored.cluster_id, restored.after_index, restored.epoch, restored.node_id
    );
    print(global, &text, &value(&restored))?;
    Ok(ExitCode::SUCCESS)
}

fn config(server: &NewServer) -> Result<NodeConfig, Failure> {
    let mut config = NodeConfig::new(server.data.clone());
    config.name = server.name.as_deref().map(NodeName::parse).transpose()?;
    config.listen = Listen { api: server.grpc, raft: server.raft, http: server.http };
    let told = |listen: Option<std::net::SocketAddr>, usual: u16| {
        server.advertise.as_ref().map(|host| format!("{host}:{}", listen.map_or(usual, |address| address.port())))
    };
    config.advertise =
        Advertise { api: told(server.grpc, 7443), raft: told(server.raft, 7444), http: told(server.http, 7480) };
    Ok(config)
}

/// What was restored, as JSON.
pub(super) fn value(restored: &Restored) -> Value {
    json!({
        "clusterId": restored.cluster_id.to_string(), "epoch": restored.epoch, "nodeId": restored.node_id,
        "afterIndex": restored.after_index, "after": restored.after.to_string(),
        "uncommitted": restored.uncommitted, "events": restored.events, "checkpoints": restored.checkpoints,
        "checkpointsUnknown": restored.checkpoints_unknown,
    })
}
