//! HTTP/1.1 requests with their signature, and the heads of answers (RFC 9112).

use anyhow::{Context as _, Result, bail};
use client::{Credentials, RequestParts, SignedAt};
use types::ClusterId;

use super::request::{Kind, Names, OrderRequest, push_number};

/// For whom and where requests are signed.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The key.
    pub credentials: &'a Credentials,
    /// The cluster that verifies.
    pub cluster: &'a ClusterId,
    /// What the `host` header says.
    pub host: &'a str,
    /// When it is signed, and for how long that holds.
    pub at: SignedAt,
}

impl Signer<'_> {
    /// Writes a request about one order, or a batch.
    pub fn push_request(&self, out: &mut Vec<u8>, names: &Names, requests: &[OrderRequest], batch: bool) {
        let request = &requests[0];
        let mut body = Vec::new();
        if batch {
            names.push_batch(&mut body, requests);
            return self.push(out, "POST", "/v1/orders/batch", "", &body);
        }
        let id = names.request_id(request.number);
        match request.kind {
            Kind::Place | Kind::Take => {
                names.push_place(&mut body, request);
                self.push(out, "POST", "/v1/orders", &id, &body);
            }
            Kind::Replace(target) => {
                names.push_replace_body(&mut body, request);
                let target = format!("/v1/orders/by-client-id/{}", names.request_id(target));
                self.push(out, "PATCH", &target, &id, &body);
            }
            Kind::Cancel(target) => {
                let target = format!("/v1/orders/by-client-id/{}", names.request_id(target));
                self.push(out, "DELETE", &target, &id, &body);
            }
        }
    }

    /// Writes any request.
    pub fn push(&self, out: &mut Vec<u8>, method: &str, target: &str, request_id: &str, body: &[u8]) {
        let parts = RequestParts {
            method,
            target,
            request_id,
            body,
        };
        for part in [method, " ", target, " HTTP/1.1\r\nhost: ", self.host, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if !body.is_empty() {
            out.extend_from_slice(b"content-type: application/json\r\ncontent-length: ");
            push_number(out, body.len() as u64);
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in self.credentials.headers(self.cluster, &parts, self.at) {
            for part in [name, ": ", &value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }
}

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
    /// How many bytes it took.
    pub bytes: usize,
    /// True if the server closes the connection behind it.
    pub closes: bool,
}

/// The first answer of what was read; none while it is not whole.
///
/// # Errors
/// If it is not HTTP/1.1 with a `content-length`.
pub fn first_response(input: &[u8]) -> Result<Option<Response<'_>>> {
    let Some(head_bytes) = end_of_head(input) else {
        return Ok(None);
    };
    let head = &input[..head_bytes];
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.first_chunk::<3>());
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let status = status.with_context(|| format!("not HTTP/1.1: {}", String::from_utf8_lossy(head)))?;
    let mut length = None;
    let mut closes = false;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        if let Some(value) = header_value(line, b"content-length:") {
            length = std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.trim().parse::<usize>().ok());
        } else if let Some(value) = header_value(line, b"connection:") {
            closes = value.trim_ascii().eq_ignore_ascii_case(b"close");
        }
    }
    let Some(length) = length else {
        bail!("an answer without a content-length: {}", String::from_utf8_lossy(head));
    };
    let bytes = head_bytes.checked_add(length).context("a content-length beyond any")?;
    Ok(input.get(head_bytes..bytes).map(|body| Response {
        status,
        body,
        bytes,
        closes,
    }))
}

fn header_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    // Most lines differ in the first byte.
    let (start, value) = line.split_at_checked(name.len())?;
    (start[0] | 0x20 == name[0] && start.eq_ignore_ascii_case(name)).then_some(value)
}

fn end_of_head(input: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let mut at = 0;
    loop {
        at += input.get(at..)?.iter().position(|byte| *byte == b'\r')?;
        if input[at..].starts_with(END) {
            return Some(at + END.len());
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Secret;
    use types::{KeyId, Side};

    /// What came in, cut after each byte: the same answers, whole, in order.
    #[test]
    fn answers_are_read_however_they_are_cut() {
        let answers = [
            "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n",
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: Close\r\ncontent-length: 4\r\n\r\n\r\n\r\n",
        ];
        let input = answers.concat().into_bytes();
        let mut at = 0;
        let mut seen = Vec::new();
        for end in 0..=input.len() {
            while let Some(response) = first_response(&input[at..end]).unwrap() {
                at += response.bytes;
                seen.push((response.status, response.body.to_vec(), response.closes));
            }
        }
        let wanted = [
            (201, b"hello".to_vec(), false),
            (200, Vec::new(), false),
            (503, b"\r\n\r\n".to_vec(), true),
        ];
        assert_eq!((seen.as_slice(), at), (wanted.as_slice(), input.len()));
    }

    #[test]
    fn what_is_no_such_answer_is_said_to_be_none() {
        for input in [
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 2000 OK\r\ncontent-length: x\r\n\r\n",
        ] {
            assert!(first_response(input.as_bytes()).is_err(), "{input}");
        }
    }

    #[test]
    fn requests_carry_their_signature_and_body() {
        let credentials = Credentials {
            key: KeyId(7),
            secret: Secret::HmacSha256((0..32).collect()),
        };
        let cluster = "demo-1".parse().unwrap();
        let signer = Signer {
            credentials: &credentials,
            cluster: &cluster,
            host: "127.0.0.1:1",
            at: SignedAt {
                timestamp_ms: 1_700_000_000_000,
                window_ms: 5_000,
            },
        };
        let names = Names {
            run: "r-".to_owned(),
            symbols: vec!["AAA-BBB".to_owned()],
        };
        let request = |kind| OrderRequest {
            number: 5,
            kind,
            instrument: 0,
            side: Side::Buy,
            price_ticks: 100,
            quantity_lots: 1,
        };
        for (kind, first_line, has_body) in [
            (Kind::Place, "POST /v1/orders HTTP/1.1", true),
            (Kind::Replace(3), "PATCH /v1/orders/by-client-id/r-3 HTTP/1.1", true),
            (Kind::Cancel(3), "DELETE /v1/orders/by-client-id/r-3 HTTP/1.1", false),
        ] {
            let mut bytes = Vec::new();
            signer.push_request(&mut bytes, &names, &[request(kind)], false);
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let mut lines = head.split("\r\n");
            assert_eq!(lines.next(), Some(first_line));
            let headers: std::collections::BTreeMap<_, _> = lines.map(|line| line.split_once(": ").unwrap()).collect();
            assert_eq!(headers["meridian-request-id"], "r-5");
            assert_eq!(
                headers.get("content-length").map(|length| length.parse().unwrap()),
                has_body.then_some(body.len())
            );
            // Signing is tested against other implementations in `client`; here it must be over these very bytes.
            let (method, target) = first_line.strip_suffix(" HTTP/1.1").unwrap().split_once(' ').unwrap();
            let parts = RequestParts {
                method,
                target,
                request_id: "r-5",
                body: body.as_bytes(),
            };
            for (name, value) in credentials.headers(&cluster, &parts, signer.at) {
                assert_eq!(headers[name], value, "{kind:?}");
            }
        }
    }
}
