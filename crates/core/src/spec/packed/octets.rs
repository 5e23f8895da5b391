//! The octets of a packed specification: numbers of variable length (LEB128), texts and lists after their length.
//!
//! It refuses foreign input: it reads what it wrote in this process, so a malformed octet is a bug and may panic.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.0.push(flag.into());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn duration(&mut self, duration: Duration) {
        self.number(duration.as_secs());
        self.number(duration.subsec_nanos().into());
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                self.flag(false);
                self.0.extend_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.flag(true);
                self.0.extend_from_slice(&v6.octets());
            }
        }
    }

    pub(super) fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(values.len() as u64);
        for value in values {
            write(self, value);
        }
    }

    pub(super) fn map(&mut self, map: &BTreeMap<String, String>) {
        self.number(map.len() as u64);
        for (key, value) in map {
            self.text(key);
            self.text(value);
        }
    }
}

pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    pub(super) fn number(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let octet = self.take(1)[0];
            number |= u64::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                break;
            }
        }
        number
    }

    pub(super) fn flag(&mut self) -> bool {
        self.take(1)[0] != 0
    }

    pub(super) fn str(&mut self) -> &'a str {
        let count = self.number() as usize;
        std::str::from_utf8(self.take(count)).expect("it was text when it was packed")
    }

    pub(super) fn text(&mut self) -> String {
        self.str().to_owned()
    }

    pub(super) fn duration(&mut self) -> Duration {
        let seconds = self.number();
        Duration::new(seconds, self.number() as u32)
    }

    pub(super) fn address(&mut self) -> IpAddr {
        if self.flag() {
            let octets: [u8; 16] = self.take(16).try_into().expect("sixteen octets were taken");
            octets.into()
        } else {
            let octets: [u8; 4] = self.take(4).try_into().expect("four octets were taken");
            octets.into()
        }
    }

    pub(super) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| read(self))
    }

    pub(super) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.number();
        (0..count).map(|_| read(self)).collect()
    }

    pub(super) fn map(&mut self) -> BTreeMap<String, String> {
        self.list(|r| (r.text(), r.text())).into_iter().collect()
    }
}
