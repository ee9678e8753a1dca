//! WebSocket messages, version 1: one JSON object in each text frame, made of the same parts as REST.
//!
//! ```text
//!  server                                   client
//!  {"hello":{"nonce":…}}            ──>
//!                                   <──     {"id":1,"login":{"key":"7","signature":"…"}}
//!  {"reply":{"id":1,"status":200,…}} ──>
//!                                   <──     {"id":2,"place":{…as POST /v1/orders…}}
//!  {"reply":{"id":2,"status":201,"order":{…}}}  ──>
//!                                   <──     {"id":3,"subscribe":{"channel":"book","symbol":"BTC-USD"}}
//!  {"reply":{"id":3,"status":200,"subscription":{…}}}  ──>
//!  {"book":{"snapshot":true,…}}     ──>
//!  {"book":{…}}                     ──>
//! ```
//!
//! A client may send on without waiting for replies. Replies to requests that are sequenced come in their sequence;
//! the client's `id` tells which request each belongs to.
//!
//! **Streams.** A message tells what one command did on one stream. `position` is that command's, `previous` the
//! position of the message before it on the same stream, so that a gap shows at once. Where a command did very much,
//! several messages share its position: `index` counts them from 0, and all but the last say `more`. A reply to a
//! subscription and a snapshot carry `previous` too: it is what the next message's `previous` will be, or null where
//! the node doesn't know of an earlier message. To resume, subscribe with `from` = the last position that was received
//! whole (the last message without `more`): the same messages follow as would have followed then. Nothing of a stream
//! is lost while its positions are kept; when they are no longer, the answer is `history_retired` with the first kept
//! position, and the client subscribes anew, without `from`, for a snapshot.
//!
//! **Book.** Items carry levels as they are after the command: quantity and number of orders at a price; a quantity of
//! 0 removes the level.

use serde::{Deserialize, Serialize};

use crate::json::write::{OrderAnswerParts, number, order_answer};
use crate::json::{
    Balance, BalanceReason, BatchAnswer, BatchRequest, CancelAfterAnswer, CancelAllAnswer, CancelItem, CancelRef,
    DecimalText, Fill, Freshness, NewOrder, NewOrderRef, Order, OrderAnswer, Position, Problem, ReplaceItem,
    ReplaceRef, Scope, Side, TimeText, Trade,
};

/// Items in one stream message.
pub const STREAM_ITEMS_MAX: usize = 200;
/// The largest `id` of a request: what every JSON reader keeps exact.
pub const ID_MAX: u64 = (1 << 53) - 1;

/// What a client sends: an id of its choice, and exactly one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientMessage {
    /// Comes back in the reply; at most [`ID_MAX`].
    pub id: u64,
    /// Prove who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// Place an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<NewOrder>,
    /// Change an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<ReplaceItem>,
    /// Cancel an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelItem>,
    /// Cancel all of the account's orders, or those of one instrument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_all: Option<CancelAll>,
    /// Cancel all of the account's orders at a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_after: Option<CancelAfter>,
    /// Several requests in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchRequest>,
    /// Follow a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Subscribe>,
    /// No longer follow a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsubscribe: Option<Unsubscribe>,
}

/// The one request of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Prove who it is.
    Login(Login),
    /// Place an order.
    Place(NewOrder),
    /// Change an order.
    Replace(ReplaceItem),
    /// Cancel an order.
    Cancel(CancelItem),
    /// Cancel all of the account's orders, or those of one instrument.
    CancelAll(CancelAll),
    /// Cancel all of the account's orders at a deadline.
    CancelAfter(CancelAfter),
    /// Several requests in one.
    Batch(BatchRequest),
    /// Follow a stream.
    Subscribe(Subscribe),
    /// No longer follow a stream.
    Unsubscribe(Unsubscribe),
}

impl ClientMessage {
    /// The one request, or none if there is none or more than one.
    pub fn into_request(self) -> Option<Request> {
        let requests = [
            self.login.map(Request::Login),
            self.place.map(Request::Place),
            self.replace.map(Request::Replace),
            self.cancel.map(Request::Cancel),
            self.cancel_all.map(Request::CancelAll),
            self.cancel_after.map(Request::CancelAfter),
            self.batch.map(Request::Batch),
            self.subscribe.map(Request::Subscribe),
            self.unsubscribe.map(Request::Unsubscribe),
        ];
        let mut requests = requests.into_iter().flatten();
        let request = requests.next();
        if requests.next().is_some() { None } else { request }
    }
}

/// A message with a request about one order, read without copying its texts: what the order path works on. Each is the
/// same as its counterpart in [`ClientMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderMessage<'a> {
    id: u64,
    #[serde(default, borrow)]
    place: Option<NewOrderRef<'a>>,
    #[serde(default, borrow)]
    replace: Option<ReplaceRef<'a>>,
    #[serde(default, borrow)]
    cancel: Option<CancelRef<'a>>,
}

/// A request about one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderRequest<'a> {
    /// Place an order.
    Place(NewOrderRef<'a>),
    /// Change an order.
    Replace(ReplaceRef<'a>),
    /// Cancel an order.
    Cancel(CancelRef<'a>),
}

impl<'a> OrderRequest<'a> {
    /// The id and the request of a message. None for any other message, valid or not, and where a text can't stay as it
    /// was sent: then [`ClientMessage`] says what it is.
    pub fn read(text: &'a str) -> Option<(u64, Self)> {
        // A list is no message.
        if !text.starts_with('{') {
            return None;
        }
        let message: OrderMessage<'a> = serde_json::from_str(text).ok()?;
        let request = match (message.place, message.replace, message.cancel) {
            (Some(order), None, None) => Self::Place(order),
            (None, Some(change), None) => Self::Replace(change),
            (None, None, Some(cancel)) => Self::Cancel(cancel),
            _ => return None,
        };
        (message.id <= ID_MAX).then_some((message.id, request))
    }
}

/// Writes the reply to a request about one order that was executed for the first time: what serde writes of the same
/// [`ServerMessage::Reply`].
pub fn order_reply(out: &mut Vec<u8>, id: u64, status: u16, answer: &OrderAnswerParts<'_>) {
    reply_head(out, id, status);
    out.extend_from_slice(b",\"order\":");
    order_answer(out, answer);
    out.extend_from_slice(b"}}");
}

/// Writes the reply to a request that was refused; `problem` is its problem as JSON.
pub fn problem_reply(out: &mut Vec<u8>, id: u64, status: u16, problem: &[u8]) {
    reply_head(out, id, status);
    out.extend_from_slice(b",\"problem\":");
    out.extend_from_slice(problem);
    out.extend_from_slice(b"}}");
}

fn reply_head(out: &mut Vec<u8>, id: u64, status: u16) {
    out.extend_from_slice(b"{\"reply\":{\"id\":");
    number(out, id);
    out.extend_from_slice(b",\"status\":");
    number(out, status.into());
}

/// Prove who it is: a signature over `signing::login_text` with the nonce of the session's `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The key's id.
    pub key: String,
    /// The signature in lower-case hex.
    pub signature: String,
}

/// Cancel all of the account's orders, or those of one instrument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelAll {
    /// The id that makes it execute once.
    pub request_id: String,
    /// The instrument; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Refuse it when sequenced after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<TimeText>,
}

/// Cancel all of the account's orders at a deadline, unless another request moves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelAfter {
    /// The id that makes it execute once.
    pub request_id: String,
    /// How long after the request was sequenced, in milliseconds, at most one day; 0 switches it off.
    pub after_ms: u64,
    /// Refuse it when sequenced after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<TimeText>,
}

/// A kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// The levels of an instrument's book.
    Book,
    /// An instrument's trades.
    Trades,
    /// What happens to the account's orders.
    Orders,
    /// The account's fills.
    Fills,
    /// The account's balances.
    Balances,
}

impl Channel {
    /// True for the streams of an instrument, which everybody may follow; the others are the account's own.
    pub fn is_public(self) -> bool {
        matches!(self, Self::Book | Self::Trades)
    }
}

/// Follow a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// Which kind.
    pub channel: Channel,
    /// The instrument of `book` and `trades`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// How many levels of each side the snapshot of a `book` has; left out: all. Levels beyond it are first told when
    /// they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Resume behind this position; left out: start with a snapshot (`book`, `orders`, `balances`) or with what comes
    /// next (`trades`, `fills`). Sequence 0 is before everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Position>,
    /// How fresh a snapshot of the account's own is; left out: `linearizable`. Market data takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
}

/// No longer follow a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    /// Which kind.
    pub channel: Channel,
    /// The instrument of `book` and `trades`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
}

/// What the server sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one is made, written and dropped at a time")]
pub enum ServerMessage {
    /// The first message of a session.
    Hello(Hello),
    /// The reply to a request.
    Reply(Reply),
    /// What a command did to a book.
    Book(StreamMessage<BookItem>),
    /// A command's trades.
    Trades(StreamMessage<Trade>),
    /// What a command did to the account's orders.
    Orders(StreamMessage<OrderItem>),
    /// A command's fills of the account.
    Fills(StreamMessage<Fill>),
    /// The account's balances after a command.
    Balances(StreamMessage<BalanceItem>),
    /// A stream came to its end.
    Ended(Ended),
    /// What was wrong with a message whose id can't be told, or why the session ends.
    Problem(Problem),
}

/// The first message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// To be signed for a login; good for this session alone.
    pub nonce: String,
    /// The cluster's id, which is part of what is signed.
    pub cluster_id: String,
    /// The node's time, in nanoseconds since 1970, UTC.
    pub now: TimeText,
    /// The last position that the streams know.
    pub position: Position,
}

/// The reply to a request: its status as REST would have it, and one of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The id that the client gave.
    pub id: u64,
    /// The HTTP status that REST would have answered with.
    pub status: u16,
    /// To `place`, `replace` and `cancel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderAnswer>,
    /// To `cancel_all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_all: Option<CancelAllAnswer>,
    /// To `cancel_after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_after: Option<CancelAfterAnswer>,
    /// To `batch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchAnswer>,
    /// To `login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// To `subscribe` and `unsubscribe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
    /// To a `place` with `validate_only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<crate::json::ValidationAnswer>,
    /// Why a request was not executed, or why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

impl Reply {
    /// A reply that says why not.
    pub fn of_problem(id: u64, problem: Problem) -> Self {
        Self {
            id,
            status: problem.status,
            problem: Some(problem),
            ..Self::default()
        }
    }
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The key's id.
    pub key: String,
    /// The account for which it acts.
    pub account_id: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// A stream that is followed, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Which kind.
    pub channel: Channel,
    /// The instrument of `book` and `trades`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Messages behind this position follow.
    pub position: Position,
    /// What the first message's `previous` will be, unless a snapshot comes first; null if it is not known.
    pub previous: Option<Position>,
}

/// What one command did on one stream, or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMessage<T> {
    /// The instrument of `book` and `trades`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// True for a snapshot: all that there is at its position, in place of what was told before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
    /// The command's position; a snapshot's: all up to it is in it.
    pub position: Position,
    /// Which of the messages that share the position, from 0.
    pub index: u32,
    /// True if more messages of the same position follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The position of the stream's message before those of this position; a snapshot's: of the last message that is
    /// in it. Null if it is not known.
    pub previous: Option<Position>,
    /// When the command was sequenced, in nanoseconds since 1970, UTC; a snapshot has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequenced_at: Option<TimeText>,
    /// What happened, in order.
    pub items: Vec<T>,
}

/// A level of a book as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookItem {
    /// Buyers or sellers.
    pub side: Side,
    /// The price.
    pub price: DecimalText,
    /// The sum of what may still be filled; 0 if nothing rests at the price any more.
    pub quantity: DecimalText,
    /// How many orders.
    pub orders: u32,
}

/// What happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderEvent {
    /// It is open (in a snapshot).
    Open,
    /// It was taken, as it was before it traded.
    Placed,
    /// It was changed, as it was before it traded at its new price.
    Replaced,
    /// It traded; `fill` says what remains, and 0 closes it as filled.
    Traded,
    /// It came to its end other than by being filled.
    Closed,
}

/// What happened to an order of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderItem {
    /// What.
    pub event: OrderEvent,
    /// The order, but for `traded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The fill, for `traded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<Fill>,
    /// What could still have been filled, for `closed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_quantity: Option<DecimalText>,
    /// Whether it kept its place in the queue, for `replaced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_kept: Option<bool>,
}

/// A balance of the account as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceItem {
    /// The balance.
    pub balance: Balance,
    /// What moved it; a snapshot has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<BalanceReason>,
}

/// A stream came to its end; the session goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which kind.
    pub channel: Channel,
    /// The instrument of `book` and `trades`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Why.
    pub problem: Problem,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_exactly_one_request() {
        let parse = |text: &str| serde_json::from_str::<ClientMessage>(text);
        let one = parse(r#"{"id":1,"cancel":{"request_id":"r","order_id":"0.1.5"}}"#).unwrap();
        assert!(matches!(one.into_request(), Some(Request::Cancel(cancel)) if cancel.request_id == "r"));
        let none = parse(r#"{"id":1}"#).unwrap();
        assert_eq!(none.into_request(), None);
        let two = r#"{"id":1,"login":{"key":"1","signature":""},"unsubscribe":{"channel":"fills"}}"#;
        assert_eq!(parse(two).unwrap().into_request(), None);
        for wrong in [
            "{}",
            r#"{"id":"1"}"#,
            r#"{"id":-1}"#,
            r#"{"id":1,"id":2}"#,
            r#"{"id":1,"trade":{}}"#,
            r#"{"id":1,"subscribe":{"channel":"candles"}}"#,
            r#"{"id":1} {}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_about_one_order_are_the_same_without_a_copy() {
        let order = r#""client_order_id":"a","symbol":"BTC-USD","side":"buy","type":"limit","quantity":"1""#;
        for text in [
            format!("{{\"id\":1,\"place\":{{{order}}}}}"),
            format!(
                r#"{{ "place" : {{{order},"time_in_force":"gtd","expires_at":"5","price":"1.5","post_only":true,
                "self_trade_prevention":"cancel_both","valid_until":"7","validate_only":true}},"id":2}}"#
            ),
            r#"{"id":3,"replace":{"request_id":"r","order_id":"0.1.5","symbol":"X","price":"1","quantity":null}}"#
                .to_owned(),
            r#"{"id":4,"cancel":{"request_id":"r","client_order_id":"a"},"place":null}"#.to_owned(),
        ] {
            let message: ClientMessage = serde_json::from_str(&text).unwrap();
            let (id, owned) = (message.id, message.into_request().unwrap());
            let same = match &owned {
                Request::Place(order) => OrderRequest::Place(order.into()),
                Request::Replace(change) => OrderRequest::Replace(change.into()),
                Request::Cancel(cancel) => OrderRequest::Cancel(cancel.into()),
                other => panic!("{other:?}"),
            };
            assert_eq!(OrderRequest::read(&text), Some((id, same)), "{text}");
        }
        for other in [
            "",
            "[]",
            r#"{"id":1}"#,
            r#"{"id":1,"place":{}}"#,
            r#"{"id":9007199254740992,"cancel":{"request_id":"r","order_id":"0.1.5"}}"#,
            r#"{"id":1,"cancel":{"request_id":"r\u0041","order_id":"0.1.5"}}"#,
            r#"{"id":1,"cancel":{"request_id":"r"},"cancel":{"request_id":"r"}}"#,
            r#"{"id":1,"cancel":{"request_id":"r"},"unsubscribe":{"channel":"fills"}}"#,
            r#"{"id":1,"cancel":{"request_id":"r"},"replace":{"request_id":"r"}}"#,
        ] {
            assert_eq!(OrderRequest::read(other), None, "{other}");
        }
    }

    #[test]
    fn server_messages_name_themselves() {
        let reply = ServerMessage::Reply(Reply {
            id: 7,
            status: 200,
            ..Reply::default()
        });
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(text, r#"{"reply":{"id":7,"status":200}}"#);
        assert_eq!(serde_json::from_str::<ServerMessage>(&text).unwrap(), reply);
    }
}
