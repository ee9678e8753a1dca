//! Requests about orders as JSON, written without an allocation each.

use types::Side;

/// Ticks and lots are hundredths and tenths: what `harness` makes its instruments with.
const TICKS_PER_UNIT: u64 = 100;
const LOTS_PER_UNIT: u64 = 10;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A limit order that rests.
    Place,
    /// An order that takes what there is, and is gone.
    Take,
    /// Another price and quantity for the order of this number.
    Replace(u64),
    /// The end of the order of this number.
    Cancel(u64),
}

/// A request about one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRequest {
    /// Its number in the whole run, of which its id is made.
    pub number: u64,
    /// What it does.
    pub kind: Kind,
    /// Of which instrument, as an index.
    pub instrument: u16,
    /// Buy or sell.
    pub side: Side,
    /// Its limit, in ticks.
    pub price_ticks: u64,
    /// Its quantity, in lots.
    pub quantity_lots: u64,
}

/// How numbers become names.
#[derive(Clone, Debug)]
pub struct Names {
    /// What every request id of the run begins with, so that no two runs share one.
    pub run: String,
    /// The instruments' symbols, by index.
    pub symbols: Vec<String>,
}

impl Names {
    /// The request id of this number.
    pub fn request_id(&self, number: u64) -> String {
        format!("{}{number}", self.run)
    }

    /// The number that an id was made of, if it is one of this run.
    pub fn number(&self, request_id: &str) -> Option<u64> {
        request_id.strip_prefix(self.run.as_str())?.parse().ok()
    }

    fn push_id(&self, out: &mut Vec<u8>, number: u64) {
        out.extend_from_slice(self.run.as_bytes());
        push_number(out, number);
    }

    /// The body of `POST /v1/orders`, which is also the object of `place`.
    pub fn push_place(&self, out: &mut Vec<u8>, request: &OrderRequest) {
        out.extend_from_slice(b"{\"client_order_id\":\"");
        self.push_id(out, request.number);
        out.extend_from_slice(b"\",\"symbol\":\"");
        out.extend_from_slice(self.symbols[usize::from(request.instrument)].as_bytes());
        out.extend_from_slice(match request.side {
            Side::Buy => b"\",\"side\":\"buy\",\"type\":\"limit\"",
            Side::Sell => b"\",\"side\":\"sell\",\"type\":\"limit\"".as_slice(),
        });
        if request.kind == Kind::Take {
            out.extend_from_slice(b",\"time_in_force\":\"ioc\"");
        }
        out.push(b',');
        push_price_and_quantity(out, request);
        out.push(b'}');
    }

    /// The body of `PATCH /v1/orders/by-client-id/…`.
    pub fn push_replace_body(&self, out: &mut Vec<u8>, request: &OrderRequest) {
        out.push(b'{');
        push_price_and_quantity(out, request);
        out.push(b'}');
    }

    /// What stands in a batch or beside the `id` of a WebSocket message: the name of the request, and its object.
    pub fn push_item(&self, out: &mut Vec<u8>, request: &OrderRequest) {
        match request.kind {
            Kind::Place | Kind::Take => {
                out.extend_from_slice(b"\"place\":");
                self.push_place(out, request);
            }
            Kind::Replace(target) => {
                out.extend_from_slice(b"\"replace\":{\"request_id\":\"");
                self.push_id(out, request.number);
                out.extend_from_slice(b"\",\"client_order_id\":\"");
                self.push_id(out, target);
                // The symbol spares the exchange a look at the order, which may not be known there yet.
                out.extend_from_slice(b"\",\"symbol\":\"");
                out.extend_from_slice(self.symbols[usize::from(request.instrument)].as_bytes());
                out.extend_from_slice(b"\",");
                push_price_and_quantity(out, request);
                out.push(b'}');
            }
            Kind::Cancel(target) => {
                out.extend_from_slice(b"\"cancel\":{\"request_id\":\"");
                self.push_id(out, request.number);
                out.extend_from_slice(b"\",\"client_order_id\":\"");
                self.push_id(out, target);
                out.extend_from_slice(b"\"}");
            }
        }
    }

    /// A whole WebSocket message of one request, or of a batch.
    pub fn push_message(&self, out: &mut Vec<u8>, id: u64, requests: &[OrderRequest], batch: bool) {
        out.extend_from_slice(b"{\"id\":");
        push_number(out, id);
        out.push(b',');
        if batch {
            out.extend_from_slice(b"\"batch\":");
            self.push_batch(out, requests);
        } else {
            self.push_item(out, &requests[0]);
        }
        out.push(b'}');
    }

    /// The body of `POST /v1/orders/batch`.
    pub fn push_batch(&self, out: &mut Vec<u8>, requests: &[OrderRequest]) {
        out.extend_from_slice(b"{\"items\":[");
        for (index, request) in requests.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"{" } else { b",{".as_slice() });
            self.push_item(out, request);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
}

fn push_price_and_quantity(out: &mut Vec<u8>, request: &OrderRequest) {
    out.extend_from_slice(b"\"price\":\"");
    push_number(out, request.price_ticks / TICKS_PER_UNIT);
    let cents = request.price_ticks % TICKS_PER_UNIT;
    out.extend_from_slice(&[b'.', digit(cents / 10), digit(cents % 10)]);
    out.extend_from_slice(b"\",\"quantity\":\"");
    push_number(out, request.quantity_lots / LOTS_PER_UNIT);
    out.extend_from_slice(&[b'.', digit(request.quantity_lots % LOTS_PER_UNIT), b'"']);
}

fn digit(below_ten: u64) -> u8 {
    b'0' + u8::try_from(below_ten).expect("one digit")
}

/// A number in decimal.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    let mut rest = number;
    loop {
        first -= 1;
        digits[first] = digit(rest % 10);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::json::{self, DecimalText, Replace, TimeInForce};
    use wire::ws::{ClientMessage, Request};

    fn names() -> Names {
        Names {
            run: "r-".to_owned(),
            symbols: vec!["AAA-BBB".to_owned(), "CCC-BBB".to_owned()],
        }
    }

    fn request(kind: Kind) -> OrderRequest {
        OrderRequest {
            number: 1_234,
            kind,
            instrument: 1,
            side: Side::Sell,
            price_ticks: 10_005,
            quantity_lots: 12,
        }
    }

    fn message(kind: Kind) -> Request {
        let mut bytes = Vec::new();
        names().push_message(&mut bytes, 77, &[request(kind)], false);
        let message: ClientMessage = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(message.id, 77);
        message.into_request().unwrap()
    }

    #[test]
    fn messages_mean_what_was_asked() {
        let Request::Place(place) = message(Kind::Place) else {
            panic!("not a place")
        };
        assert_eq!(
            (place.client_order_id.as_str(), place.symbol.as_str()),
            ("r-1234", "CCC-BBB")
        );
        assert_eq!(
            (place.side, place.order_type),
            (json::Side::Sell, json::OrderType::Limit)
        );
        assert_eq!(place.price, Some(DecimalText("100.05".to_owned())));
        assert_eq!(place.quantity, DecimalText("1.2".to_owned()));
        assert_eq!(place.time_in_force, None);
        let Request::Place(take) = message(Kind::Take) else {
            panic!("not a place")
        };
        assert_eq!(take.time_in_force, Some(TimeInForce::Ioc));
        let Request::Cancel(cancel) = message(Kind::Cancel(9)) else {
            panic!("not a cancel")
        };
        assert_eq!(
            (cancel.request_id.as_str(), cancel.client_order_id.as_deref()),
            ("r-1234", Some("r-9"))
        );
        let Request::Replace(replace) = message(Kind::Replace(9)) else {
            panic!("not a replace")
        };
        assert_eq!(replace.symbol.as_deref(), Some("CCC-BBB"));
        assert_eq!(replace.client_order_id.as_deref(), Some("r-9"));
        assert_eq!(replace.price, Some(DecimalText("100.05".to_owned())));
    }

    #[test]
    fn bodies_and_batches_mean_what_was_asked() {
        let mut bytes = Vec::new();
        names().push_replace_body(&mut bytes, &request(Kind::Replace(9)));
        let replace: Replace = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(replace.quantity, Some(DecimalText("1.2".to_owned())));
        let mut bytes = Vec::new();
        names().push_message(&mut bytes, 5, &[request(Kind::Place), request(Kind::Cancel(9))], true);
        let message: ClientMessage = serde_json::from_slice(&bytes).unwrap();
        let Some(Request::Batch(batch)) = message.into_request() else {
            panic!("not a batch")
        };
        assert_eq!(batch.items.len(), 2);
        assert!(batch.items[0].place.is_some() && batch.items[1].cancel.is_some());
    }

    #[test]
    fn ids_lead_back_to_their_numbers() {
        for number in [0, 9, 10, 1 << 40, u64::MAX] {
            let mut bytes = Vec::new();
            push_number(&mut bytes, number);
            assert_eq!(bytes, number.to_string().into_bytes());
            assert_eq!(names().number(&names().request_id(number)), Some(number));
        }
        assert_eq!(names().number("operator-7"), None);
    }
}
