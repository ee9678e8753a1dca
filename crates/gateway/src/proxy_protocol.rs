//! The header by which a proxy in front, such as the edge, says who its client is: PROXY protocol, version 2 (haproxy's
//! `proxy-protocol.txt`, section 2.2). Version 1 is text and is not taken.
//!
//! Whoever may write it may be anybody: it is read only from addresses that the operator has named, and there it must be.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses.
const FIXED_BYTES: usize = 16;
/// Bytes of addresses and of what may follow them, which is skipped. Senders are asked to stay below 536 in all.
const REST_BYTES_MAX: usize = 1_024;
/// Version 2, with the command LOCAL (the proxy's own connection) or PROXY (a client's).
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// TCP over IPv4 and over IPv6, and nothing said.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;

/// Why a connection has no usable header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// It ended, or broke, within the header.
    #[error("the connection ended within the header: {0}")]
    Read(#[from] io::Error),
    /// It begins with something else.
    #[error("it does not begin with a PROXY protocol header of version 2")]
    Missing,
    /// The header is longer than it may be, or shorter than its addresses.
    #[error("a header can't have {0} bytes after its first 16")]
    Length(usize),
    /// It is about something else than TCP.
    #[error("it is of the command {command:#04x} and the family {family:#04x}, which are not of a client over TCP")]
    Kind {
        /// Version and command.
        command: u8,
        /// Family and transport.
        family: u8,
    },
}

/// Reads a header and nothing beyond it. The client's address; `None` if the connection is the proxy's own.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    let mut fixed = [0; FIXED_BYTES];
    // Byte for byte where it matters: a client that speaks first and little must not be waited for.
    stream.read_exact(&mut fixed[..1]).await?;
    if fixed[0] != SIGNATURE[0] {
        return Err(HeaderError::Missing);
    }
    stream.read_exact(&mut fixed[1..]).await?;
    if fixed[..12] != SIGNATURE {
        return Err(HeaderError::Missing);
    }
    let (command, family) = (fixed[12], fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let addresses = match (command, family) {
        (LOCAL, _) | (PROXY, UNSPECIFIED) => 0,
        (PROXY, TCP4) => 12,
        (PROXY, TCP6) => 36,
        _ => return Err(HeaderError::Kind { command, family }),
    };
    if !(addresses..=REST_BYTES_MAX).contains(&length) {
        return Err(HeaderError::Length(length));
    }
    let mut rest = [0; REST_BYTES_MAX];
    let rest = &mut rest[..length];
    stream.read_exact(rest).await?;
    Ok(match addresses {
        12 => {
            let address: [u8; 4] = rest[..4].try_into().expect("four bytes are four");
            Some((Ipv4Addr::from(address), port(&rest[8..])).into())
        }
        36 => {
            let address: [u8; 16] = rest[..16].try_into().expect("sixteen bytes are sixteen");
            Some((Ipv6Addr::from(address).to_canonical(), port(&rest[32..])).into())
        }
        _ => None,
    })
}

fn port(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read from a header's hex after the signature, and how many bytes are left.
    async fn check(hex: &str) -> String {
        let mut bytes = SIGNATURE.to_vec();
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        for pair in digits.chunks(2) {
            bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        }
        let mut stream = bytes.as_slice();
        match read(&mut stream).await {
            Ok(client) => format!("{client:?} and {}", stream.len()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn headers_are_read_as_the_specification_says() {
        let v6 = "20010db8000000000000000000000001 20010db8000000000000000000000002";
        for (hex, wanted) in [
            (
                "21 11 000c c0000201 cb00710a dc04 01bb 4745",
                "Some(192.0.2.1:56324) and 2",
            ),
            // Something follows the addresses within the header: it is skipped.
            (
                "21 11 000f c0000201 cb00710a dc04 01bb 040000 47",
                "Some(192.0.2.1:56324) and 1",
            ),
            (&format!("21 21 0024 {v6} dc04 01bb"), "Some([2001:db8::1]:56324) and 0"),
            ("20 00 0000 47", "None and 1"),
            ("20 11 000c c0000201 cb00710a dc04 01bb", "None and 0"),
            ("21 00 0000", "None and 0"),
            (
                "21 11 000b c0000201 cb00710a dc04 01",
                "a header can't have 11 bytes after its first 16",
            ),
            ("21 11 0401", "a header can't have 1025 bytes after its first 16"),
            ("21 12 000c c0000201 cb00710a dc04 01bb", "not of a client over TCP"),
            ("11 11 000c c0000201 cb00710a dc04 01bb", "not of a client over TCP"),
            ("21 11 000c c000", "the connection ended within the header"),
            ("21", "the connection ended within the header"),
        ] {
            let read = check(hex).await;
            assert!(read.contains(wanted), "{hex}: {read}");
        }
        for other in [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY TCP4 192.0.2.1 203.0.113.10 1 2\r\n",
            "\r\n\r\nGET / HTTP/1.1",
        ] {
            let error = read(&mut other.as_bytes()).await.unwrap_err();
            assert!(
                matches!(error, HeaderError::Missing | HeaderError::Read(_)),
                "{other}: {error}"
            );
        }
    }
}
