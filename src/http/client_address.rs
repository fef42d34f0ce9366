//! Address of the client of a request, which a client cannot forge.
//!
//! `X-Forwarded-For` is trusted only from a trusted proxy, and only back to the rightmost hop that is not one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use rocket::request::Request;

/// Client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
}

/// Unit that limits apply to: an IPv4 address, or the /64 network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork(u128);

impl Client {
    /// Determines the client of `request`.
    pub fn of(request: &Request<'_>, trusted: &[IpNet]) -> Self {
        let peer = peer_of(request);
        if !is_trusted(peer, trusted) {
            return Self { address: peer };
        }
        let hops: Vec<&str> =
            request.headers().get("X-Forwarded-For").flat_map(|line| line.split(',')).collect();
        let mut address = peer;
        for hop in hops.iter().rev() {
            // A trusted proxy would not have written an invalid address.
            let Some(hop) = parse_hop(hop.trim()) else { break };
            address = hop;
            if !is_trusted(hop, trusted) {
                break;
            }
        }
        Self { address }
    }

    /// Returns the network that the client's limits apply to.
    pub fn network(self) -> ClientNetwork {
        match self.address {
            IpAddr::V4(v4) => ClientNetwork(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => ClientNetwork(v6.to_bits() >> 64 << 64),
        }
    }
}

/// Reports whether the request comes directly from a trusted proxy.
pub fn is_from_proxy(request: &Request<'_>, trusted: &[IpNet]) -> bool {
    is_trusted(peer_of(request), trusted)
}

fn peer_of(request: &Request<'_>) -> IpAddr {
    request.remote().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Parses an address with or without port and brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let address =
        bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}
