//! A network of namespaces: one host for each server and agent, joined by a bridge, and what can be done to it there.
//!
//! It refuses to exist outside the room of a run: the kernel takes it down with the room. It has no delays: that is
//! what [`gate`](crate::gate) is for.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::Result;

use crate::room::system;

/// Where namespaces have their names, in this room alone.
const NAMES: &str = "/run/netns";
/// Nobody has this address: what is sent there is lost without a word.
const NOWHERE: &str = "02:00:00:00:00:01";

/// The number of where callers are: outside all namespaces, at the bridge.
pub const CALLERS: usize = 254;

/// Hosts by name, numbered from 1.
pub struct Network {
    hosts: Vec<String>,
}

impl Network {
    /// Lays it out.
    pub fn new(hosts: &[String]) -> Result<Self> {
        std::fs::create_dir_all(NAMES)?;
        system("mount", &["-t", "tmpfs", "none", NAMES])?;
        system("ip", &["link", "add", "bridge", "type", "bridge"])?;
        system("ip", &["addr", "add", &format!("{}/24", real(CALLERS)), "dev", "bridge"])?;
        system("ip", &["link", "set", "bridge", "up"])?;
        for number in 1..=hosts.len() {
            system("ip", &["addr", "add", &format!("{}/32", told(number)), "dev", "lo"])?;
        }
        for (host, number) in hosts.iter().zip(1..) {
            let (port, address) = (format!("to-{number}"), format!("{}/24", real(number)));
            system("ip", &["netns", "add", host])?;
            system("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", host])?;
            system("ip", &["link", "set", &port, "master", "bridge", "up"])?;
            system("ip", &["-n", host, "link", "set", "lo", "up"])?;
            system("ip", &["-n", host, "addr", "add", &address, "dev", "eth0"])?;
            system("ip", &["-n", host, "link", "set", "eth0", "up"])?;
            for other in 1..=hosts.len() {
                system("ip", &["-n", host, "addr", "add", &format!("{}/32", told(other)), "dev", "lo"])?;
            }
        }
        Ok(Self { hosts: hosts.to_vec() })
    }

    /// Nothing from that host reaches the one of that number any more.
    pub fn deafen(&self, from: &str, to: usize) -> Result<()> {
        let to = real(to).to_string();
        let lost = ["neigh", "replace", &to, "lladdr", NOWHERE, "nud", "permanent", "dev", "eth0"];
        system("ip", &[&["-n", from], &lost[..]].concat()).map(drop)
    }

    /// What a host sends goes that fast at most.
    pub fn slow(&self, host: &str, kilobits: u32) -> Result<()> {
        let rate = format!("{kilobits}kbit");
        let shape =
            ["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "32kbit", "latency", "400ms"];
        system("tc", &[&["-n", host], &shape[..]].concat()).map(drop)
    }

    /// Everything is as it was.
    pub fn mend(&self) -> Result<()> {
        for host in &self.hosts {
            system("ip", &["-n", host, "neigh", "flush", "all", "nud", "permanent"])?;
            // Where nothing was slowed there is nothing to remove.
            let _ = system("tc", &["-n", host, "qdisc", "del", "dev", "eth0", "root"]);
        }
        Ok(())
    }
}

/// Where a host is.
pub fn real(number: usize) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(10, 77, 0, number as u8))
}

/// Where it says that it is; on every host a gate stands there.
pub fn told(number: usize) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(10, 88, 0, number as u8))
}

/// The namespace of a host.
pub fn namespace(host: &str) -> PathBuf {
    PathBuf::from(NAMES).join(host)
}

/// Words before a program that runs on a host.
pub fn on(host: &str) -> Vec<String> {
    vec!["nsenter".into(), format!("--net={}", namespace(host).display()), "--".into()]
}
