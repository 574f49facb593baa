//! The client's address: found once for each request, by the envelope, and taken from there by everyone.
//!
//! Behind proxies of ours the peer is a proxy, and each of them has appended the address that it saw to
//! `X-Forwarded-For`. Only what our own proxies wrote is believed: as many hops, counted from the right, as are
//! configured. What stands further left was written by whoever sent the request.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use axum::{extract::FromRequestParts, http::request::Parts};
use http::{Extensions, HeaderMap};

use super::headers::X_FORWARDED_FOR;

/// The other end of the connection; put into the request's extensions by the accept loop.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The client's address, as far as it is known; put into the request's extensions by the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress(pub Option<IpAddr>);

/// What limits by address count under: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitKey(u128);

impl ClientAddress {
    /// The address of a request that came in over a connection from the peer in `extensions`.
    pub fn find(headers: &HeaderMap, extensions: &Extensions, trusted_hops: u8) -> Self {
        let peer = extensions.get::<Peer>().map(|peer| peer.0.ip());
        Self(client_ip(headers, peer, trusted_hops))
    }

    /// The address that the envelope put into the request's extensions.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }

    /// What limits count under. Clients of unknown address share one key: not to know is no way past a limit.
    pub fn limit_key(self) -> LimitKey {
        limit_key(self.0.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
    }
}

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from(self.0);
        match address.to_ipv4_mapped() {
            Some(address) => address.fmt(f),
            None => write!(f, "{address}/64"),
        }
    }
}

/// What limits by address count under. A single customer is given at least a /64 of IPv6, and may use a new address of
/// it for every request.
pub fn limit_key(ip: IpAddr) -> LimitKey {
    match normal(ip) {
        IpAddr::V4(address) => LimitKey(u128::from(address.to_ipv6_mapped())),
        IpAddr::V6(address) => LimitKey(u128::from(address) >> 64 << 64),
    }
}

/// The address of the client: as many hops from the right as are ours, never the leftmost for its own sake.
fn client_ip(headers: &HeaderMap, peer: Option<IpAddr>, trusted_hops: u8) -> Option<IpAddr> {
    let peer = peer.map(normal);
    if trusted_hops == 0 {
        return peer;
    }
    // As bytes: a proxy of ours may append to a value that is not text, and the hop it appends still is.
    let hops: Vec<&[u8]> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect();
    // Fewer hops than proxies: the request came in behind some of them, and the first is the best that is known.
    let at = hops.len().saturating_sub(usize::from(trusted_hops));
    hops.get(at).and_then(|hop| address(str::from_utf8(hop).ok()?.trim())).or(peer)
}

fn address(hop: &str) -> Option<IpAddr> {
    hop.parse()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(normal)
}

/// An IPv4 address that a socket of both families reports as IPv6 is that IPv4 address.
fn normal(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        headers
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_client_is_counted_from_the_right() {
        let peer = Some(ip("10.0.0.1"));
        let headers = forwarded(&["6.6.6.6, 1.2.3.4", "10.0.0.2"]);
        for (hops, expected) in
            [(0, "10.0.0.1"), (1, "10.0.0.2"), (2, "1.2.3.4"), (3, "6.6.6.6"), (9, "6.6.6.6")]
        {
            assert_eq!(client_ip(&headers, peer, hops), Some(ip(expected)));
        }
        assert_eq!(client_ip(&forwarded(&["what"]), peer, 1), peer);
        assert_eq!(client_ip(&forwarded(&["[::1]:80"]), peer, 1), Some(ip("::1")));
        assert_eq!(client_ip(&forwarded(&["[2001:db8::1]"]), peer, 1), Some(ip("2001:db8::1")));
        assert_eq!(client_ip(&forwarded(&["1.2.3.4:5678"]), peer, 1), Some(ip("1.2.3.4")));
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        let peer = Some(ip("10.0.0.1"));
        // The last hop is what our one proxy saw; all before it is made up.
        for made_up in ["6.6.6.6", "6.6.6.6, 7.7.7.7", "127.0.0.1", "::1", "\"", "unknown", ",,,"] {
            for headers in [forwarded(&[&format!("{made_up}, 1.2.3.4")]), forwarded(&[made_up, "1.2.3.4"])] {
                assert_eq!(client_ip(&headers, peer, 1), Some(ip("1.2.3.4")), "{made_up}");
                assert_eq!(client_ip(&headers, peer, 0), peer, "{made_up}");
            }
        }
        // A hop of ours that is no address does not make the one to its left the client.
        assert_eq!(client_ip(&forwarded(&["6.6.6.6, unknown"]), peer, 1), peer);
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, http::HeaderValue::from_bytes(b"6.6.6.6,\xff, 1.2.3.4").unwrap());
        assert_eq!(client_ip(&headers, peer, 1), Some(ip("1.2.3.4")));
        assert_eq!(client_ip(&headers, peer, 2), peer);
    }

    #[test]
    fn a_mapped_address_is_the_one_it_maps() {
        assert_eq!(client_ip(&HeaderMap::new(), Some(ip("::ffff:1.2.3.4")), 0), Some(ip("1.2.3.4")));
        assert_eq!(client_ip(&forwarded(&["::ffff:1.2.3.4"]), None, 1), Some(ip("1.2.3.4")));
        assert_eq!(limit_key(ip("::ffff:1.2.3.4")), limit_key(ip("1.2.3.4")));
        assert_eq!(limit_key(ip("1.2.3.4")).to_string(), "1.2.3.4");
    }

    #[test]
    fn limits_count_a_network_of_ipv6_and_an_address_of_ipv4() {
        assert_eq!(limit_key(ip("2001:db8:1:2::1")), limit_key(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(limit_key(ip("2001:db8:1:2::1")), limit_key(ip("2001:db8:1:3::1")));
        assert_ne!(limit_key(ip("1.2.3.4")), limit_key(ip("1.2.3.5")));
        assert_ne!(limit_key(ip("0.0.0.0")), limit_key(ip("::")));
        assert_eq!(limit_key(ip("2001:db8:1:2::1")).to_string(), "2001:db8:1:2::/64");
    }
}
