//! Inputs that are accepted, to start from.

use types::{
    Account, AccountId, AccountStatus, Action, AppliedBatch, AppliedCommand, BatchHeader, Command, Event, InstrumentId,
    KeyId, NewOrder, OrderType, Price, Quantity, SelfTradePrevention, Sequence, Side, TimeInForce, Timestamp,
};
use wire::batch::BatchEncoder;
use wire::event_log;
use wire::journal::{Chain, LogIndex, RecordFields, RecordKind, Term, encode_record};

/// What a target of this name accepts.
pub fn samples(target: &str) -> Vec<Vec<u8>> {
    match target {
        "json_requests" => texts(JSON),
        "websocket_messages" => texts(WEBSOCKET),
        "signatures" => texts(SIGNATURES),
        "journal_records" => journal(),
        "event_log_records" => event_log_samples(),
        _ => Vec::new(),
    }
}

fn texts(samples: &[&str]) -> Vec<Vec<u8>> {
    samples.iter().map(|sample| sample.as_bytes().to_vec()).collect()
}

const JSON: &[&str] = &[
    r#"{"client_order_id":"a-1","symbol":"BTC-USD","side":"buy","type":"limit","time_in_force":"gtc","price":"50000.00","quantity":"0.10","post_only":false,"self_trade_prevention":"cancel_newest","valid_until":"1790000000000000000"}"#,
    r#"{"client_order_id":"a-2","symbol":"BTC-USD","side":"sell","type":"market","quantity":"1","validate_only":true}"#,
    r#"{"price":"1.5","quantity":"2","post_only":true}"#,
    r#"{"items":[{"place":{"client_order_id":"a","symbol":"A-B","side":"buy","type":"limit","price":"1","quantity":"1"}},{"cancel":{"request_id":"c","client_order_id":"a"}},{"replace":{"request_id":"r","order_id":"0.1.5","price":"2"}}]}"#,
    r#"{"after_ms":1000}"#,
    r#"{"symbol":"USD","decimals":2}"#,
    r#"{"symbol":"BTC-USD","base":"BTC","quote":"USD","rules":{"tick_size":"0.01","lot_size":"0.0001","quantity_min":"0.0001","quantity_max":"1000","notional_min":"1","notional_max":"1000000","collar_ppm":100000,"reference_price":"50000","maker_fee_ppm":-100,"taker_fee_ppm":500}}"#,
    r#"{"account_id":"2","asset":"USD","amount":"1000.00"}"#,
    r#"{"account_id":"2","scopes":["read","trade"],"type":"ed25519","public_key":"00"}"#,
    r#"{"version":2,"request_window_ns":"86400000000000","request_memory_bytes_max":"1073741824","open_orders_per_account_max":1,"open_orders_max":1,"accounts_max":1,"instruments_max":1,"keys_per_account_max":1,"expiries_per_command_max":1}"#,
    "0.1.1234",
    "0.1.1234.0",
];

const WEBSOCKET: &[&str] = &[
    r#"{"id":1,"login":{"key":"7","signature":"00ff"}}"#,
    r#"{"id":2,"place":{"client_order_id":"a-1","symbol":"BTC-USD","side":"buy","type":"limit","price":"50000.00","quantity":"0.10"}}"#,
    r#"{"id":3,"cancel":{"request_id":"c-1","order_id":"0.1.5"}}"#,
    r#"{"id":4,"replace":{"request_id":"r-1","client_order_id":"a-1","price":"1.00","quantity":"2"}}"#,
    r#"{"id":5,"cancel_all":{"request_id":"x","symbol":"BTC-USD"}}"#,
    r#"{"id":6,"cancel_after":{"request_id":"y","after_ms":5000}}"#,
    r#"{"id":7,"subscribe":{"channel":"book","symbol":"BTC-USD","depth":10,"from":{"group":0,"epoch":1,"sequence":"17"}}}"#,
    r#"{"id":8,"unsubscribe":{"channel":"fills"}}"#,
    r#"{"id":9,"batch":{"items":[{"cancel":{"request_id":"c","client_order_id":"a"}}]}}"#,
    r#"{"hello":{"nonce":"00","cluster_id":"demo","now":"1","position":{"group":0,"epoch":1,"sequence":"0"}}}"#,
    r#"{"reply":{"id":7,"status":200}}"#,
    r#"{"book":{"symbol":"A-B","snapshot":true,"position":{"group":0,"epoch":1,"sequence":"3"},"index":0,"previous":null,"items":[{"side":"buy","price":"1","quantity":"2","orders":1}]}}"#,
];

const SIGNATURES: &[&str] = &[
    "demo-1\n7\n1700000000000\n5000\na-1\nPOST\n/v1/orders?x=%20\n00ff",
    "c\n1\n0\n60000\n\nGET\n/v1/orders\n",
    "Meridian-Key: 7\nMeridian-Timestamp: 1700000000000\nMeridian-Window: 5000\nMeridian-Signature: 00ff\nMeridian-Request-Id: a-1\n",
    "meridian-key:1\nmeridian-timestamp:1\nmeridian-signature:\ncontent-encoding: gzip\nmeridian-key:2",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
];

fn command() -> Command {
    Command {
        account: AccountId(2),
        key: KeyId(3),
        request_id: "a-1".parse().expect("it is an id"),
        valid_until: Some(Timestamp(1_790_000_000_000_000_000)),
        received_at: Timestamp(1_780_000_000_000_000_000),
        action: Action::Place(NewOrder {
            instrument: InstrumentId(0),
            scale_version: 1,
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            price: Price(5_000_000),
            quantity: Quantity(1_000),
            post_only: false,
            self_trade_prevention: SelfTradePrevention::CancelNewest,
        }),
    }
}

fn header() -> BatchHeader {
    BatchHeader {
        first_sequence: Sequence(10),
        count: 2,
        sequenced_at: Timestamp(1_780_000_000_000_000_000),
        ..BatchHeader::default()
    }
}

fn journal() -> Vec<Vec<u8>> {
    let mut encoder = BatchEncoder::new();
    for command in [command(), Command::clock(Timestamp(5))] {
        encoder.push(&command).expect("two commands fit");
    }
    let (header, payload) = encoder.finish(header());
    let fields = RecordFields {
        kind: RecordKind::Batch,
        incarnation: header.incarnation,
        segment: 1,
        epoch: header.epoch,
        term: Term(1),
        index: LogIndex(2),
        first_sequence: header.first_sequence,
        durable_index: LogIndex(1),
        chain: Chain([7; 32]),
    };
    let mut record = Vec::new();
    encode_record(&fields, &payload, &mut record);
    let command = postcard::to_allocvec(&command()).expect("plain data encodes into memory");
    vec![payload, record, command]
}

fn event_log_samples() -> Vec<Vec<u8>> {
    let account = Account {
        id: AccountId(2),
        status: AccountStatus::Active,
    };
    let command = |events_end| AppliedCommand {
        received_at: Timestamp(1),
        events_end,
    };
    let batch = AppliedBatch {
        header: header(),
        committed_at: None,
        commands: vec![command(1), command(2)],
        events: vec![Event::AccountChanged(account), Event::ClockAdvanced],
    };
    let mut record = Vec::new();
    event_log::encode_record(&batch, &mut record);
    let body = record[event_log::RECORD_HEADER_BYTES..].to_vec();
    vec![record, body]
}
