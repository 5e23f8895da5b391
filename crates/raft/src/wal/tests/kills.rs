//! A process of its own appends to a log on the machine's disk and is killed outright, at any moment: what it said was
//! durable is there afterwards.
//!
//! It refuses a clean end: the child never gets one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Lives of the log, each ended by SIGKILL.
const LIVES: usize = 22;
/// Tells the child where its log is.
const DIRECTORY_VARIABLE: &str = "CERTWRIGHT_TEST_WAL_DIRECTORY";
const CHILD: &str = "wal::tests::kills::appends_until_it_is_killed";

/// Any size by the index alone, so that the parent knows what must be there.
fn sized(index: u64) -> Record {
    record(index, 1, 16 + (index as usize * 37) % 1500)
}

fn open_on(directory: &Path) -> (Wal, Recovered) {
    Wal::open(&Seams::system(), directory, ME, WalOptions::new(SEGMENT_OCTETS)).unwrap()
}

fn acknowledge(what: &str, number: u64) -> Done {
    let line = format!("{what} {number}");
    Box::new(move |result| {
        result.unwrap();
        // Nobody reads any more once the parent has killed us.
        let _ = writeln!(std::io::stdout(), "{line}");
    })
}

#[tokio::test]
#[ignore = "the child of the test below"]
async fn appends_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) else { return };
    let (wal, recovered) = open_on(Path::new(&directory));
    let mut next = recovered.last.map_or(0, |last| last.index + 1);
    let mut rng = StdRng::seed_from_u64(next);
    // An orphan ends by itself.
    for _ in 0..20_000 {
        let to = next + rng.random_range(1..5);
        wal.append((next..to).map(sized).collect(), acknowledge("entry", to - 1)).await;
        next = to;
        if rng.random_range(0..8) == 0 {
            wal.save_vote(Bytes::copy_from_slice(&next.to_be_bytes()), acknowledge("vote", next)).await;
        }
        // The writer has its turn: some batches are small.
        if rng.random_range(0..4) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Runs the child until it has said so many things, kills it, and answers the greatest of each kind it ever said.
fn one_life(directory: &Path, say: usize) -> (u64, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY_VARIABLE, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let (mut heard, mut entry, mut vote) = (0, 0, 0);
    let mut line = String::new();
    while said.read_line(&mut line).unwrap() > 0 {
        // What was cut off in the middle of a line was not said.
        let words = line.strip_suffix('\n').and_then(|line| line.split_once(' '));
        let number = words.and_then(|(_, number)| number.parse::<u64>().ok());
        match (words.map(|(what, _)| what), number) {
            (Some("entry"), Some(number)) => entry = entry.max(number),
            (Some("vote"), Some(number)) => vote = vote.max(number),
            _ => {}
        }
        heard += usize::from(number.is_some());
        if heard == say {
            child.kill().unwrap();
        }
        line.clear();
    }
    let status = child.wait().unwrap();
    assert!(heard >= say && !status.success(), "the child ended by itself: {status}, {heard} of {say}");
    (entry, vote)
}

#[tokio::test]
async fn what_was_acknowledged_survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log");
    let mut rng = StdRng::seed_from_u64(9);
    let mut segments = 0;
    for life in 0..LIVES {
        let (entry, vote) = one_life(&directory, rng.random_range(2..120));
        let (wal, recovered) = open_on(&directory);
        let last = recovered.last.expect("entries were acknowledged").index;
        assert!(last >= entry, "life {life}: entry {entry} was acknowledged, the log ends with {last}");
        assert_eq!(live(&wal), (0..=last).map(sized).collect::<Vec<_>>(), "life {life}");
        if vote > 0 {
            let kept = recovered.vote.expect("a vote was acknowledged");
            let kept = u64::from_be_bytes(kept[..].try_into().unwrap());
            assert!(kept >= vote, "life {life}: vote {vote} was acknowledged, {kept} is kept");
        }
        segments = wal.segments().len();
        wal.close().await;
        assert_eq!(verify_at(&directory).finding, None, "life {life}");
    }
    assert!(segments > 2, "the lives went over to new segments, too");
}
