//! The header by which a node learns a client's address: PROXY protocol, version 2 (haproxy's `proxy-protocol.txt`,
//! section 2.2).

use std::net::{IpAddr, SocketAddr};

/// What every header begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
/// TCP over IPv4, and over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header of a connection that a client at `source` made to the edge at `destination`.
///
/// Addresses of two families, which an address in IPv6 clothes makes possible, are both written as IPv6.
pub fn header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let mut header = Vec::with_capacity(52);
    header.extend_from_slice(&SIGNATURE);
    header.push(VERSION_AND_COMMAND);
    let mut addresses = Vec::with_capacity(36);
    if let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) {
        header.push(TCP4);
        addresses.extend_from_slice(&from.octets());
        addresses.extend_from_slice(&to.octets());
    } else {
        header.push(TCP6);
        for address in [from, to] {
            let address = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            addresses.extend_from_slice(&address.octets());
        }
    }
    addresses.extend_from_slice(&source.port().to_be_bytes());
    addresses.extend_from_slice(&destination.port().to_be_bytes());
    let length = u16::try_from(addresses.len()).expect("two addresses and ports take at most 36 bytes");
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&addresses);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(source: &str, destination: &str) -> String {
        let header = header(source.parse().unwrap(), destination.parse().unwrap());
        header.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let signature = "0d0a0d0a000d0a515549540a";
        assert_eq!(
            hex("192.0.2.1:56324", "203.0.113.10:443"),
            format!("{signature}2111000cc0000201cb00710adc0401bb")
        );
        assert_eq!(
            hex("[2001:db8::1]:56324", "[2001:db8::2]:443"),
            format!(
                "{signature}21210024{}{}dc0401bb",
                "20010db8000000000000000000000001", "20010db8000000000000000000000002"
            )
        );
        // A socket for both families shows IPv4 clients in IPv6 clothes.
        assert_eq!(
            hex("[::ffff:192.0.2.1]:1", "[::ffff:203.0.113.10]:2"),
            format!("{signature}2111000cc0000201cb00710a00010002")
        );
        assert_eq!(
            hex("192.0.2.1:1", "[2001:db8::2]:2"),
            format!(
                "{signature}21210024{}{}00010002",
                "00000000000000000000ffffc0000201", "20010db8000000000000000000000002"
            )
        );
    }
}
