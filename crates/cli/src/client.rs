//! Calls to the cluster: any server will do, another one when that fails, the same request id when the outcome is unknown.
//!
//! It refuses to repeat what is not repeatable: a write goes out with an id or once.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_core::ids::ClusterId;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_seams::Seams;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::args::Global;
use crate::failure::Failure;

/// Wait before asking again when the server did not say how long.
const RETRY_DEFAULT: Duration = Duration::from_millis(50);
/// Between two looks at what is waited for; each is a read of one server's own state.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A look that begins later before the end says little by its failure.
const LATE: Duration = Duration::from_secs(1);
/// How long one attempt may take before another server is asked.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How long a command asks for a server when none has answered it; a cluster that answered once has the whole time.
const UNANSWERED: Duration = Duration::from_secs(5);

/// A connection to a cluster, made again when it breaks.
pub struct Client {
    cluster_id: ClusterId,
    connector: Connector,
    seams: Seams,
    deadline: Instant,
    /// Until when the first answer is waited for.
    answer_by: Instant,
    answered: AtomicBool,
    held: tokio::sync::Mutex<Option<(Channel, String)>>,
    /// Where the newest of this client's writes is to be seen.
    written: Mutex<Option<v1::Token>>,
}

/// Where the context is when nobody says: beside the other configuration of the user.
pub fn context_path(global: &Global) -> PathBuf {
    if let Some(path) = &global.context {
        return path.clone();
    }
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    home.unwrap_or_default().join("certwright/context")
}

/// Reads the context in use, with `--server` put in place of its servers.
pub fn context(global: &Global, seams: &Seams) -> Result<Context, Failure> {
    let mut context = Context::load(&*seams.disk, &context_path(global))?;
    if let Some(server) = &global.server {
        context.servers = vec![server.clone()];
    }
    Ok(context)
}

impl Client {
    /// A client with the context in use; the deadline runs from here.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let seams = Seams::system();
        let mut client = Self::with_context(&context(global, &seams)?, seams, global.timeout)?;
        client.answer_by = client.deadline.min(Instant::now() + UNANSWERED);
        Ok(client)
    }

    /// A client with this context, which waits as long for a first answer as for any.
    pub fn with_context(context: &Context, seams: Seams, timeout: Duration) -> Result<Self, Failure> {
        let connector = Connector::new(context, &seams)?;
        let deadline = Instant::now() + timeout;
        Ok(Self {
            cluster_id: context.cluster_id,
            connector,
            seams,
            deadline,
            answer_by: deadline,
            answered: AtomicBool::new(false),
            held: tokio::sync::Mutex::new(None),
            written: Mutex::default(),
        })
    }

    /// The cluster that it calls.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The seams it was made with.
    pub fn seams(&self) -> &Seams {
        &self.seams
    }

    /// When the command must be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A fresh request id, 32 hexadecimal digits.
    pub fn request_id(&self) -> String {
        let mut octets = [0; 16];
        self.seams.entropy.fill(&mut octets);
        hex::encode(octets)
    }

    /// Remembers where a write is to be seen.
    pub fn wrote(&self, token: Option<v1::Token>) {
        if token.is_some() {
            *self.written.lock().unwrap_or_else(PoisonError::into_inner) = token;
        }
    }

    /// What a read asks for so that it sees this client's writes, whichever server answers.
    pub fn min_token(&self) -> Option<v1::Token> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A channel to some server that answers.
    async fn channel(&self) -> Result<Channel, Failure> {
        let mut held = self.held.lock().await;
        if let Some((channel, _)) = &*held {
            return Ok(channel.clone());
        }
        let (channel, server) = self.connector.connect().await?;
        *held = Some((channel.clone(), server));
        Ok(channel)
    }

    /// The next channel goes to another server, if there is another that answers.
    async fn elsewhere(&self) {
        let mut held = self.held.lock().await;
        let last = held.take().map(|(_, server)| server);
        if let Ok(connected) = self.connector.connect_avoiding(last.as_deref()).await {
            *held = Some(connected);
        }
    }

    /// One call, repeated until it is answered or the time is over. The request must carry a request id, or only read.
    pub async fn call<Q, A, F, C>(&self, request: Q, call: C) -> Result<A, Failure>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
        C: Fn(Channel, Request<Q>) -> F,
    {
        loop {
            let (failure, wait) = match self.channel().await {
                Ok(channel) => {
                    self.answered.store(true, Ordering::Relaxed);
                    let mut message = Request::new(request.clone());
                    let left = self.deadline.saturating_duration_since(Instant::now());
                    message.set_timeout(left.clamp(Duration::from_millis(1), ATTEMPT));
                    match call(channel, message).await {
                        Ok(response) => return Ok(response.into_inner()),
                        Err(status) if !repeatable(&status) => return Err(status.into()),
                        Err(status) => (Failure::from(status.clone()), from_status(&status).retry_after),
                    }
                }
                Err(failure) if failure.code() == "UNREACHABLE" => (failure, None),
                Err(failure) => return Err(failure),
            };
            let wait = wait.unwrap_or(RETRY_DEFAULT);
            let until = if self.answered.load(Ordering::Relaxed) { self.deadline } else { self.answer_by };
            if Instant::now() + wait >= until {
                return Err(failure.without_time_to_repeat());
            }
            tokio::time::sleep(wait).await;
            self.elsewhere().await;
        }
    }

    /// Whether a look that failed had hardly any time: what the one before saw counts. With more time it is an outage.
    pub fn is_late(&self, began: Instant, failure: &Failure) -> bool {
        failure.lacked_time() && began + LATE >= self.deadline
    }

    /// Looks until what is waited for is there, or the time is over: then `WAIT_TIMED_OUT` with what a look said is so still.
    pub async fn wait_for<T>(
        &self,
        mut look: impl AsyncFnMut() -> Result<Result<T, String>, Failure>,
    ) -> Result<T, Failure> {
        let mut still = None;
        loop {
            let began = Instant::now();
            let text = match (look().await, still) {
                (Ok(Ok(found)), _) => return Ok(found),
                (Ok(Err(text)), _) => text,
                (Err(failure), Some(text)) if self.is_late(began, &failure) => return Err(Failure::timed_out(text)),
                (Err(failure), _) => return Err(failure),
            };
            if Instant::now() + LOOK_EVERY >= self.deadline {
                return Err(Failure::timed_out(text));
            }
            still = Some(text);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether another attempt may end otherwise.
fn repeatable(status: &Status) -> bool {
    let code = status.code();
    matches!(
        code,
        Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
    )
}
