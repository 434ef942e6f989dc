//! The PROXY protocol, version 2, as a balancer that passes TCP on speaks it: a header before the client's first byte that
//! says where the client is. Who may speak it is a list of networks; what follows the header is none of this file's business.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use airunner_core::{Error, Label, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::Refusal;

/// The header's first twelve bytes (PROXY protocol, section 2.2): a line that no HTTP, TLS or SMTP server takes for its own.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes after the fixed part at most. Addresses take 36; a balancer adds some hundred bytes of what it knows besides.
const MAX_REST: u16 = 2 * 1024;

/// Networks that a listener may be told of at most.
pub const MAX_PROXIES: usize = 64;

/// A range of addresses (RFC 4632 section 3.1): an address with how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` lies in it; an IPv4 address counts as such where it is mapped into IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other)).checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other)).checked_shr(128 - u32::from(self.bits)).unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    /// An address alone is a network of one.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                Label::Config,
                format!(
                    "{text:?} is no network: write an address and how many of its bits count, as 10.0.0.0/16"
                ),
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Reads the header. None where the balancer speaks for itself (LOCAL: its health checks) or knows no address.
///
/// # Errors
/// `Refusal::Proxy` where there is no header or it can't be understood, `Refusal::HungUp` where the connection ends.
pub(crate) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, Refusal> {
    let mut fixed = [0; 16];
    exactly(stream, &mut fixed[..SIGNATURE.len()]).await?;
    if fixed[..SIGNATURE.len()] != SIGNATURE[..] {
        return Err(Refusal::Proxy);
    }
    exactly(stream, &mut fixed[SIGNATURE.len()..]).await?;
    let [command, family, high, low] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    let length = u16::from_be_bytes([high, low]);
    if command >> 4 != 2 || length > MAX_REST {
        return Err(Refusal::Proxy);
    }
    let mut rest = vec![0; usize::from(length)];
    exactly(stream, &mut rest).await?;
    match command & 0xf {
        0 => Ok(None),
        1 => source(family, &rest),
        _ => Err(Refusal::Proxy),
    }
}

/// The client's address: in each family two addresses, then two ports, the client's first.
fn source(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, Refusal> {
    let address = match family {
        // TCP over IPv4, TCP over IPv6.
        0x11 => rest.first_chunk::<12>().map(|all| {
            let [a, b, c, d, _, _, _, _, high, low, ..] = *all;
            SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
        }),
        0x21 => rest.first_chunk::<36>().and_then(|all| {
            let address = Ipv6Addr::from(*all.first_chunk::<16>()?);
            Some(SocketAddr::from((address, u16::from_be_bytes([all[32], all[33]]))))
        }),
        0x00 => return Ok(None),
        _ => None,
    };
    address.map(Some).ok_or(Refusal::Proxy)
}

async fn exactly(stream: &mut (impl AsyncRead + Unpin), bytes: &mut [u8]) -> Result<(), Refusal> {
    stream.read_exact(bytes).await.map(drop).map_err(|_| Refusal::HungUp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    async fn read(bytes: &[u8]) -> Result<Option<SocketAddr>, Refusal> {
        let mut stream = bytes;
        let result = read_header(&mut stream).await;
        if result.is_ok() {
            assert_eq!(stream, b"GET", "more or less than the header was read");
        }
        result
    }

    #[tokio::test]
    async fn the_clients_address_is_read_and_nothing_of_what_follows() {
        let v4 = [[192, 0, 2, 1], [10, 0, 0, 1]].concat();
        let ports = [0x1f, 0x90, 0x01, 0xbb];
        let bytes = [header(0x21, 0x11, &[&v4[..], &ports].concat()), b"GET".to_vec()].concat();
        assert_eq!(read(&bytes).await, Ok(Some("192.0.2.1:8080".parse().unwrap())));
        let more = [&v4[..], &ports, &[0xea, 0, 3, 1, 2, 3]].concat();
        let bytes = [header(0x21, 0x11, &more), b"GET".to_vec()].concat();
        assert_eq!(read(&bytes).await, Ok(Some("192.0.2.1:8080".parse().unwrap())));
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[15] = 9;
        v6[32..34].copy_from_slice(&[0, 80]);
        let bytes = [header(0x21, 0x21, &v6), b"GET".to_vec()].concat();
        assert_eq!(read(&bytes).await, Ok(Some("[2001::9]:80".parse().unwrap())));
    }

    #[tokio::test]
    async fn a_balancer_that_speaks_for_itself_gives_no_address() {
        for bytes in [header(0x20, 0, &[]), header(0x20, 0x11, &[7; 12]), header(0x21, 0, &[1, 2, 3])] {
            assert_eq!(read(&[bytes, b"GET".to_vec()].concat()).await, Ok(None));
        }
    }

    #[tokio::test]
    async fn what_is_no_header_of_version_2_is_refused() {
        let v1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 443\r\nGET".to_vec();
        let long = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        for bytes in [
            v1,
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            header(0x11, 0x11, &[0; 12]),
            header(0x22, 0x11, &[0; 12]),
            header(0x21, 0x12, &[0; 12]),
            header(0x21, 0x11, &[0; 11]),
            header(0x21, 0x21, &[0; 12]),
            long,
        ] {
            assert_eq!(read(&bytes).await, Err(Refusal::Proxy), "{bytes:?}");
        }
        let whole = header(0x21, 0x11, &[0; 12]);
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]).await, Err(Refusal::HungUp), "{cut}");
        }
    }

    #[test]
    fn a_network_holds_the_addresses_that_share_its_bits() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("0.0.0.0/0", "192.0.2.1") && !holds("0.0.0.0/0", "2001::1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(holds("2001:db8::/32", "2001:db8:ffff::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("::/0", "fe80::1") && holds("::1/128", "::1"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "name/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }
}
