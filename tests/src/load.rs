//! Callers that ask for certificates all the time, each request repeated with its id until it is answered.
//!
//! It refuses to forget: every answer is kept for the comparison with the log.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use certwright_agent::{Connector, Context};
use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_seams::Seams;
use tonic::Code;

/// One acknowledged certificate.
#[derive(Clone, Debug)]
pub struct Answer {
    pub request_id: String,
    pub serial: String,
    pub index: u64,
    pub sent: Instant,
    pub answered: Instant,
}

/// Callers running in the background.
pub struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    in_flight: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Starts `callers` callers with the administrator's context against issuer `demo`.
    pub fn start(context: &Path, callers: usize) -> Self {
        let seams = Seams::system();
        let context = Context::load(&*seams.disk, context).unwrap();
        let connector = Connector::new(&context, &seams).unwrap();
        let (stop, answers, in_flight) = (Arc::<AtomicBool>::default(), Arc::default(), Arc::<AtomicU64>::default());
        let load =
            Self { stop: stop.clone(), answers: Arc::clone(&answers), in_flight: in_flight.clone(), thread: None };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
                let names = Names { dns_names: vec!["load.demo.internal".to_string()], ..Names::default() };
                let csr = key.request(&names).unwrap();
                let mut tasks = tokio::task::JoinSet::new();
                for caller in 0..callers {
                    let (connector, csr, stop) = (connector.clone(), csr.clone(), stop.clone());
                    let (answers, in_flight) = (Arc::clone(&answers), in_flight.clone());
                    tasks.spawn(async move { call(caller, &connector, &csr, &stop, &answers, &in_flight).await });
                }
                while let Some(ended) = tasks.join_next().await {
                    ended.unwrap();
                }
            });
        });
        Self { thread: Some(thread), ..load }
    }

    /// Requests sent and not answered.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Answers so far.
    pub fn count(&self) -> usize {
        self.answers.lock().unwrap().len()
    }

    /// The first request sent after `moment` that was answered, by the time of its answer.
    pub fn first_after(&self, moment: Instant) -> Option<Answer> {
        let answers = self.answers.lock().unwrap();
        answers.iter().filter(|answer| answer.answered > moment).min_by_key(|answer| answer.answered).cloned()
    }

    /// Stops the callers; answers everything that was acknowledged.
    pub fn stop(mut self) -> Vec<Answer> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.answers.lock().unwrap())
    }
}

/// One caller: a new request id for each certificate, the same one for each repetition.
async fn call(
    caller: usize,
    connector: &Connector,
    csr: &[u8],
    stop: &AtomicBool,
    answers: &Mutex<Vec<Answer>>,
    in_flight: &AtomicU64,
) {
    let mut channel = connector.channel();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let request_id = format!("{:016x}{number:016x}", caller + 1);
        let (sent, end) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        in_flight.fetch_add(1, Ordering::Relaxed);
        loop {
            let request = v1::IssueRequest {
                issuer: "demo".to_string(),
                csr: csr.to_vec().into(),
                duration: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
                request_id: request_id.clone(),
                ..Default::default()
            };
            let mut client = CertificatesClient::new(channel.clone());
            let attempt = tokio::time::timeout(Duration::from_secs(10), client.issue(request));
            match attempt.await {
                Ok(Ok(answer)) => {
                    let answer = answer.into_inner();
                    let (serial, index, answered) = (answer.serial, answer.index, Instant::now());
                    answers.lock().unwrap().push(Answer {
                        request_id: request_id.clone(),
                        serial,
                        index,
                        sent,
                        answered,
                    });
                    break;
                }
                Ok(Err(status))
                    if matches!(
                        status.code(),
                        Code::Unavailable | Code::Unknown | Code::ResourceExhausted | Code::Cancelled
                    ) => {}
                Ok(Err(status)) => panic!("caller {caller} request {number}: {status:?}"),
                Err(_) => {}
            }
            assert!(Instant::now() < end, "caller {caller} request {number} was not answered within a minute");
            tokio::time::sleep(Duration::from_millis(20)).await;
            channel = connector.channel();
        }
        in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
