//! Places that addresses share: a bound on connections that one address alone cannot use up.
//!
//! It refuses an address its share only where places are scarce: many honest peers may stand behind one address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// So many places, some of them for every address.
pub struct Places {
    limit: usize,
    /// Places of one address once more than half of all are taken.
    share: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    hosts: BTreeMap<IpAddr, usize>,
}

/// One connection's place, until it is dropped.
pub struct Place {
    host: IpAddr,
    taken: Arc<Mutex<Taken>>,
    /// Goes after the place is free again.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// That many places. While more than half of them are taken, nobody comes in from an address that has `share` already.
    pub fn new(limit: usize, share: usize) -> Self {
        Self { limit, share, taken: Arc::default() }
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A place for a connection from that address, if there is one for it.
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let (host, mut taken) = (host(address), lock(&self.taken));
        let count = taken.hosts.get(&host).copied().unwrap_or_default();
        let scarce = 2 * (taken.all + 1) > self.limit;
        if taken.all == self.limit || (scarce && count >= self.share) {
            return None;
        }
        taken.all += 1;
        taken.hosts.insert(host, count + 1);
        Some(Place { host, taken: Arc::clone(&self.taken), permit: None })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(count) = taken.hosts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                taken.hosts.remove(&self.host);
            }
        }
    }
}

/// Whose share a connection counts towards: an IPv6 host has a network of 64 bits to draw its addresses from.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_address_has_half_and_the_others_the_rest() {
        let places = Places::new(8, 2);
        let take = |from: &str| places.take(from.parse().unwrap());
        let mut first: Vec<_> = (0..4).map(|_| take("10.0.0.1").unwrap()).collect();
        assert!(take("10.0.0.1").is_none(), "more than half");
        let second = [take("10.0.0.2").unwrap(), take("10.0.0.2").unwrap()];
        assert!(take("10.0.0.2").is_none(), "more than its share of what is scarce");
        let third = take("10.0.0.3").unwrap();
        // Places that are free again are for those who have less.
        first.truncate(2);
        assert!(take("10.0.0.1").is_none());
        drop(third);
        first.truncate(1);
        first.push(take("10.0.0.1").unwrap());
        let rest = ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"].map(|from| take(from).unwrap());
        assert!(take("10.0.0.8").is_none(), "every place is taken");
        drop((first, second, rest));
        let taken = lock(&places.taken);
        assert!(taken.all == 0 && taken.hosts.is_empty(), "addresses are forgotten");
    }

    #[test]
    fn a_host_is_an_address_or_a_network_of_64_bits() {
        let of = |text: &str| host(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
