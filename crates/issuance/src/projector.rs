//! What is projected to disk: serial -> position, and stream -> positions but for direct issuances, found by
//! serial, and for checkpoints, of which the newest is state.
//!
//! It refuses values that the log holds already: a certificate is read from the log at its position.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, OnceLock, PoisonError};

use certwright_core::Event;
use certwright_core::ids::{Serial, checkpoints_stream, is_direct_stream};
use certwright_core::log::{Position, StreamId, Transaction};
use certwright_raft::Projector;
use prometheus::IntCounter;

/// Serials remembered while they are on their way to the store, where `find` cannot see them yet.
const RECENT_MAX: usize = 8192;

/// Answers what the store holds under a key.
pub type Find = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Key of a serial: `s/` and its 20 octets. Its value is a position.
pub fn serial_key(serial: &Serial) -> Vec<u8> {
    [b"s/", &serial.octets()[..]].concat()
}

/// What the keys of a stream begin with: `t/`, its name and a zero octet.
pub fn stream_prefix(stream: &StreamId) -> Vec<u8> {
    [b"t/", stream.as_str().as_bytes(), b"\0"].concat()
}

/// Key of one transaction of a stream: the prefix and the position, so that a scan is in log order.
pub fn stream_key(stream: &StreamId, position: Position) -> Vec<u8> {
    [&stream_prefix(stream)[..], &encode_position(position)].concat()
}

/// A position as 12 octets, big-endian: they sort as positions do.
pub fn encode_position(position: Position) -> [u8; 12] {
    let mut octets = [0; 12];
    octets[..8].copy_from_slice(&position.index.to_be_bytes());
    octets[8..].copy_from_slice(&position.ordinal.to_be_bytes());
    octets
}

/// The position that 12 octets hold.
pub fn decode_position(octets: &[u8]) -> Option<Position> {
    let (index, ordinal) = octets.split_at_checked(8)?;
    Some(Position {
        index: u64::from_be_bytes(index.try_into().ok()?),
        ordinal: u32::from_be_bytes(ordinal.try_into().ok()?),
    })
}

/// The position of a transaction of the stream, from its key.
pub fn position_of_key(stream: &StreamId, key: &[u8]) -> Option<Position> {
    decode_position(key.strip_prefix(&stream_prefix(stream)[..])?)
}

/// The projection of the domain's events.
pub struct Projection {
    find: OnceLock<Find>,
    recent: Mutex<Recent>,
    duplicates: IntCounter,
}

#[derive(Default)]
struct Recent {
    positions: BTreeMap<Serial, Position>,
    order: VecDeque<Serial>,
}

impl Projection {
    /// A projection that counts duplicate serials as `certwright_serial_duplicates_total` in the registry.
    pub fn new(registry: &prometheus::Registry) -> Self {
        let duplicates = crate::metrics::serial_duplicates();
        // A second registration is the same process opening a second log, as tests do; the first keeps the name.
        let _ = registry.register(Box::new(duplicates.clone()));
        Self { find: OnceLock::new(), recent: Mutex::default(), duplicates }
    }

    /// Says where projected values can be looked up; only then duplicates older than the newest few are noticed.
    pub fn find_with(&self, find: Find) {
        let _ = self.find.set(find);
    }

    /// How many serials were seen twice.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.get()
    }

    fn watch_serial(&self, serial: Serial, position: Position) {
        let stored = self.find.get().and_then(|find| find(&serial_key(&serial)));
        let earlier = match stored.as_deref().and_then(decode_position) {
            Some(earlier) => Some(earlier),
            None => self.recent.lock().unwrap_or_else(PoisonError::into_inner).add(serial, position),
        };
        // The same position again is a rebuild of the projection, not a second certificate.
        if let Some(earlier) = earlier.filter(|earlier| *earlier != position) {
            self.duplicates.inc();
            tracing::error!(%serial, %earlier, %position, "one serial on two certificates");
        }
    }
}

impl Recent {
    fn add(&mut self, serial: Serial, position: Position) -> Option<Position> {
        let earlier = self.positions.get(&serial).copied();
        if earlier.is_none() {
            self.positions.insert(serial, position);
            self.order.push_back(serial);
        }
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.positions.remove(&oldest);
        }
        earlier
    }
}

/// The serial that an event puts into the world.
fn serial_of(event: &Event) -> Option<Serial> {
    match event {
        Event::CertificateIssued(issued) => Some(issued.serial),
        Event::AuthorityCertified { serial, .. } => Some(*serial),
        Event::NodeIdentityIssued { identity, .. }
        | Event::AdministratorIdentityIssued { identity, .. }
        | Event::AgentIdentityIssued { identity, .. } => Some(identity.serial),
        _ => None,
    }
}

impl Projector<Event> for Projection {
    fn project(&self, position: Position, transaction: &Transaction<Event>, put: &mut dyn FnMut(Vec<u8>, Vec<u8>)) {
        let value = encode_position(position);
        for append in &transaction.appends {
            if !is_direct_stream(&append.stream) && append.stream != checkpoints_stream() {
                put(stream_key(&append.stream, position), Vec::new());
            }
            for serial in append.events.iter().filter_map(serial_of) {
                self.watch_serial(serial, position);
                put(serial_key(&serial), value.to_vec());
            }
        }
    }
}

#[cfg(test)]
mod tests;
