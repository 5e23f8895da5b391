//! The servers' side of the session for the tests: real TLS and gRPC, certificates from a small PKI, and knobs for
//! everything that can go wrong with what is sent.
//!
//! It refuses consensus: one process, one lock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use certwright_proto::agent::v1 as wire;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::v1;
use certwright_proto::v1::join_server::{Join, JoinServer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::pki::{CLUSTER, Leaf, Pki};

/// What the servers know of one instance.
#[derive(Clone)]
pub struct Instance {
    pub spec: v1::CertificateSpec,
    pub revision: u64,
    pub wanted: u64,
    pub issued: Option<wire::Issued>,
    /// Answers to come are issued so.
    pub life: Duration,
    pub gone: bool,
}

/// A change to what is issued, before it is sent.
type Forge = Box<dyn Fn(&Pki, &[u8], &mut wire::Issued) + Send>;

#[derive(Default)]
pub struct State {
    pub instances: BTreeMap<String, Instance>,
    pub reports: Vec<wire::Report>,
    pub hellos: Vec<wire::Hello>,
    /// Which server each session was opened with.
    pub sessions: Vec<u64>,
    pub csrs: Vec<(String, u64, Vec<u8>)>,
    pub forge: Option<Forge>,
    /// CSRs are neither answered nor issued.
    pub mute: bool,
    /// Reports are not acknowledged.
    pub deaf: bool,
    pub assignments_sent: usize,
    pub identity_serials: Vec<String>,
    /// The agent's present key and the one before it; once set, no other opens a session or renews.
    pub keys: Option<Keys>,
    /// Which key each session was opened with.
    pub session_keys: Vec<Option<[u8; 32]>>,
    /// What the servers call themselves.
    pub servers: Vec<String>,
    /// The roots that are announced: names and DER.
    pub roots: Vec<(String, Vec<u8>)>,
    /// Join requests, with the name asked for.
    pub joined: Vec<String>,
    /// What each server says of its log; a server without one says nothing.
    pub logs: BTreeMap<u64, Log>,
    /// Which server was told that one is refused.
    pub refused: Vec<(u64, wire::CheckpointRefused)>,
    /// Certificates that the servers did not know.
    pub held: Vec<wire::HeldCertificate>,
}

/// Checkpoints of one server's log: index and chain.
#[derive(Clone, Default)]
pub struct Log(pub Vec<(u64, u8)>);

impl Log {
    fn newest(&self) -> Option<wire::Checkpoint> {
        self.0.last().map(|(index, history)| checkpoint(*index, *history))
    }

    fn applied(&self) -> u64 {
        self.0.last().map_or(0, |(index, _)| index + 5)
    }

    fn recalled(&self, mark: &wire::CheckpointMark) -> wire::Recalled {
        let found = self.0.iter().find(|(index, _)| *index == mark.index);
        let chain = found.map(|(_, history)| vec![*history; 32]).unwrap_or_default();
        wire::Recalled { is_read: mark.index <= self.applied(), chain: chain.into(), index: mark.index }
    }
}

/// A signed checkpoint of the tests' cluster; histories from 100 on are of its second epoch.
pub fn checkpoint(index: u64, history: u8) -> wire::Checkpoint {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let cluster_id = certwright_proto::identity::parse_cluster_id(CLUSTER).unwrap();
    let (chain, at) = ([history; 32], certwright_core::time::Timestamp::from_millis(index));
    let epoch = if history < 100 { 1 } else { 2 };
    let signed = certwright_core::checkpoint::Checkpoint { cluster_id, epoch, index, chain, at };
    wire::Checkpoint {
        epoch,
        index,
        chain: chain.to_vec().into(),
        at_millis: index,
        public_key: pair.public_key().as_ref().to_vec().into(),
        signature: pair.sign(&signed.message()).as_ref().to_vec().into(),
    }
}

pub struct Estate {
    pub pki: Pki,
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

/// SHA-256 of the keys that an agent is known by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    pub present: [u8; 32],
    pub previous: Option<[u8; 32]>,
}

/// The key that a connection proved.
#[derive(Clone, Copy)]
struct Proved(Option<[u8; 32]>);

/// One listening server of the estate; dropping it takes it away.
pub struct Server {
    pub address: SocketAddr,
    pub draining: CancellationToken,
    _stop: tokio_util::sync::DropGuard,
}

impl Estate {
    pub fn new() -> Arc<Self> {
        let pki = Pki::new();
        let roots = vec![("root".to_string(), pki.root.der().to_vec())];
        let state = Mutex::new(State { roots, ..State::default() });
        Arc::new(Self { pki, state, version: watch::Sender::new(1) })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes what is known and tells the sessions.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.version.send_modify(|version| *version += 1);
        result
    }

    /// Declares a certificate with one instance and opens its first issuance.
    pub fn declare(&self, instance: &str, spec: v1::CertificateSpec) {
        let instance_state =
            Instance { spec, revision: 1, wanted: 1, issued: None, life: Duration::from_secs(3600), gone: false };
        self.change(|state| state.instances.insert(instance.to_string(), instance_state));
    }

    /// Opens the next generation; returns its number.
    pub fn renew(&self, instance: &str) -> u64 {
        self.change(|state| {
            let instance = state.instances.get_mut(instance).unwrap();
            instance.revision += 1;
            instance.wanted = instance.issued.as_ref().map_or(0, |issued| issued.generation) + 1;
            instance.wanted
        })
    }

    /// A context file of an agent for these servers.
    pub fn context(&self, agent: &str, servers: &[SocketAddr], life: Duration) -> String {
        let (certificate, key) = self.pki.identity(&format!("agent/{agent}"), life);
        let pem = certwright_core::x509::pem::certificate;
        serde_json::json!({
            "cluster_id": CLUSTER, "name": format!("agent/{agent}"),
            "servers": servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ca": pem(self.pki.system.der()), "certificate": pem(&certificate), "key": key,
        })
        .to_string()
    }

    /// Listens, as node `id`.
    pub async fn serve(self: &Arc<Self>, id: u64, address: SocketAddr) -> Server {
        let listener = bind(address).await;
        let address = listener.local_addr().unwrap();
        let (stop, draining) = (CancellationToken::new(), CancellationToken::new());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(self.tls(id)));
        let (sender, incoming) = mpsc::channel(16);
        let accepting = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = sender.send(Ok::<_, std::io::Error>(Conn(stream))).await;
                    }
                });
            }
        };
        let door = Door { estate: self.clone(), draining: draining.clone(), stop: stop.clone(), id };
        let serving = tonic::transport::Server::builder()
            .add_service(AgentServiceServer::new(door))
            .add_service(JoinServer::new(Entrance(self.clone())))
            .serve_with_incoming(ReceiverStream::new(incoming));
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = accepting => {}
                _ = serving => {}
            }
        });
        Server { address, draining, _stop: stop.drop_guard() }
    }

    fn tls(&self, id: u64) -> rustls::ServerConfig {
        let (certificate, key) = self.pki.identity(&format!("node/{id}"), Duration::from_secs(3650 * 24 * 3600));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.pki.system.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let key = rustls_pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.into(), self.pki.system.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    fn issue(&self, submission: &wire::CsrSubmission) {
        let leaf = |life| {
            let start = SystemTime::now() - Duration::from_secs(2);
            self.pki.leaf(&submission.csr, &self.pki.intermediate, start, life)
        };
        self.change(|state| {
            let csr = submission.csr.to_vec();
            state.csrs.push((submission.instance.clone(), submission.generation, csr.clone()));
            let forge = state.forge.take();
            let Some(instance) = state.instances.get_mut(&submission.instance) else { return };
            if state.mute || instance.wanted != submission.generation {
                state.forge = forge;
                return;
            }
            let mut issued = self.issued(submission.generation, leaf(instance.life));
            if let Some(forge) = &forge {
                forge(&self.pki, &csr, &mut issued);
            }
            instance.issued = Some(issued);
            instance.wanted = 0;
            instance.revision += 1;
            state.forge = forge;
        });
    }

    pub fn issued(&self, generation: u64, leaf: Leaf) -> wire::Issued {
        wire::Issued {
            generation,
            serial: leaf.serial,
            certificate: leaf.der.into(),
            intermediates: vec![self.pki.intermediate.der().to_vec().into()],
            root: self.pki.root.der().to_vec().into(),
            not_before: Some(leaf.not_before.into()),
            not_after: Some(leaf.not_after.into()),
        }
    }
}

/// A server that was taken away frees its port a moment later.
async fn bind(address: SocketAddr) -> TcpListener {
    for _ in 0..500 {
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{address} stays in use");
}

/// A TLS connection as tonic wants it.
struct Conn(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Conn {
    type ConnectInfo = Proved;
    fn connect_info(&self) -> Proved {
        let chain = self.0.get_ref().1.peer_certificates();
        Proved(chain.map(|chain| certwright_core::x509::inspect::inspect(&chain[0]).unwrap().spki_hash))
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Door {
    estate: Arc<Estate>,
    draining: CancellationToken,
    stop: CancellationToken,
    id: u64,
}

/// Joining: any token secret of ones is good, once.
struct Entrance(Arc<Estate>);

#[tonic::async_trait]
impl Join for Entrance {
    async fn join_agent(
        &self,
        request: Request<v1::JoinAgentRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        let request = request.into_inner();
        if request.token_secret[..] != [1; 32] || !self.0.state().joined.is_empty() {
            let used = certwright_core::Rejection::new(certwright_core::Reason::TokenUsed, "the token was used before");
            return Err(certwright_proto::status::to_status(&used));
        }
        self.0.state().joined.push(request.agent.clone());
        let csr = rcgen::CertificateSigningRequestParams::from_der(&(&request.csr[..]).into()).unwrap();
        let path = format!("agent/{}", request.agent);
        let der = self.0.pki.identity_for(&path, Duration::from_secs(3600), &csr.public_key);
        Ok(Response::new(v1::IdentityResponse {
            certificate: der.into(),
            chain: vec![self.0.pki.system.der().to_vec().into()],
            cluster_id: CLUSTER.into(),
            name: path,
            not_after: None,
        }))
    }

    async fn join_node(&self, _: Request<v1::JoinNodeRequest>) -> Result<Response<v1::JoinNodeResponse>, Status> {
        Err(Status::unimplemented("agents only"))
    }
}

type Out = mpsc::Sender<Result<wire::ServerMessage, Status>>;

async fn say(out: &Out, kind: Down) -> Option<()> {
    out.send(Ok(wire::ServerMessage { kind: Some(kind), traceparent: String::new() })).await.ok()
}

#[tonic::async_trait]
impl AgentService for Door {
    type SessionStream = ReceiverStream<Result<wire::ServerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let key = request.extensions().get::<Proved>().and_then(|proved| proved.0);
        if let Some(keys) = self.estate.state().keys
            && key != Some(keys.present)
            && key != keys.previous
        {
            return Err(Status::unauthenticated("no agent with this key is registered"));
        }
        let (out, outgoing) = mpsc::channel(64);
        let session = Session { estate: self.estate.clone(), out, id: self.id, key };
        let (draining, stop) = (self.draining.clone(), self.stop.clone());
        tokio::spawn(async move {
            let out = session.out.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = draining.cancelled() => {
                    say(&out, Down::Draining(wire::Draining {})).await;
                    out.closed().await;
                }
                _ = session.run(request.into_inner()) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

struct Session {
    estate: Arc<Estate>,
    out: Out,
    id: u64,
    key: Option<[u8; 32]>,
}

impl Session {
    async fn run(self, mut incoming: Streaming<wire::AgentMessage>) -> Option<()> {
        let Some(Up::Hello(hello)) = incoming.message().await.ok()??.kind else { return None };
        let resume: Option<u64> = hello.resume.as_ref().and_then(|token| token.value.parse().ok());
        let log = self.estate.state().logs.get(&self.id).cloned().unwrap_or_default();
        let recalled = hello.checkpoint.as_ref().map(|mark| log.recalled(mark));
        self.estate.state().hellos.push(hello);
        self.estate.state().sessions.push(self.id);
        self.estate.state().session_keys.push(self.key);
        let clock = Some(SystemTime::now().into());
        let servers = self.estate.state().servers.clone();
        let welcome = wire::Welcome {
            complete: resume.is_none(),
            server: format!("node-{}", self.id),
            clock,
            servers,
            checkpoint: log.newest(),
            applied_index: log.applied(),
            recalled,
        };
        say(&self.out, Down::Welcome(welcome)).await?;
        let (mut told, mut announced, mut shown) = (BTreeMap::new(), Vec::new(), log.newest());
        if let Some(version) = resume {
            // What had not changed since then is known there.
            told = self.revisions(version);
        }
        let mut version = self.estate.version.subscribe();
        let at = *version.borrow_and_update();
        self.announce(&mut announced, at).await?;
        self.tell(&mut told, resume.is_none(), at).await?;
        loop {
            tokio::select! {
                biased;
                changed = version.changed() => {
                    changed.ok()?;
                    let at = *version.borrow_and_update();
                    let newest = self.estate.state().logs.get(&self.id).and_then(Log::newest);
                    if let Some(newest) = newest.filter(|newest| shown.as_ref() != Some(newest)) {
                        shown = Some(newest.clone());
                        say(&self.out, Down::Checkpoint(newest)).await?;
                    }
                    self.announce(&mut announced, at).await?;
                    self.tell(&mut told, false, at).await?;
                }
                message = incoming.message() => self.hear(message.ok()??.kind?).await?,
            }
        }
    }

    async fn announce(&self, announced: &mut Vec<(String, Vec<u8>)>, index: u64) -> Option<()> {
        let roots = self.estate.state().roots.clone();
        if roots == *announced {
            return Some(());
        }
        announced.clone_from(&roots);
        let root = |(authority, der)| wire::TrustedRoot { authority, certificate: Vec::into(der) };
        let roots = roots.into_iter().map(root).collect();
        say(&self.out, Down::TrustBundle(wire::TrustBundle { epoch: 1, index, roots })).await
    }

    /// The token of these tests is the number of changes; every instance's revision as of now is taken as told when
    /// nothing changed since.
    fn revisions(&self, version: u64) -> BTreeMap<String, u64> {
        if version != *self.estate.version.borrow() {
            return BTreeMap::new();
        }
        self.estate.state().instances.iter().map(|(id, instance)| (id.clone(), instance.revision)).collect()
    }

    async fn tell(&self, told: &mut BTreeMap<String, u64>, complete: bool, version: u64) -> Option<()> {
        let instances = self.estate.state().instances.clone();
        for (id, instance) in instances {
            if told.get(&id) == Some(&instance.revision) {
                continue;
            }
            told.insert(id.clone(), instance.revision);
            if instance.gone {
                let gone = wire::Gone { certificate: name(&id), instance: id };
                say(&self.out, Down::Gone(gone)).await?;
                continue;
            }
            self.estate.state().assignments_sent += 1;
            let assignment = wire::Assignment {
                certificate: name(&id),
                instance: id,
                revision: instance.revision,
                targets: instance.spec.targets.clone(),
                spec: Some(instance.spec),
                wanted_generation: instance.wanted,
                issued: instance.issued,
            };
            say(&self.out, Down::Assignment(assignment)).await?;
        }
        let token = Some(v1::Token { value: version.to_string() });
        say(&self.out, Down::Bookmark(wire::Bookmark { token, complete })).await
    }

    async fn hear(&self, kind: Up) -> Option<()> {
        match kind {
            Up::Csr(submission) => self.estate.issue(&submission),
            Up::Report(report) => {
                let (id, deaf) = {
                    let mut state = self.estate.state();
                    state.reports.push(report.clone());
                    (report.id, state.deaf)
                };
                if !deaf {
                    say(&self.out, Down::ReportAck(wire::ReportAck { id })).await?;
                }
            }
            Up::Identity(renewal) => {
                let request = rcgen::CertificateSigningRequestParams::from_der(&(&renewal.csr[..]).into()).unwrap();
                let asked = certwright_core::x509::csr::parse(&renewal.csr).unwrap().claimed_key().hash();
                if let Some(keys) = &mut self.estate.state().keys {
                    // As the servers do: whoever has but the old key may only repeat what was asked for.
                    if asked != keys.present && self.key != Some(keys.present) {
                        return None;
                    }
                    if asked != keys.present {
                        *keys = Keys { present: asked, previous: Some(keys.present) };
                    }
                }
                let der = self.estate.pki.identity_for("agent/edge", Duration::from_secs(3600), &request.public_key);
                let serial = certwright_core::x509::inspect::inspect(&der).unwrap().serial;
                self.estate.state().identity_serials.push(serial);
                let chain = vec![self.estate.pki.system.der().to_vec().into()];
                let issued = wire::IdentityIssued { certificate: der.into(), chain, ..Default::default() };
                say(&self.out, Down::Identity(issued)).await?;
            }
            Up::Held(held) => self.estate.state().held.push(held),
            Up::CheckpointRefused(refused) => self.estate.state().refused.push((self.id, refused)),
            Up::Heartbeat(_) | Up::Hello(_) => {}
        }
        Some(())
    }
}

fn name(instance: &str) -> String {
    format!("namespaces/web/certificates/c-{instance}")
}
