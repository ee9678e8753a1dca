//! The short form: each target over its samples, and over what a seeded mutation makes of them.

use super::*;

/// Mutated inputs of each target.
const INPUTS: u64 = 20_000;

struct Mutator {
    state: u64,
}

impl Mutator {
    fn below(&mut self, end: usize) -> usize {
        // Knuth's multiplier (MMIX); the upper bits are the good ones.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) % end.max(1) as u64) as usize
    }

    /// One to four changes: flipped bits, other bytes, cuts, copies of a part, parts of another sample.
    fn mutate(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = samples[self.below(samples.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(7) {
                _ if bytes.is_empty() => bytes.push(0),
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, b'"', b'0', b'9', b'-', b'\n', b'{', 0x7f, 0x80, 0xff][self.below(11)],
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.below(256) as u8),
                4 => {
                    bytes.remove(at);
                }
                5 => {
                    let end = (at + 1 + self.below(16)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => {
                    let other = &samples[self.below(samples.len())];
                    let from = self.below(other.len());
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
            }
        }
        bytes
    }
}

fn run(name: &str) {
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("there is such a target");
    let samples = samples(name);
    for sample in &samples {
        (target.body)(sample);
    }
    for seed in 0..INPUTS {
        let input = Mutator { state: seed }.mutate(&samples);
        let result = std::panic::catch_unwind(|| (target.body)(&input));
        assert!(
            result.is_ok(),
            "{name}, seed {seed}: {:?}",
            String::from_utf8_lossy(&input)
        );
    }
}

#[test]
fn json_requests() {
    run("json_requests");
}

#[test]
fn websocket_messages() {
    run("websocket_messages");
}

#[test]
fn signatures() {
    run("signatures");
}

#[test]
fn journal_records() {
    run("journal_records");
}

#[test]
fn event_log_records() {
    run("event_log_records");
}

#[test]
fn every_sample_is_accepted_by_something() {
    for text in samples("websocket_messages") {
        let is_client = serde_json::from_slice::<wire::ws::ClientMessage>(&text).is_ok();
        let is_server = serde_json::from_slice::<wire::ws::ServerMessage>(&text).is_ok();
        assert!(is_client || is_server, "{}", String::from_utf8_lossy(&text));
    }
    let [payload, record, command] = &samples("journal_records")[..] else {
        panic!("there are three")
    };
    assert!(wire::batch::decode::<types::Command>(payload).is_ok());
    assert!(wire::journal::decode_record(record, 1).is_ok());
    assert!(postcard::from_bytes::<types::Command>(command).is_ok());
    assert!(serde_json::from_slice::<wire::json::NewOrder>(&samples("json_requests")[0]).is_ok());
    assert!(serde_json::from_slice::<wire::json::InstrumentRequest>(&samples("json_requests")[6]).is_ok());
    assert!(wire::event_log::decode_record_header(&samples("event_log_records")[0]).is_ok());
}
