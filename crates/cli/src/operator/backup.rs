//! `operator backup`: keys made, backups written and read.
//!
//! It refuses to overwrite: a backup or a key that is there stays.

use std::path::Path;
use std::process::ExitCode;

use certwright_api::backup::survey::{self, Moment};
use certwright_core::time::Timestamp;
use certwright_custody::backup::{BackupKey, Recipient};
use certwright_proto::manifest;
use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_seams::Seams;
use certwright_seams::disk::{Disk, Open};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::args::{BackupVerb, Format, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Octets of a key file: two lines.
const KEY_OCTETS_MAX: u64 = 4096;
const MODE: u32 = 0o600;

/// Runs the verb.
pub(super) async fn run(global: &Global, verb: BackupVerb) -> Result<ExitCode, Failure> {
    let seams = Seams::system();
    match verb {
        BackupVerb::Keygen { file } => keygen(global, &*seams.disk, &file)?,
        BackupVerb::Create { file, to } => create(global, &*seams.disk, &file, &to).await?,
        BackupVerb::Inspect { file, key } => inspect(global, &*seams.disk, &file, &key)?,
        BackupVerb::Export { file, key, as_of } => export(global, &*seams.disk, &file, &key, as_of.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The private key in a file.
pub(super) fn key(disk: &dyn Disk, file: &Path) -> Result<BackupKey, Failure> {
    let octets = disk.read(file, KEY_OCTETS_MAX).map_err(|error| Failure::read(file.display(), &error))?;
    let octets = Zeroizing::new(octets);
    let text = std::str::from_utf8(&octets).unwrap_or_default();
    BackupKey::parse(text).map_err(|error| {
        Failure::usage(format!("{}: {error}", file.display()), "name the file that operator backup keygen wrote")
    })
}

fn keygen(global: &Global, disk: &dyn Disk, path: &Path) -> Result<(), Failure> {
    let key = BackupKey::generate().map_err(|error| Failure::internal(error.to_string()))?;
    let file = disk.open(path, Open::CreateNew(MODE)).map_err(|error| Failure::file(path.display(), error))?;
    let text = key.to_text();
    file.write_at(0, text.as_bytes())
        .and_then(|()| file.sync_data())
        .map_err(|error| Failure::file(path.display(), error))?;
    let recipient = key.recipient().to_string();
    match global.output {
        Format::Json | Format::Yaml => {
            output::value(global.output, &json!({"key": path.display().to_string(), "recipient": recipient}))
        }
        _ => output::line(&recipient),
    }
}

async fn create(global: &Global, disk: &dyn Disk, path: &Path, to: &str) -> Result<(), Failure> {
    let recipient = Recipient::parse(to).map_err(|error| {
        Failure::usage(format!("--to: {error}"), "give the public key that operator backup keygen printed")
    })?;
    let client = Client::new(global)?;
    let failed = |error: std::io::Error| Failure::file(path.display(), error);
    if disk.exists(path).map_err(failed)? {
        return Err(Failure::file(path.display(), "it is there already"));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    if disk.exists(part).map_err(failed)? {
        disk.remove(part).map_err(failed)?;
    }
    let octets = match receive(&client, disk, part, &recipient).await {
        Ok(octets) => octets,
        Err(failure) => {
            let _ = disk.remove(part);
            return Err(failure);
        }
    };
    disk.rename(part, path).map_err(failed)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_dir(parent).map_err(failed)?;
    let text = format!("{} written: {octets} octets, for {recipient}", path.display());
    let value = json!({"file": path.display().to_string(), "octets": octets, "recipient": recipient.to_string()});
    print(global, &text, &value)
}

/// Writes what a server streams; whole when it returns.
async fn receive(client: &Client, disk: &dyn Disk, part: &Path, recipient: &Recipient) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| Failure::file(part.display(), error);
    let request = v1::BackupRequest { recipient: recipient.octets().to_vec().into() };
    let call = |channel, mut request: tonic::Request<v1::BackupRequest>| async move {
        // A backup takes as long as it takes; only its beginning is bounded.
        request.metadata_mut().remove("grpc-timeout");
        ClusterClient::new(channel).backup(request).await
    };
    let mut chunks = client.call(request, call).await?;
    let file = disk.open(part, Open::CreateNew(MODE)).map_err(failed)?;
    let mut octets = 0;
    while let Some(chunk) = chunks.message().await.map_err(Failure::from)? {
        file.write_at(octets, &chunk.data).map_err(failed)?;
        octets += chunk.data.len() as u64;
    }
    file.sync_data().map_err(failed)?;
    Ok(octets)
}

fn inspect(global: &Global, disk: &dyn Disk, file: &Path, key_file: &Path) -> Result<(), Failure> {
    let survey = survey::read(disk, file, &key(disk, key_file)?)?;
    let header = &survey.header;
    let state = survey.state();
    let value = json!({
        "clusterId": header.cluster_id.to_string(), "epoch": header.epoch, "server": header.server,
        "created": header.created.to_string(), "lastIndex": header.last_index,
        "at": header.at.to_string(), "chain": hex::encode(header.last_chain), "events": survey.events,
        "checkpoints": survey.checkpoints, "certificates": state.certificates.len(), "issuers": state.issuers.len(),
        "authorities": state.authorities.len(), "agents": state.agents.len(),
    });
    let text = format!(
        "cluster {} epoch {}, written by {} at {}\nentries up to {}, log time {}\n{} events, {} signed checkpoints\n\
         {} certificates, {} issuers, {} authorities, {} agents",
        header.cluster_id,
        header.epoch,
        header.server,
        header.created,
        header.last_index,
        header.at,
        survey.events,
        survey.checkpoints,
        state.certificates.len(),
        state.issuers.len(),
        state.authorities.len(),
        state.agents.len(),
    );
    print(global, &text, &value)
}

fn export(global: &Global, disk: &dyn Disk, file: &Path, key_file: &Path, as_of: Option<&str>) -> Result<(), Failure> {
    let moment = as_of.map(moment).transpose()?.unwrap_or(Moment::End);
    let folded = survey::as_of(disk, file, &key(disk, key_file)?, moment)?;
    let index = folded.last().map_or(0, |last| last.index);
    output::note(&format!("the estate after entry {index}, log time {}", folded.at()));
    let objects = survey::resources(folded.state(), folded.at());
    match global.output {
        Format::Json => {
            let items: Vec<Value> = objects.iter().map(manifest::to_json).collect();
            output::line(&json!({"index": index, "at": folded.at().to_string(), "items": items}).to_string())
        }
        _ => objects
            .iter()
            .try_for_each(|object| output::line(&format!("---\n{}", manifest::to_yaml(object).trim_end()))),
    }
}

fn moment(text: &str) -> Result<Moment, Failure> {
    if let Ok(index) = text.parse() {
        return Ok(Moment::Index(index));
    }
    let parsed = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
    let millis = parsed.ok().and_then(|moment| u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok());
    let wrong =
        || Failure::usage(format!("--as-of: {text:?} is no index and no time"), "write 1234 or 2026-11-01T00:00:00Z");
    millis.map(|millis| Moment::Time(Timestamp::from_millis(millis))).ok_or_else(wrong)
}

/// A line for people, or the value.
pub(super) fn print(global: &Global, text: &str, value: &Value) -> Result<(), Failure> {
    match global.output {
        Format::Json => output::line(&value.to_string()),
        Format::Yaml => output::value(global.output, value),
        _ => text.lines().try_for_each(output::line),
    }
}
