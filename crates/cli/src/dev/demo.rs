//! The demonstration itself: demo CA, issuer, agents' tokens, the sample manifest, and the proof that it works.
//!
//! It refuses doors that a user does not have: everything goes through the API with the administrator's context.

use std::path::{Path, PathBuf};
use std::time::Duration;

use certwright_agent::Context;
use certwright_core::Reason;
use certwright_core::time::Timestamp;
use certwright_proto::manifest;
use certwright_proto::v1;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::Format;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, note};

/// How often files and state are looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long a certificate must still be valid to be shown: its files are checked a moment later.
const VALID_FOR: Duration = Duration::from_secs(1);
/// The certificate shown.
const NAME: &str = "namespaces/default/certificates/web";
/// Files of a target.
const FILES: [&str; 6] = ["cert.pem", "chain.pem", "fullchain.pem", "key.pem", "combined.pem", "ca.pem"];

/// The demo CA and its issuer, as a user would declare them.
const ISSUER: &str = "\
apiVersion: certwright.dev/v1
kind: Authority
metadata: {name: demo-root}
spec: {commonName: certwright demo root, keyAlgorithm: ECDSA-P256, duration: 87600h, pathLen: 1, purpose: issuing}
---
apiVersion: certwright.dev/v1
kind: Authority
metadata: {name: demo-ca}
spec: {commonName: certwright demo CA, keyAlgorithm: ECDSA-P256, parent: demo-root, duration: 43800h, pathLen: 0, purpose: issuing}
---
apiVersion: certwright.dev/v1
kind: Issuer
metadata: {name: demo}
spec: {ca: {authority: demo-ca}}
";

/// The demonstration on a running cluster.
pub struct Demo {
    directory: PathBuf,
    client: Client,
    seams: Seams,
}

impl Demo {
    /// With the administrator's context of the directory.
    pub fn new(directory: &Path, seams: Seams, within: Duration) -> Result<Self, Failure> {
        let context = Context::load(&*seams.disk, &directory.join("context"))?;
        let client = Client::with_context(&context, seams.clone(), within)?;
        Ok(Self { directory: directory.to_path_buf(), client, seams })
    }

    /// The seams it runs on.
    pub fn seams(&self) -> &Seams {
        &self.seams
    }

    /// Where the certificate is delivered.
    fn live(&self) -> PathBuf {
        self.directory.join("live/web")
    }

    /// Declares the demo CA and its issuer.
    pub async fn prepare(&self) -> Result<(), Failure> {
        self.apply(ISSUER).await?;
        note("authority demo-root signed demo-ca; issuer demo uses it");
        Ok(())
    }

    async fn apply(&self, text: &str) -> Result<(), Failure> {
        for document in manifest::parse(text, "default")? {
            crate::apply::apply(&self.client, document.resource, false).await?;
        }
        Ok(())
    }

    /// The context of an agent, joined with a token of its own; the one on disk when it joined before.
    pub async fn join(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.directory.join(format!("{name}.context"));
        if self.seams.disk.exists(&path).unwrap_or(false) {
            return Ok(path);
        }
        let request = v1::CreateTokenRequest {
            role: "agent".to_string(),
            agent: name.to_string(),
            labels: [("dev".to_string(), "true".to_string())].into(),
            request_id: self.client.request_id(),
            ..Default::default()
        };
        let call = |channel, request| async move { TokensClient::new(channel).create_token(request).await };
        let token = self.client.call(request, call).await?.secret;
        let administrator = Context::load(&*self.seams.disk, &self.directory.join("context"))?;
        let server = administrator.servers.first().map(String::as_str).unwrap_or_default();
        let mut context = certwright_agent::join::join(server, &token, name, &Default::default(), &self.seams).await?;
        context.servers = administrator.servers.clone();
        context.save(&*self.seams.disk, &path)?;
        note(&format!("{name} joined"));
        Ok(path)
    }

    /// The sample manifest.
    fn manifest(&self) -> String {
        format!(
            "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
             dnsNames: [web.demo.internal]\n  duration: 30s\n  issuerRef: {{name: demo}}\n  targets:\n  - name: files\n    \
             agent: agent-1\n    files: {{directory: {}}}\n",
            serde_json::Value::String(self.live().display().to_string())
        )
    }

    /// Applies the sample manifest and waits until the certificate is where it is used.
    pub async fn deliver(&self) -> Result<Value, Failure> {
        let file = self.directory.join("web.yaml");
        let text = self.manifest();
        let written = self.seams.disk.write_atomic(&file, text.as_bytes(), 0o644);
        written.map_err(|error| Failure::file(file.display(), error))?;
        note(&format!("applying {}:\n{}", file.display(), text.trim_end()));
        let before = self.newest().await?;
        let start = Instant::now();
        self.apply(&text).await?;
        let issued = self.instance(start, |instance| instance.generation > 0 && self.is_valid(instance)).await?;
        let first_ms = start.elapsed().as_millis();
        note(&match issued.generation > before {
            true => format!("issued: serial {} ({first_ms} ms after apply)", issued.serial),
            false => format!("there already: serial {}, generation {}", issued.serial, issued.generation),
        });
        let delivered = self.delivered(start, issued.generation).await?;
        let delivered_ms = start.elapsed().as_millis();
        note(&format!("delivered: {} holds key and chain, verified ({delivered_ms} ms)", self.live().display()));
        Ok(
            json!({"first_ms": first_ms, "delivered_ms": delivered_ms, "serial": delivered.serial, "generation": delivered.generation}),
        )
    }

    /// The newest generation there is, from an earlier run in the same directory; 0 when there is none.
    async fn newest(&self) -> Result<u64, Failure> {
        let certificate = match crate::stages::get(&self.client, NAME).await {
            Err(failure) if failure.code() == Reason::NotFound.code() => return Ok(0),
            answer => answer?,
        };
        let instances = certificate.status.map(|status| status.instances).unwrap_or_default();
        Ok(instances.iter().map(|instance| instance.generation).max().unwrap_or(0))
    }

    /// Issue, delivery and the first renewal, each checked on disk; the last line of standard output is the proof.
    pub async fn show(&self, format: Format) -> Result<(), Failure> {
        let first = self.deliver().await?;
        let before = first["serial"].as_str().unwrap_or_default().to_string();
        let generation = first["generation"].as_u64().unwrap_or(1);
        let start = Instant::now();
        note("waiting for the first renewal: two thirds of thirty seconds ...");
        let renewed = self.delivered(start, generation + 1).await?;
        let renewed_ms = start.elapsed().as_millis();
        let serial = renewed.serial.clone();
        if serial == before {
            return Err(Failure::finding(
                "the renewed certificate has the serial of the old one",
                "report it with the server's log",
            ));
        }
        note(&format!("renewed: serial {serial}, generation {} ({renewed_ms} ms after delivery)", renewed.generation));
        let files: serde_json::Map<String, Value> = FILES
            .iter()
            .map(|name| (name.to_string(), Value::String(self.live().join(name).display().to_string())))
            .collect();
        if format == Format::Json {
            let timings =
                json!({"first_ms": first["first_ms"], "delivered_ms": first["delivered_ms"], "renewed_ms": renewed_ms});
            let proof = json!({
                "certificate": NAME, "generations": renewed.generation, "serials": [before, serial], "files": files, "timings": timings,
            });
            output::line(&proof.to_string())?;
        }
        Ok(())
    }

    /// Waits until a generation, this one or a later, is valid, written, and what the files hold.
    async fn delivered(&self, start: Instant, generation: u64) -> Result<v1::InstanceStatus, Failure> {
        loop {
            let wanted = |instance: &v1::InstanceStatus| {
                instance.generation >= generation && self.is_valid(instance) && written(instance, instance.generation)
            };
            let instance = self.instance(start, wanted).await?;
            if self.check()? == instance.serial {
                return Ok(instance);
            }
            // A renewal replaced the files between the two looks.
            self.pause(start).await?;
        }
    }

    fn is_valid(&self, instance: &v1::InstanceStatus) -> bool {
        let now = Timestamp::from_millis(self.seams.clock.wall_millis());
        valid_for(instance, now) >= VALID_FOR
    }

    /// Waits until the only instance is as wanted.
    async fn instance(
        &self,
        start: Instant,
        wanted: impl Fn(&v1::InstanceStatus) -> bool,
    ) -> Result<v1::InstanceStatus, Failure> {
        loop {
            let certificate = crate::stages::get(&self.client, NAME).await?;
            let instances = certificate.status.map(|status| status.instances).unwrap_or_default();
            if let Some(instance) = instances.into_iter().find(&wanted) {
                return Ok(instance);
            }
            self.pause(start).await?;
        }
    }

    /// A moment between two looks; a failure when it takes too long.
    async fn pause(&self, start: Instant) -> Result<(), Failure> {
        if Instant::now() >= self.client.deadline() {
            return Err(Failure::timed_out(format!("{NAME} did not get there within {} s", start.elapsed().as_secs())));
        }
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    /// Checks the delivered files themselves; answers the serial.
    fn check(&self) -> Result<String, Failure> {
        let now = Timestamp::from_millis(self.seams.clock.wall_millis());
        Ok(crate::verify::files(&*self.seams.disk, &self.live(), now)?.serial)
    }

    /// What to try next.
    pub fn try_next(&self, directory: &Path) -> String {
        let context = format!("--context {}/context", directory.display());
        format!(
            "\ncertwright is up. Try, in another terminal:\n  certwright {context} get certificates -o wide\n  certwright {context} why web\n  \
             certwright {context} history web\n  certwright {context} renew web --wait\n  certwright {context} events -f\n  \
             certwright inspect {}/cert.pem",
            self.live().display()
        )
    }
}

/// How long the newest certificate of an instance is valid from now on; nothing when it has expired.
fn valid_for(instance: &v1::InstanceStatus, now: Timestamp) -> Duration {
    let end = instance.not_after.as_ref().and_then(output::timestamp);
    end.map(|end| end.since(now)).unwrap_or_default()
}

/// Whether the agent has proved a generation on a target.
fn written(instance: &v1::InstanceStatus, generation: u64) -> bool {
    let reached = |delivery: &v1::DeliveryStatus| {
        !delivery.target.is_empty() && delivery.stage == "written" && delivery.failure_reason.is_empty()
    };
    instance.deliveries.iter().any(|delivery| reached(delivery) && delivery.generation >= generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_valid_for_no_time() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let instance = v1::InstanceStatus { generation: 1, not_after: at(1_000), ..Default::default() };
        let cases = [(970, 30), (999, 1), (1_000, 0), (1_031, 0)];
        for (now, expected) in cases {
            let now = Timestamp::from_millis(now * 1_000);
            assert_eq!(valid_for(&instance, now), Duration::from_secs(expected), "at {now}");
        }
        assert_eq!(valid_for(&v1::InstanceStatus::default(), Timestamp::from_millis(0)), Duration::ZERO);
    }
}
