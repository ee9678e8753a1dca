//! Bytes that come from a disk.

use types::{AppliedBatch, BatchHeader, Command};
use wire::batch::{self, BatchEncoder};
use wire::event_log;
use wire::journal::{
    Chain, LogIndex, RecordFields, RecordKind, Term, decode_mark, decode_record, decode_segment_header, encode_mark,
    encode_record, encode_segment_header,
};
use wire::snapshot::{CheckedSnapshot, check_snapshot, decode_snapshot_header, encode_snapshot_header};

/// Any bytes as what a journal is made of: first as they are, then wrapped into what passes the checksums.
pub fn journal_records(bytes: &[u8]) {
    for segment in [0, 1, u64::MAX] {
        if let Ok(record) = decode_record(bytes, segment) {
            let mut again = Vec::new();
            encode_record(&record.fields, record.payload, &mut again);
            assert_eq!(
                decode_record(&again, segment).map(|record| record.fields),
                Ok(record.fields)
            );
        }
    }
    if let Ok(header) = decode_segment_header(bytes) {
        assert_eq!(decode_segment_header(&encode_segment_header(&header)), Ok(header));
    }
    if let Some(mark) = decode_mark(bytes) {
        assert_eq!(decode_mark(&encode_mark(&mark)), Some(mark));
    }
    if let Ok(info) = decode_snapshot_header(bytes) {
        assert_eq!(decode_snapshot_header(&encode_snapshot_header(&info)), Ok(info));
    }
    // What is whole is given whole, and never more than there was.
    if let Ok(CheckedSnapshot { state, .. }) = check_snapshot(bytes) {
        assert!(state.len() <= bytes.len());
    }
    batch_payload(bytes);
    wrapped(bytes);
}

/// The bytes as a batch, and behind a batch's header as its commands.
fn batch_payload(bytes: &[u8]) {
    if let Ok((header, commands)) = batch::decode::<Command>(bytes) {
        assert_eq!(header.count as usize, commands.len());
        // Commands have one encoding that is written; another one that is read means the same.
        let mut encoder = BatchEncoder::new();
        for command in &commands {
            encoder.push(command).expect("it came out of a batch of no more bytes");
        }
        let (_, again) = encoder.finish(header);
        assert_eq!(batch::decode::<Command>(&again), Ok((header, commands)));
    }
    let Ok((command, _)) = postcard::take_from_bytes::<Command>(bytes) else {
        return;
    };
    let mut encoder = BatchEncoder::new();
    if encoder.push(&command).is_err() {
        return;
    }
    let header = BatchHeader {
        first_sequence: types::Sequence(1),
        ..BatchHeader::default()
    };
    let (header, encoded) = encoder.finish(header);
    assert_eq!(batch::decode::<Command>(&encoded), Ok((header, vec![command])));
}

/// A record around the bytes is read back; with any one byte changed it isn't, and a record of another segment is none.
fn wrapped(bytes: &[u8]) {
    let [at, flip, rest @ ..] = bytes else { return };
    let payload = &rest[..rest.len().min(batch::BATCH_PAYLOAD_BYTES_MAX)];
    let fields = RecordFields {
        kind: RecordKind::Batch,
        incarnation: types::Incarnation(1),
        segment: 7,
        epoch: types::Epoch(1),
        term: Term(1),
        index: LogIndex(u64::from(*at)),
        first_sequence: types::Sequence(u64::from(*flip)),
        durable_index: LogIndex(0),
        chain: Chain([*flip; 32]),
    };
    let mut record = Vec::new();
    encode_record(&fields, payload, &mut record);
    let read = decode_record(&record, 7).expect("it was written so");
    assert_eq!((read.fields, read.payload, read.bytes), (fields, payload, record.len()));
    assert!(decode_record(&record, 8).is_err());
    assert!(decode_record(&record[..record.len() - 1], 7).is_err());
    let at = usize::from(*at) * record.len() / 256;
    record[at] ^= flip | 1;
    assert!(decode_record(&record, 7).is_err(), "a changed byte {at} goes unnoticed");
}

/// Any bytes as what an event log is made of.
pub fn event_log_records(bytes: &[u8]) {
    if let Ok(info) = event_log::decode_segment_header(bytes) {
        assert_eq!(
            event_log::decode_segment_header(&event_log::encode_segment_header(&info)),
            Ok(info)
        );
    }
    if let Ok(info) = event_log::decode_record_header(bytes) {
        let body = bytes.get(event_log::RECORD_HEADER_BYTES..).unwrap_or_default();
        let body = &body[..body.len().min(info.body_bytes)];
        if let Ok(batch) = event_log::decode_record_body(&info, body) {
            again(&batch);
        }
    }
    // Nobody writes such a peek without a checksum in front of it, but it must not panic either.
    let _ = event_log::peek_batch_header(bytes);
    // The bytes as a body that passes its checksum: only its content can be wrong then.
    let Ok((header, rest)) = postcard::take_from_bytes::<BatchHeader>(bytes) else {
        return;
    };
    let Ok((commands, rest)) = postcard::take_from_bytes::<Vec<types::AppliedCommand>>(rest) else {
        return;
    };
    let Ok((events, _)) = postcard::take_from_bytes::<Vec<types::Event>>(rest) else {
        return;
    };
    let batch = AppliedBatch {
        header,
        committed_at: None,
        commands,
        events,
    };
    let mut record = Vec::new();
    event_log::encode_record(&batch, &mut record);
    if let Ok(info) = event_log::decode_record_header(&record)
        && let Ok(read) = event_log::decode_record_body(&info, &record[event_log::RECORD_HEADER_BYTES..])
    {
        assert_eq!(read, batch);
        again(&read);
    }
}

/// A batch that was read is consistent, and is read again as it is written.
fn again(batch: &AppliedBatch) {
    for index in 0..batch.commands.len() {
        assert!(batch.events_of(index).len() <= batch.events.len());
    }
    let mut record = Vec::new();
    event_log::encode_record(batch, &mut record);
    let info = event_log::decode_record_header(&record).expect("it was written so");
    let body = &record[event_log::RECORD_HEADER_BYTES..];
    assert_eq!(event_log::decode_record_body(&info, body).as_ref(), Ok(batch));
}
