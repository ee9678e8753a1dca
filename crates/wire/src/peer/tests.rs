use super::*;
use types::{Epoch, GroupId, Incarnation, Sequence, Timestamp};

use crate::journal::{LogIndex, NodeId, RecordKind, Term};

fn hello() -> Hello {
    Hello {
        quarantined: Some(Quarantined {
            count: 2,
            last: Sequence(9),
            digest: 10,
        }),
        protocol_min: 1,
        protocol_max: 3,
        reads: ReadableVersions {
            journal: 1,
            batch: 2,
            snapshot: 3,
            engine: 4,
        },
        cluster: "test-1".parse().unwrap(),
        group: GroupId(5),
        incarnation: Incarnation(6),
        node: NodeId(7),
        role: Role::Gateway,
        program: program_version("0.1.0-dev+5").unwrap(),
        sent_at: Timestamp(8),
    }
}

fn message() -> RaftMessage {
    let entry = |index: u64, kind, data: &'static [u8]| RaftEntry {
        kind,
        term: Term(index + 1),
        index: LogIndex(index),
        data: Bytes::from_static(data),
    };
    RaftMessage {
        kind: 3,
        to: NodeId(1),
        from: NodeId(2),
        term: Term(3),
        log_term: Term(4),
        index: LogIndex(5),
        entries: vec![
            entry(6, RecordKind::Batch, b"a batch"),
            entry(7, RecordKind::Empty, b""),
            entry(8, RecordKind::ConfChangeV2, b"a change"),
        ],
        commit: LogIndex(9),
        commit_term: Term(10),
        snapshot: Some(Box::new(RaftSnapshot {
            index: LogIndex(11),
            term: Term(12),
            voters: vec![NodeId(1), NodeId(2), NodeId(3)],
            learners: vec![NodeId(4)],
            voters_outgoing: vec![NodeId(5), NodeId(6)],
            learners_next: vec![],
            auto_leave: true,
            data: Bytes::from_static(b"a snapshot"),
        })),
        request_snapshot: LogIndex(13),
        reject: true,
        reject_hint: LogIndex(14),
        context: Bytes::from_static(b"a context"),
        priority: -15,
    }
}

fn forward(token: u64, command: &'static [u8]) -> Forward {
    let command = Bytes::from_static(command);
    Forward { token, command }
}

/// One of each kind at least.
fn frames() -> Vec<Frame> {
    let sequenced = Outcome::Sequenced {
        sequence: Sequence(3),
        epoch: Epoch(4),
    };
    vec![
        Frame::Hello(hello()),
        Frame::Refused(Refusal {
            code: RefusalCode::Other(77),
            text: "add it first: größer".to_owned(),
        }),
        Frame::Raft(message()),
        Frame::Raft(RaftMessage::default()),
        Frame::Forward(vec![forward(1, b"one"), forward(2, b"")]),
        Frame::Answers(vec![
            Answer {
                token: 1,
                outcome: sequenced,
            },
            Answer {
                token: 2,
                outcome: Outcome::Refused { code: 5 },
            },
        ]),
        Frame::SnapshotBegin(SnapshotBegin {
            transfer: 1,
            bytes: 2,
            message: message(),
        }),
        Frame::SnapshotChunk(SnapshotChunk {
            transfer: 1,
            offset: 2,
            data: Bytes::from_static(b"a part"),
        }),
        Frame::SnapshotEnd(SnapshotEnd {
            transfer: 1,
            hash: [7; 32],
        }),
        Frame::Ping(Ping {
            nonce: 1,
            sent_at: Timestamp(2),
        }),
        Frame::Pong(Pong {
            nonce: 1,
            received_at: Timestamp(2),
            sent_at: Timestamp(3),
        }),
        Frame::ControlRequest(Bytes::from_static(b"who leads?")),
        Frame::ControlAnswer(Bytes::new()),
    ]
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![1, 2, 3];
    frame.encode(&mut bytes).unwrap();
    bytes.split_off(3)
}

/// The payload under a header whose CRC agrees with it.
fn sealed(kind: u8, payload: &[u8]) -> Bytes {
    let mut header = HeaderLayout {
        payload_bytes: u32::try_from(payload.len()).unwrap().into(),
        crc: 0.into(),
        kind,
        flags: 0,
        reserved: 0.into(),
    };
    header.crc = crc_of(header.as_bytes(), payload).into();
    [header.as_bytes(), payload].concat().into()
}

#[test]
fn what_is_encoded_is_decoded() {
    let frames = frames();
    for kind in FrameKind::ALL {
        assert!(frames.iter().any(|frame| frame.kind() == kind), "{}", kind.name());
        assert_eq!(FrameKind::from_number(kind as u8), Some(kind));
    }
    for frame in frames {
        let bytes = encoded(&frame);
        assert_eq!(bytes.len(), frame.encoded_bytes(), "{frame:?}");
        assert_eq!(decode_frame(bytes.into()), Ok(frame));
    }
    assert_eq!(FRAME_HEADER_BYTES, 12);
}

#[test]
fn cut_or_lengthened_frames_are_refused() {
    for frame in frames() {
        let bytes = Bytes::from(encoded(&frame));
        for length in 0..bytes.len() {
            assert!(decode_frame(bytes.slice(..length)).is_err(), "{frame:?} {length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode_frame(longer.into()), Err(FrameError::TrailingBytes(1)));
    }
}

#[test]
fn a_flipped_bit_is_found() {
    for frame in frames() {
        let good = encoded(&frame);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_frame(bytes.into()).is_err(), "{frame:?} {bit}");
        }
    }
}

/// As it would be if a program wrote nonsense and sealed it well.
#[test]
fn payloads_that_are_cut_or_damaged_under_a_good_checksum_do_no_harm() {
    let may_go_on = [FrameKind::Hello, FrameKind::Refused, FrameKind::SnapshotChunk];
    for frame in frames() {
        let (kind, bytes) = (frame.kind(), encoded(&frame));
        let payload = &bytes[FRAME_HEADER_BYTES..];
        if !matches!(kind, FrameKind::ControlRequest | FrameKind::ControlAnswer) {
            for length in 0..payload.len() {
                let read = decode_frame(sealed(kind as u8, &payload[..length]));
                assert!(
                    read.is_err() || kind == FrameKind::SnapshotChunk || read == Ok(Frame::Hello(older_hello())),
                    "{frame:?} {length} {read:?}"
                );
            }
            let longer = [payload, &[0]].concat();
            let read = decode_frame(sealed(kind as u8, &longer));
            assert_eq!(read.is_ok(), may_go_on.contains(&kind), "{frame:?}");
        }
        for at in 0..payload.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut damaged = payload.to_vec();
                damaged[at] = value;
                if let Ok(read) = decode_frame(sealed(kind as u8, &damaged)) {
                    assert_eq!(decode_frame(encoded(&read).into()), Ok(read));
                }
            }
        }
    }
}

#[test]
fn headers_are_bounded_by_their_kind() {
    let header = |kind: u8, bytes: usize| {
        let layout = HeaderLayout {
            payload_bytes: u32::try_from(bytes).unwrap().into(),
            crc: 0.into(),
            kind,
            flags: 0,
            reserved: 0.into(),
        };
        decode_header(layout.as_bytes().first_chunk().unwrap())
    };
    for kind in FrameKind::ALL {
        let most = kind.payload_bytes_max();
        assert_eq!(header(kind as u8, most).unwrap().payload_bytes, most);
        let bytes = most + 1;
        assert_eq!(header(kind as u8, bytes), Err(FrameError::TooLong { kind, bytes }));
    }
    assert_eq!(header(0, 0), Err(FrameError::Kind(0)));
    assert_eq!(header(13, 0), Err(FrameError::Kind(13)));
    let mut flagged = sealed(9, &[0; 16]).to_vec();
    flagged[9] = 1;
    assert_eq!(decode_frame(flagged.into()), Err(FrameError::Reserved));
}

#[test]
fn what_does_not_fit_is_not_sent_and_leaves_no_trace() {
    let mut entries = RaftMessage::default();
    let data = Bytes::from(vec![0; BATCH_BYTES_MAX]);
    entries.entries = (1..=5)
        .map(|index| RaftEntry {
            kind: RecordKind::Batch,
            term: Term(1),
            index: LogIndex(index),
            data: data.clone(),
        })
        .collect();
    let fits = Frame::Raft(entries.clone());
    assert_eq!(decode_frame(encoded(&fits).into()), Ok(fits));
    entries.entries.extend_from_within(..1);
    let mut state = RaftMessage::default();
    state.entries.push(RaftEntry {
        kind: RecordKind::HardState,
        term: Term(1),
        index: LogIndex(1),
        data: Bytes::new(),
    });
    let many = vec![forward(1, b"x"); FORWARDS_MAX + 1];
    let long = Forward {
        token: 1,
        command: vec![0; COMMAND_BYTES_MAX + 1].into(),
    };
    for frame in [
        Frame::Raft(entries),
        Frame::Raft(state),
        Frame::Forward(many),
        Frame::Forward(vec![long]),
        Frame::Forward(vec![]),
        Frame::Answers(vec![]),
        Frame::SnapshotChunk(SnapshotChunk {
            transfer: 1,
            offset: 0,
            data: vec![0; SNAPSHOT_CHUNK_BYTES_MAX + 1].into(),
        }),
        Frame::SnapshotChunk(SnapshotChunk {
            transfer: 1,
            offset: u64::MAX,
            data: vec![0; 1].into(),
        }),
        Frame::ControlRequest(vec![0; CONTROL_BYTES_MAX + 1].into()),
        Frame::Refused(Refusal {
            code: RefusalCode::NotAMember,
            text: "x".repeat(REFUSAL_TEXT_BYTES_MAX + 1),
        }),
    ] {
        let mut out = vec![1];
        assert!(frame.encode(&mut out).is_err(), "{:?}", frame.kind());
        assert_eq!(out, [1]);
    }
}

#[test]
fn entries_and_commands_are_slices_of_the_frame() {
    for frame in [Frame::Raft(message()), Frame::Forward(vec![forward(1, b"one")])] {
        let bytes = Bytes::from(encoded(&frame));
        let data = match decode_frame(bytes.clone()).unwrap() {
            Frame::Raft(message) => message.entries[0].data.clone(),
            Frame::Forward(forwards) => forwards[0].command.clone(),
            other => panic!("{other:?}"),
        };
        assert!(bytes.as_ptr_range().contains(&data.as_ptr()));
    }
}

#[test]
fn a_hello_of_a_later_version_is_understood() {
    let bytes = encoded(&Frame::Hello(hello()));
    let longer = [&bytes[FRAME_HEADER_BYTES..], b"what came later"].concat();
    assert_eq!(decode_frame(sealed(1, &longer)), Ok(Frame::Hello(hello())));
}

/// One of a program that doesn't say what is quarantined.
fn older_hello() -> Hello {
    Hello {
        quarantined: None,
        ..hello()
    }
}

#[test]
fn a_hello_says_what_is_quarantined_wholly_or_not_at_all() {
    let (older, newer) = (encoded(&Frame::Hello(older_hello())), encoded(&Frame::Hello(hello())));
    assert_eq!(decode_frame(older.clone().into()), Ok(Frame::Hello(older_hello())));
    let payload = &newer[FRAME_HEADER_BYTES..];
    for length in older.len() - FRAME_HEADER_BYTES + 1..payload.len() {
        let read = decode_frame(sealed(FrameKind::Hello as u8, &payload[..length]));
        assert_eq!(read, Err(FrameError::Cut), "{length}");
    }
}

#[test]
fn versions_are_agreed_on() {
    let speaking = |protocol_min, protocol_max| Hello {
        protocol_min,
        protocol_max,
        ..hello()
    };
    for (one, other, common) in [
        ((1, 1), (1, 1), Some(1)),
        ((1, 3), (2, 5), Some(3)),
        ((1, 9), (2, 5), Some(5)),
        ((1, 1), (2, 5), None),
    ] {
        let (one, other) = (speaking(one.0, one.1), speaking(other.0, other.1));
        assert_eq!(one.common_protocol(&other), common);
        assert_eq!(other.common_protocol(&one), common);
    }
}
