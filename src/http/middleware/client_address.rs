//! Who is asking: an address that cannot be made up.
//!
//! `X-Forwarded-For` is believed only from a trusted proxy, and only back to the
//! rightmost hop that is not one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use rocket::request::Request;

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
}

/// What limits count by: an IPv4 address, or the /64 that an IPv6 household has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(u128);

impl Client {
    /// The client of `request`.
    pub fn of(request: &Request<'_>, trusted: &[IpNet]) -> Self {
        let peer =
            request.remote().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
        if !is_trusted(peer, trusted) {
            return Self { address: peer };
        }
        let hops: Vec<&str> =
            request.headers().get("X-Forwarded-For").flat_map(|line| line.split(',')).collect();
        let mut address = peer;
        for hop in hops.iter().rev() {
            // What cannot be read was not written by a proxy of ours: stop at the last that was.
            let Some(hop) = parse(hop.trim()) else { break };
            address = hop;
            if !is_trusted(hop, trusted) {
                break;
            }
        }
        Self { address }
    }

    /// What limits count by.
    pub fn key(self) -> ClientKey {
        match self.address {
            IpAddr::V4(v4) => ClientKey(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => ClientKey(v6.to_bits() >> 64 << 64),
        }
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// An address, perhaps with a port, perhaps in brackets.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let address =
        bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}
