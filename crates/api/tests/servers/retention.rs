//! A server whose history begins with a snapshot: what it tells of before and after, its backups, and what is restored
//! from them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use certwright_api::backup::survey::{self, Moment};
use certwright_api::log_check::verify_log;
use certwright_api::node::BareLog;
use certwright_api::restore::{Origin, Terms, restore};
use certwright_api::{Node, NodeConfig};
use certwright_core::event::HistoryTrimmed;
use certwright_core::ids::cluster_stream;
use certwright_core::log::{Append, Fold, RequestId, Trace, Transaction};
use certwright_core::{Event, Reason, State};
use certwright_custody::backup::BackupKey;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::events_client::EventsClient;
use certwright_proto::v1::get_certificate_request::AsOf;
use certwright_raft::{Allow, Beginning, DIGEST_VERSION, Log};
use certwright_seams::Seams;
use certwright_seams::sim::SimClock;
use tonic::Status;
use tonic::transport::Channel;

use crate::clock::{machine, moment};
use crate::support::{self, Cluster, PATIENCE, demo, issue, order, until};

const NAME: &str = "namespaces/default/certificates/web";
const SEGMENT_OCTETS: u64 = 64 * 1024;

fn any() -> Allow<Event> {
    Arc::new(|_| Ok(()))
}

async fn get(channel: &Channel, as_of: Option<AsOf>) -> Result<v1::GetCertificateResponse, Status> {
    let request = v1::GetCertificateRequest { name: NAME.into(), as_of, ..Default::default() };
    CertificatesClient::new(channel.clone()).get_certificate(request).await.map(tonic::Response::into_inner)
}

/// Declares the certificate once more with another label; answers with what it is then.
async fn label(channel: &Channel, value: usize) -> v1::Certificate {
    let certificate = Some(v1::Certificate {
        name: NAME.into(),
        labels: BTreeMap::from([("version".to_owned(), value.to_string())]).into_iter().collect(),
        spec: Some(v1::CertificateSpec {
            dns_names: vec!["web.example.com".into()],
            issuer: "demo".into(),
            ..Default::default()
        }),
        ..Default::default()
    });
    let request = v1::UpdateCertificateRequest { certificate, allow_missing: true, ..Default::default() };
    let answer = CertificatesClient::new(channel.clone()).update_certificate(request).await.unwrap();
    answer.into_inner().certificate.unwrap()
}

async fn events(channel: &Channel, request: v1::WatchRequest) -> Result<Vec<v1::WatchResponse>, Status> {
    let mut stream = EventsClient::new(channel.clone()).watch(request).await?.into_inner();
    let mut told = Vec::new();
    while let Some(answer) = stream.message().await? {
        told.push(answer);
    }
    Ok(told)
}

/// What everything that is kept says.
async fn all(channel: &Channel) -> Vec<v1::WatchResponse> {
    events(channel, v1::WatchRequest { from_index: 1, ..Default::default() }).await.unwrap()
}

/// Labels by the index at which they were declared.
struct Told {
    labels: Vec<(u64, String)>,
    tokens: Vec<(u64, v1::Token)>,
}

impl Told {
    fn of(answers: &[v1::WatchResponse]) -> Self {
        let events = answers.iter().filter_map(|answer| Some((answer.event.as_ref()?, answer.token.clone()?)));
        let tokens = events.clone().map(|(event, token)| (event.index, token)).collect();
        let declared =
            |event: &v1::Event| ["CertificateDeclared", "CertificateUpdated"].contains(&event.r#type.as_str());
        let indexes = events.filter(|(event, _)| declared(event)).map(|(event, _)| event.index);
        let labels = indexes.enumerate().map(|(version, index)| (index, version.to_string())).collect();
        Self { labels, tokens }
    }
}

fn config(cluster: &Cluster) -> NodeConfig {
    NodeConfig { segment_octets: Some(SEGMENT_OCTETS), ..NodeConfig::new(cluster.folder.path().join("server-1")) }
}

/// Writes down where history begins, as the leader does.
async fn tell(log: &Log<State>, begins: &Beginning) {
    let now = log.log_time();
    let Beginning { floor, digest } = *begins;
    let (first_index, chain) = (floor.first_index, floor.chain);
    let (digest_version, last_at, last_not_after) = (DIGEST_VERSION, now, now);
    let trimmed = HistoryTrimmed { first_index, chain, digest, digest_version, last_at, last_not_after };
    let stream = cluster_stream();
    let expected = log.read(|view| view.state.revision(&stream));
    let append = Append { stream, expected: Some(expected), events: vec![Event::HistoryTrimmed(Box::new(trimmed))] };
    let transaction = Transaction {
        request_id: RequestId([7; 16]),
        request_digest: [0; 16],
        actor: "system".into(),
        trace: Trace::default(),
        guards: vec![],
        appends: vec![append],
    };
    log.propose(transaction).await.unwrap();
}

/// Lets go of everything before that entry, while the server is stopped; the log says so, or not.
async fn trim(cluster: &mut Cluster, first_index: u64, is_told: bool) -> Beginning {
    cluster.halt(1).await;
    let bare = BareLog::open(&config(cluster), &cluster.seams).await.unwrap();
    bare.log.leadership().wait_for(|leadership| leadership.ready).await.unwrap();
    let wanted = bare.log.survey(first_index, any()).await.unwrap();
    if is_told {
        tell(&bare.log, &wanted).await;
    }
    bare.log.trim(wanted, any()).await.unwrap();
    bare.log.shutdown().await;
    drop(bare);
    cluster.restart(1).await;
    cluster.node(1).ready().await;
    wanted
}

/// A cluster of one whose history has many versions of one certificate and begins with the eleventh, as it was before.
async fn trimmed() -> (Cluster, Told, String, Beginning) {
    trimmed_as(true).await
}

async fn trimmed_as(is_told: bool) -> (Cluster, Told, String, Beginning) {
    let configure = |config| async move {
        NodeConfig { segment_octets: Some(SEGMENT_OCTETS), snapshot_octets: Some(20_000), ..config }
    };
    let mut cluster = Cluster::found_as(configure).await;
    let channel = cluster.channel(1).clone();
    demo(&channel).await;
    let early = issue(&channel, order("6f2c1d8e-0000-4000-8000-000000000001")).await.serial;
    for version in 0..20 {
        label(&channel, version).await;
        // Something besides, so that whole segments go.
        for _ in 0..5 {
            issue(&channel, order("")).await;
        }
    }
    let told = Told::of(&all(&channel).await);
    let beginning = trim(&mut cluster, told.labels[10].0, is_told).await;
    let signed = async || {
        let request = v1::WatchRequest { from_index: 1, stream_prefix: "checkpoints".into(), ..Default::default() };
        let told = events(cluster.channel(1), request).await.unwrap();
        told.iter().any(|it| it.event.is_some()).then_some(())
    };
    until("a checkpoint", PATIENCE, signed).await;
    (cluster, told, early, beginning)
}

fn too_old(refused: Status, first: u64) {
    let refused = from_status(&refused);
    assert_eq!(refused.reason, Reason::TokenTooOld, "{refused:?}");
    assert_eq!(refused.object, Some(format!("history/{first}")));
    assert!(refused.message.contains(&format!("begins with entry {first}, after ")), "{}", refused.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_told_as_before_and_the_rest_is_said_to_be_too_old() {
    let (cluster, told, early, beginning) = trimmed().await;
    let (channel, first) = (cluster.channel(1), beginning.floor.first_index);
    for (index, version) in &told.labels {
        let as_of = [Some(AsOf::Index(*index)), Some(AsOf::Index(index - 1))].map(|as_of| get(channel, as_of));
        let [at, before] = futures_util::future::join_all(as_of).await.try_into().unwrap();
        let version_of = |it: v1::GetCertificateResponse| it.certificate.unwrap().labels["version"].clone();
        match *index >= first {
            true => assert_eq!(version_of(at.unwrap()), *version),
            false => too_old(at.unwrap_err(), first),
        }
        // The state that history begins with is one that is told.
        let previous = (version.parse::<usize>().unwrap().max(1) - 1).to_string();
        match *index >= first {
            true => assert_eq!(version_of(before.unwrap()), previous),
            false => too_old(before.unwrap_err(), first),
        }
    }
    let moment = prost_types::Timestamp { seconds: 1_000_000_000, nanos: 0 };
    too_old(get(channel, Some(AsOf::Time(moment))).await.unwrap_err(), first);
    // A watch of everything says first where everything begins, and a token of before is too old.
    let kept = all(channel).await;
    assert!(kept[0].event.is_none() && kept[1].event.as_ref().unwrap().index >= first);
    let tokens = |from: u64| told.tokens.iter().filter(move |(index, _)| *index >= from).map(|(_, it)| it.clone());
    let again: Vec<_> = kept.iter().filter(|it| it.event.is_some()).filter_map(|it| it.token.clone()).collect();
    let before: Vec<_> = tokens(first).collect();
    assert_eq!(again[..before.len()], before);
    for token in told.tokens.iter().filter(|(index, _)| *index < first).map(|(_, token)| token.clone()) {
        too_old(
            events(channel, v1::WatchRequest { token: Some(token), ..Default::default() }).await.unwrap_err(),
            first,
        );
    }
    let resumed = v1::WatchRequest { token: kept[0].token.clone(), ..Default::default() };
    let resumed = events(channel, resumed).await.unwrap();
    assert_eq!(
        resumed.iter().filter(|it| it.event.is_some()).count(),
        kept.iter().filter(|it| it.event.is_some()).count()
    );
    let request = v1::GetIssuedRequest { name: format!("direct/{early}"), ..Default::default() };
    too_old(CertificatesClient::new(channel.clone()).get_issued(request).await.unwrap_err(), first);
    cluster.stop().await;
}

/// Writes a backup of the first server.
async fn backup(cluster: &Cluster, key: &BackupKey, file: &Path) {
    let request = v1::BackupRequest { recipient: key.recipient().octets().to_vec().into() };
    let mut chunks = ClusterClient::new(cluster.channel(1).clone()).backup(request).await.unwrap().into_inner();
    let mut octets = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        octets.extend_from_slice(&chunk.data);
    }
    std::fs::write(file, octets).unwrap();
}

fn version_in(state: &State) -> Option<String> {
    let certificate = state.certificates.iter().next()?;
    certificate.spec().labels.iter().find(|(key, _)| key.as_str() == "version").map(|(_, value)| value.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_begins_where_history_does_and_so_does_what_is_restored_from_it() {
    let (cluster, told, _, beginning) = trimmed().await;
    let first = beginning.floor.first_index;
    let (key, file) = (BackupKey::generate().unwrap(), cluster.folder.path().join("estate.backup"));
    backup(&cluster, &key, &file).await;
    let disk = cluster.seams.disk.clone();
    let found = survey::read(&*disk, &file, &key).unwrap();
    assert_eq!(found.header.first_index, first);
    assert!(found.checkpoints > 0, "the key that signs them is known from the beginning");
    let as_of = |moment| survey::as_of(&*disk, &file, &key, moment);
    for (index, version) in told.labels.iter().filter(|(index, _)| *index >= first) {
        assert_eq!(version_in(as_of(Moment::Index(*index)).unwrap().state()), Some(version.clone()));
    }
    assert_eq!(version_in(as_of(Moment::Index(first - 1)).unwrap().state()), Some("9".into()));
    let refused = as_of(Moment::Index(first - 2)).map(drop).unwrap_err();
    assert_eq!(refused.reason, Reason::TokenTooOld);
    let early = as_of(Moment::Time(certwright_core::time::Timestamp::EPOCH)).map(drop).unwrap_err();
    assert_eq!(early.reason, Reason::TokenTooOld);
    let seams = cluster.seams.clone();
    let folder = cluster.folder.path().to_path_buf();
    let old = cluster.folder.path().join("server-1");
    whole_log(&seams, &old);
    let mut cluster = keep_folder(cluster).await;
    for (number, origin) in [Origin::Backup(&file, &key), Origin::Survivor(&old)].into_iter().enumerate() {
        let data = folder.join(format!("restored-{number}"));
        let config = restored_config(data.clone());
        let restored = restore(&config, seams.clone(), origin, Terms::default(), |_| Ok(())).await.unwrap();
        assert!(restored.checkpoints > 0 && restored.epoch == 2);
        let node = Node::start(config, seams.clone()).await.unwrap();
        node.ready().await;
        cluster.context.servers = vec![node.addresses().api.to_string()];
        let connector = certwright_agent::Connector::new(&cluster.context, &seams).unwrap();
        let channel = connector.connect_to(&cluster.context.servers[0]).await.unwrap();
        for (index, version) in &told.labels {
            match get(&channel, Some(AsOf::Index(*index))).await {
                Ok(found) => assert_eq!(found.certificate.unwrap().labels["version"], *version),
                Err(refused) => too_old(refused, first),
            }
        }
        node.stop().await;
        whole_log(&seams, &data);
    }
    drop(cluster);
}

/// Stops the servers and keeps what is on their disks.
async fn keep_folder(mut cluster: Cluster) -> Cluster {
    cluster.halt(1).await;
    cluster
}

fn restored_config(data: std::path::PathBuf) -> NodeConfig {
    let free = || std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let listen = certwright_api::node::Listen { api: Some(free()), raft: Some(free()), http: Some(free()) };
    NodeConfig { listen, segment_octets: Some(SEGMENT_OCTETS), strict: true, ..NodeConfig::new(data) }
}

fn whole_log(seams: &Seams, data: &Path) {
    let report = verify_log(&*seams.disk, data, &mut |_| {}).unwrap();
    assert_eq!(report.log.finding, None);
    assert!(report.checkpoints > 0 && report.log.floor.is_some());
}

/// What every server says of where its history begins; `None` while one lacks the state there.
async fn begins(cluster: &Cluster) -> Option<Vec<u64>> {
    let described = support::cluster(cluster.channel(1)).await.unwrap();
    let nodes = described.nodes.iter();
    nodes.map(|node| (!node.history_incomplete).then_some(node.history_first_index)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_lets_go_of_what_is_old_and_has_ended_and_one_that_joins_begins_there() {
    const HOUR: i64 = 3600;
    // A day to keep, and the week that history stays besides.
    let (system, hours) = (Seams::system(), 30 + 7 * 24);
    let (base, time) = (system.clock.wall_millis(), system.clock.clone());
    let clock = Arc::new(SimClock::driven_by(base, Arc::new(move || time.monotonic())));
    let seams = Seams { clock: clock.clone(), ..system };
    let configure = |config| async move {
        NodeConfig { segment_octets: Some(SEGMENT_OCTETS), snapshot_octets: Some(20_000), ..config }
    };
    let mut cluster = Cluster::found_on(seams, configure).await;
    let channel = cluster.channel(1).clone();
    demo(&channel).await;
    cluster.grow(2, 1).await;
    let old = label(&channel, 0).await;
    let index = events(&channel, v1::WatchRequest { stream_prefix: NAME.into(), ..Default::default() }).await.unwrap();
    let index = index[0].event.as_ref().unwrap().index;
    let hour = Some(prost_types::Duration { seconds: HOUR, nanos: 0 });
    for _ in 0..200 {
        issue(&channel, v1::IssueRequest { duration: hour, ..order("") }).await;
    }
    let keep = Some(prost_types::Duration { seconds: 24 * HOUR, nanos: 0 });
    let request = |keep| v1::SetRetentionRequest { keep, ..Default::default() };
    let set = async |keep| ClusterClient::new(channel.clone()).set_retention(request(keep)).await;
    let refused = from_status(&set(hour).await.unwrap_err());
    assert_eq!((refused.reason, refused.field.as_deref()), (Reason::InvalidSpec, Some("keep")));
    set(keep).await.unwrap();
    assert_eq!(begins(&cluster).await, Some(vec![0, 0]));
    clock.set_skew_millis(hours * HOUR * 1000);
    let held = async || support::cluster(cluster.channel(1)).await.ok()?.renewal_hold;
    until("a hold", PATIENCE, held).await;
    ClusterClient::new(channel.clone()).release_renewals(v1::ReleaseRenewalsRequest::default()).await.unwrap();
    let gone = async || begins(&cluster).await.filter(|begins| begins[0] > index && begins[0] == begins[1]);
    let first = until("history that goes", 2 * PATIENCE, gone).await[0];
    let retention = support::cluster(cluster.channel(1)).await.unwrap().retention.unwrap();
    assert_eq!((retention.first_index, retention.keep), (first, keep));
    cluster.grow(3, 1).await;
    let joined = async || begins(&cluster).await.filter(|begins| begins.iter().all(|begins| *begins == first));
    until("history that begins there everywhere", 2 * PATIENCE, joined).await;
    for number in [1, 2, 3] {
        let channel = cluster.channel(number);
        let told = async || get(channel, Some(AsOf::Index(first - 1))).await.ok()?.certificate;
        assert_eq!(until("the state there", PATIENCE, told).await.labels, old.labels);
        too_old(get(channel, Some(AsOf::Index(index))).await.unwrap_err(), first);
        let told = async || events(channel, v1::WatchRequest { from_index: first, ..Default::default() }).await.ok();
        assert!(
            until("what is kept", PATIENCE, told)
                .await
                .iter()
                .all(|it| it.event.as_ref().is_none_or(|it| it.index >= first))
        );
    }
    cluster.stop().await;
}

/// A cluster of one whose log time was a day ahead when most versions of a certificate were declared, and was set back to the
/// moment in the answer before the last one.
async fn set_back() -> (Cluster, Told, prost_types::Timestamp) {
    const DAY_SECONDS: i64 = 24 * 3600;
    let (seams, clock) = machine();
    let configure = |config| async move { NodeConfig { segment_octets: Some(SEGMENT_OCTETS), ..config } };
    let cluster = Cluster::found_on(seams, configure).await;
    let channel = cluster.channel(1).clone();
    demo(&channel).await;
    let mut versions = 0_usize..;
    clock.set_skew_millis(DAY_SECONDS * 1000);
    until("log time follows", PATIENCE, async || {
        label(&channel, versions.next()?).await;
        let seen = support::cluster(&channel).await.ok()?;
        (seen.log_time?.seconds > moment(&clock).seconds - 60).then_some(())
    })
    .await;
    for version in versions.by_ref().take(4) {
        label(&channel, version).await;
    }
    clock.set_skew_millis(0);
    let rebased = until("the clocks agree", PATIENCE, async || {
        let request = v1::RebaseTimeRequest { clock: Some(moment(&clock)), ..Default::default() };
        ClusterClient::new(channel.clone()).rebase_time(request).await.ok()
    })
    .await;
    let (from, to) = (rebased.get_ref().from.unwrap(), rebased.get_ref().to.unwrap());
    assert!(from.seconds - to.seconds > DAY_SECONDS / 2, "{from} to {to}");
    label(&channel, versions.next().unwrap()).await;
    let told = Told::of(&all(&channel).await);
    (cluster, told, to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_of_when_log_time_was_ahead_is_told_by_the_time_that_holds_now() {
    let (mut cluster, told, to) = set_back().await;
    let [.., (first, _), (_, ahead), (_, after)] = &told.labels[..] else { panic!("{:?}", told.labels) };
    trim(&mut cluster, *first, true).await;
    let channel = cluster.channel(1);
    let version = async |as_of: AsOf| {
        let found = get(channel, Some(as_of)).await.unwrap();
        found.certificate.unwrap().labels["version"].clone()
    };
    for (index, expected) in told.labels.iter().filter(|(index, _)| index >= first) {
        assert_eq!(version(AsOf::Index(*index)).await, *expected);
    }
    let at = |seconds: i64| AsOf::Time(prost_types::Timestamp { seconds: to.seconds + seconds, nanos: to.nanos });
    assert_eq!(version(at(0)).await, *ahead);
    assert_eq!(version(at(3600)).await, *after, "what will be is what is");
    // All that is of before counts as of when log time was set back, and so does what history begins with.
    let begins = to.seconds as u64 * 1000 + to.nanos as u64 / 1_000_000;
    let begins = certwright_core::time::Timestamp::from_millis(begins);
    let refused = get(channel, Some(at(-1))).await.unwrap_err();
    let message = from_status(&refused).message;
    assert!(message.contains(&format!(", after {begins};")), "{message}");
    too_old(refused, *first);

    let (key, file) = (BackupKey::generate().unwrap(), cluster.folder.path().join("estate.backup"));
    backup(&cluster, &key, &file).await;
    let disk = cluster.seams.disk.clone();
    let as_of = |moment| survey::as_of(&*disk, &file, &key, moment);
    assert_eq!(version_in(as_of(Moment::Time(begins)).unwrap().state()), Some(ahead.clone()));
    let before = begins.minus(std::time::Duration::from_millis(1));
    for moment in [Moment::Time(before), Moment::Index(first - 2)] {
        let refused = as_of(moment).map(drop).unwrap_err();
        assert_eq!(refused.reason, Reason::TokenTooOld);
        assert!(refused.message.contains(&format!(", after {begins}:")), "{}", refused.message);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_history_begins_with_and_that_is_damaged_is_found() {
    let (cluster, ..) = trimmed().await;
    let (seams, data) = (cluster.seams.clone(), cluster.folder.path().join("server-1"));
    let cluster = keep_folder(cluster).await;
    whole_log(&seams, &data);
    let base = std::fs::read_dir(data.join("base")).unwrap().next().unwrap().unwrap().path();
    let mut octets = std::fs::read(&base).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(&base, octets).unwrap();
    assert!(verify_log(&*seams.disk, &data, &mut |_| {}).unwrap().log.finding.is_some());
    std::fs::remove_file(&base).unwrap();
    let finding = verify_log(&*seams.disk, &data, &mut |_| {}).unwrap().log.finding.unwrap();
    assert!(finding.what.contains("is missing"), "{finding:?}");
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_of_which_the_log_says_nothing_is_found_although_everything_fits() {
    let (cluster, ..) = trimmed_as(false).await;
    let (key, file) = (BackupKey::generate().unwrap(), cluster.folder.path().join("estate.backup"));
    backup(&cluster, &key, &file).await;
    let (seams, folder) = (cluster.seams.clone(), cluster.folder.path().to_path_buf());
    let refused = survey::read(&*seams.disk, &file, &key).map(drop).unwrap_err();
    assert!(refused.message.contains("no entry says"), "{refused:?}");
    let old = folder.join("server-1");
    let cluster = keep_folder(cluster).await;
    let report = verify_log(&*seams.disk, &old, &mut |_| {}).unwrap();
    assert!(report.log.finding.unwrap().what.contains("no entry says") && !report.beginning_unproved);
    for (number, origin) in [Origin::Backup(&file, &key), Origin::Survivor(&old)].into_iter().enumerate() {
        let config = restored_config(folder.join(format!("refused-{number}")));
        let refused = restore(&config, seams.clone(), origin, Terms::default(), |_| Ok(())).await.map(drop);
        assert!(refused.unwrap_err().message.contains("no entry says"));
    }
    drop(cluster);
}
