//! JSON bodies and WebSocket messages.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use types::{ClusterId, Decimal, OrderId, Position, RequestId, Symbol};
use wire::json;
use wire::ws::{ClientMessage, OrderRequest, Request, ServerMessage};

/// Any body of a REST request, each as every kind of request.
pub fn json_requests(bytes: &[u8]) {
    if let Some(order) = round_trip::<json::NewOrder>(bytes) {
        new_order(&order);
    }
    if let Some(replace) = round_trip::<json::Replace>(bytes) {
        replace.price.iter().chain(&replace.quantity).for_each(number);
    }
    if let Some(batch) = round_trip::<json::BatchRequest>(bytes) {
        batch.items.iter().for_each(batch_item);
    }
    if let Some(rules) = round_trip::<json::Rules>(bytes)
        && let Some(inside) = rules.rules()
    {
        assert_eq!(json::Rules::from(&inside), rules, "limits have one spelling");
    }
    if let Some(request) = round_trip::<json::InstrumentRequest>(bytes) {
        names(&request.symbol);
        let rules = &request.rules;
        [
            &rules.tick_size,
            &rules.lot_size,
            &rules.quantity_min,
            &rules.quantity_max,
        ]
        .into_iter()
        .for_each(number);
    }
    if let Some(transfer) = round_trip::<json::TransferRequest>(bytes) {
        names(&transfer.account_id);
        number(&transfer.amount);
    }
    round_trip::<json::CancelAfterRequest>(bytes);
    round_trip::<json::AssetRequest>(bytes);
    round_trip::<json::InstrumentStatusRequest>(bytes);
    round_trip::<json::AccountStatusRequest>(bytes);
    round_trip::<json::KeyRequest>(bytes);
    round_trip::<json::CancelAllForRequest>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        names(text);
    }
}

/// Any text frame, as each side would read it.
pub fn websocket_messages(bytes: &[u8]) {
    round_trip::<ServerMessage>(bytes);
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let uncopied = OrderRequest::read(text);
    let Some(message) = round_trip::<ClientMessage>(bytes) else {
        assert_eq!(uncopied, None, "what isn't valid is not valid without a copy");
        return;
    };
    let id = message.id;
    let request = message.into_request();
    if let Some(uncopied) = uncopied {
        let same = match request.as_ref().expect("there is exactly one") {
            Request::Place(order) => OrderRequest::Place(order.into()),
            Request::Replace(change) => OrderRequest::Replace(change.into()),
            Request::Cancel(cancel) => OrderRequest::Cancel(cancel.into()),
            other => panic!("{other:?} is not about one order"),
        };
        assert_eq!(uncopied, (id, same));
    }
    match request {
        Some(Request::Place(order)) => new_order(&order),
        Some(Request::Batch(batch)) => batch.items.iter().for_each(batch_item),
        Some(Request::Subscribe(subscribe)) => {
            // A position of a stream is what the client says it is, if it is one at all.
            if let Some(position) = subscribe.from.and_then(|from| from.position()) {
                assert_eq!(position.to_string().parse::<Position>(), Ok(position));
            }
        }
        _ => {}
    }
}

fn new_order(order: &json::NewOrder) {
    names(&order.client_order_id);
    names(&order.symbol);
    order.price.iter().for_each(number);
    number(&order.quantity);
    if let Some(time) = order.valid_until.as_ref().and_then(json::TimeText::time) {
        assert_eq!(
            Some(json::TimeText::from(time)),
            order.valid_until,
            "times have one spelling"
        );
    }
}

fn batch_item(item: &json::BatchItem) {
    item.place.iter().for_each(new_order);
    if let Some(replace) = &item.replace {
        names(&replace.request_id);
        replace.price.iter().chain(&replace.quantity).for_each(number);
    }
    if let Some(cancel) = &item.cancel {
        names(&cancel.request_id);
    }
}

/// What is read, written and read again is the same.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(value, again);
    Some(value)
}

/// Decimal numbers are exact, at every step that an instrument may have.
fn number(text: &json::DecimalText) {
    let Ok(decimal) = text.decimal() else { return };
    assert_eq!(decimal.to_string().parse::<Decimal>(), Ok(decimal));
    for step in [
        Decimal::new(1, 0),
        Decimal::new(25, 2),
        Decimal::new(1, 8),
        Decimal::new(1, 18),
    ] {
        if let Ok(steps) = text.in_steps(step) {
            let back = json::DecimalText::of_steps(step, steps);
            assert_eq!(back.decimal(), Ok(decimal), "{text} in steps of {step}");
        }
    }
}

/// Ids and names are taken as they are or refused; none changes on its way.
fn names(text: &str) {
    fn same<T: std::str::FromStr + ToString>(text: &str) {
        if let Ok(name) = text.parse::<T>() {
            assert_eq!(name.to_string(), text);
        }
    }
    same::<RequestId>(text);
    same::<Symbol>(text);
    same::<ClusterId>(text);
    same::<OrderId>(text);
    same::<Position>(text);
}
