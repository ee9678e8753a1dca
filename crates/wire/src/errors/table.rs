//! The rows of the table of errors.

use types::RejectReason;

use super::{ErrorEntry, FixFields};
use crate::json::{AppliesTo, Outcome};

/// `OrdRejReason` (103) of FIX 5.0 SP2.
mod order {
    pub const BROKER_OPTION: u16 = 0;
    pub const UNKNOWN_SYMBOL: u16 = 1;
    pub const EXCHANGE_CLOSED: u16 = 2;
    pub const EXCEEDS_LIMIT: u16 = 3;
    pub const TOO_LATE: u16 = 4;
    pub const DUPLICATE: u16 = 6;
    pub const STALE: u16 = 8;
    pub const UNSUPPORTED_CHARACTERISTIC: u16 = 11;
    pub const INCORRECT_QUANTITY: u16 = 13;
    pub const UNKNOWN_ACCOUNT: u16 = 15;
    pub const PRICE_EXCEEDS_BAND: u16 = 16;
    pub const INVALID_PRICE_INCREMENT: u16 = 18;
    pub const OTHER: u16 = 99;
}

/// `CxlRejReason` (102) of FIX 5.0 SP2.
mod cancel {
    pub const TOO_LATE: u16 = 0;
    pub const UNKNOWN_ORDER: u16 = 1;
    pub const BROKER_OPTION: u16 = 2;
    pub const DUPLICATE: u16 = 6;
    pub const PRICE_EXCEEDS_BAND: u16 = 8;
    pub const INVALID_PRICE_INCREMENT: u16 = 18;
    pub const OTHER: u16 = 99;
}

/// `BusinessRejectReason` (380) of FIX 5.0 SP2.
mod business {
    pub const OTHER: u16 = 0;
    pub const UNKNOWN_ID: u16 = 1;
    pub const UNKNOWN_SECURITY: u16 = 2;
    pub const UNSUPPORTED_MESSAGE: u16 = 3;
    pub const NOT_AVAILABLE: u16 = 4;
    pub const REQUIRED_FIELD_MISSING: u16 = 5;
    pub const NOT_AUTHORISED: u16 = 6;
    pub const THROTTLED: u16 = 8;
    pub const INVALID_VALUE: u16 = 0;
}

/// The fields for a refusal that may concern a new order, a cancel or replace, or anything else.
const fn fix(order: u16, cancel: u16, business: u16) -> FixFields {
    FixFields {
        order_reject_reason: Some(order),
        cancel_reject_reason: Some(cancel),
        business_reject_reason: Some(business),
    }
}

/// The fields for a new order.
const fn fix_order(order: u16) -> FixFields {
    FixFields {
        order_reject_reason: Some(order),
        cancel_reject_reason: None,
        business_reject_reason: None,
    }
}

/// The fields for a new order or a replace.
const fn fix_both(order: u16, cancel: u16) -> FixFields {
    FixFields {
        order_reject_reason: Some(order),
        cancel_reject_reason: Some(cancel),
        business_reject_reason: None,
    }
}

/// The fields for a cancel or replace.
const fn fix_cancel(cancel: u16) -> FixFields {
    FixFields {
        order_reject_reason: None,
        cancel_reject_reason: Some(cancel),
        business_reject_reason: None,
    }
}

/// The fields for a request that is no order.
const fn fix_business(business: u16) -> FixFields {
    FixFields {
        order_reject_reason: None,
        cancel_reject_reason: None,
        business_reject_reason: Some(business),
    }
}

const AVAILABLE: FixFields = fix(order::EXCHANGE_CLOSED, cancel::BROKER_OPTION, business::NOT_AVAILABLE);
const AUTHORISED: FixFields = fix(order::BROKER_OPTION, cancel::BROKER_OPTION, business::NOT_AUTHORISED);
const MALFORMED: FixFields = fix(order::OTHER, cancel::OTHER, business::INVALID_VALUE);

const NOTHING: &str = "Nothing.";
const WAIT: &str = "Send the same request again with the same id after retry_after_ms, or to another node.";
const LEFT_TO_OPERATORS: &str = "Nothing: only operators ask for this.";
const CORRECT: &str = "Correct the request; the id may be kept.";
const SIGN_AGAIN: &str = "Correct the header and sign again; the request id may be kept.";

macro_rules! refusals {
    ($($variant:ident: $code:literal, $status:literal, $outcome:ident, $fix:expr,
        $meaning:literal, $client:expr, $operator:expr;)*) => {
        /// Why the gateway refused a request, or can't say what became of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Refusal {
            $(#[doc = $meaning] $variant,)*
        }

        impl Refusal {
            /// Every one, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }

        pub(super) fn of_refusal(refusal: Refusal) -> ErrorEntry {
            match refusal {
                $(Refusal::$variant => ErrorEntry {
                    code: $code,
                    meaning: $meaning,
                    http_status: $status,
                    fix: $fix,
                    outcome: Outcome::$outcome,
                    applies_to: AppliesTo::Attempt,
                    client: $client,
                    operator: $operator,
                },)*
            }
        }
    };
}

refusals! {
    BodyInvalid: "body_invalid", 400, NotExecuted, MALFORMED,
        "The body is not the JSON object that this request takes: a key is missing, unknown, given twice or of the wrong kind.",
        CORRECT, NOTHING;
    BodyTooLarge: "body_too_large", 413, NotExecuted, MALFORMED,
        "The body is larger than requests may be.",
        "Split the request; GET /v1/limits says how large it may be.", NOTHING;
    BodyUnreadable: "body_unreadable", 400, NotExecuted, MALFORMED,
        "The connection ended or stalled before the whole body was read.",
        "Send the same request again with the same id.", NOTHING;
    ContentEncodingRefused: "content_encoding_refused", 415, NotExecuted, MALFORMED,
        "A content-encoding was given; bodies are taken only as they are.",
        "Send the body without compression.", NOTHING;
    QueryInvalid: "query_invalid", 400, NotExecuted, MALFORMED,
        "A query key is unknown, given twice or has a value that it doesn't take.",
        CORRECT, NOTHING;
    CursorInvalid: "cursor_invalid", 400, NotExecuted, fix_business(business::OTHER),
        "The cursor is not one that this list gave.",
        "Start again without a cursor.", NOTHING;
    HeaderInvalid: "header_invalid", 400, NotExecuted, MALFORMED,
        "A header that is no part of the signature is given twice, or has a value that it doesn't take.",
        CORRECT, NOTHING;
    PathInvalid: "path_invalid", 400, NotExecuted, MALFORMED,
        "A part of the path is not an id or a name of the expected form.",
        CORRECT, NOTHING;
    RouteUnknown: "route_unknown", 404, NotExecuted, fix_business(business::UNSUPPORTED_MESSAGE),
        "There is no such path.",
        "See /openapi.json for the paths.", NOTHING;
    MethodUnsupported: "method_unsupported", 405, NotExecuted, fix_business(business::UNSUPPORTED_MESSAGE),
        "The path does not take this method.",
        "See /openapi.json for the methods.", NOTHING;
    DecimalInvalid: "decimal_invalid", 400, NotExecuted, MALFORMED,
        "A number is not a decimal such as \"12.50\", or has more digits than fit.",
        CORRECT, NOTHING;
    NumberInvalid: "number_invalid", 400, NotExecuted, MALFORMED,
        "A time or whole number is not a string of digits without a leading zero.",
        CORRECT, NOTHING;
    PriceOffTick: "price_off_tick", 422, NotExecuted,
        fix_both(order::INVALID_PRICE_INCREMENT, cancel::INVALID_PRICE_INCREMENT),
        "The price is not a whole multiple of the instrument's tick size.",
        "Round the price to the tick size that GET /v1/instruments says.", NOTHING;
    QuantityOffLot: "quantity_off_lot", 422, NotExecuted, fix_both(order::INCORRECT_QUANTITY, cancel::OTHER),
        "The quantity is not a whole multiple of the instrument's lot size.",
        "Round the quantity to the lot size that GET /v1/instruments says.", NOTHING;
    AmountOffUnit: "amount_off_unit", 422, NotExecuted, fix_business(business::INVALID_VALUE),
        "The amount has more digits after the point than its asset.",
        CORRECT, NOTHING;
    FieldsContradict: "fields_contradict", 400, NotExecuted,
        fix(order::UNSUPPORTED_CHARACTERISTIC, cancel::OTHER, business::REQUIRED_FIELD_MISSING),
        "Keys that exclude each other are given together, or one that another needs is missing.",
        CORRECT, NOTHING;
    SymbolUnknown: "symbol_unknown", 404, NotExecuted,
        fix(order::UNKNOWN_SYMBOL, cancel::OTHER, business::UNKNOWN_SECURITY),
        "There is no instrument or asset of this name.",
        "See GET /v1/instruments for the names.", NOTHING;
    OrderNotFound: "order_not_found", 404, NotExecuted, fix_cancel(cancel::UNKNOWN_ORDER),
        "The account has no such order, or its record is no longer kept here.",
        "Check the id; cancel by client_order_id to be sure that an order under it never executes.", NOTHING;
    ResourceNotFound: "resource_not_found", 404, NotExecuted, fix_business(business::UNKNOWN_ID),
        "There is no such account or key.",
        CORRECT, NOTHING;
    RequestIdMissing: "request_id_missing", 400, NotExecuted, fix_business(business::REQUIRED_FIELD_MISSING),
        "A request that changes something needs a Meridian-Request-Id header.",
        "Choose an id and send it with the request; keep it for every retry.", NOTHING;
    RequestIdInvalid: "request_id_invalid", 400, NotExecuted, MALFORMED,
        "The request id is not 1 to 64 of [A-Za-z0-9_-].",
        CORRECT, NOTHING;
    RequestIdMismatch: "request_id_mismatch", 400, NotExecuted, MALFORMED,
        "The Meridian-Request-Id header differs from the body's client_order_id.",
        "Leave the header out for a new order, or make both the same.", NOTHING;
    AuthHeaderMissing: "auth_header_missing", 401, NotExecuted, AUTHORISED,
        "A header of the signature is missing.",
        SIGN_AGAIN, NOTHING;
    AuthHeaderDuplicate: "auth_header_duplicate", 401, NotExecuted, AUTHORISED,
        "A header of the signature is given twice.",
        SIGN_AGAIN, NOTHING;
    AuthHeaderInvalid: "auth_header_invalid", 401, NotExecuted, AUTHORISED,
        "A header of the signature is not of its form: decimal numbers without a leading zero, the signature in lower-case hex, a window of 1 to 60,000 ms.",
        SIGN_AGAIN, NOTHING;
    TimestampOutsideWindow: "timestamp_outside_window", 401, NotExecuted, AUTHORISED,
        "The request's timestamp differs from the node's time by more than its window.",
        "Set the clock right (GET /v1/time says the node's time) and sign again; keep the request id.",
        "Check that the node's own clock is synchronised.";
    KeyNotAccepted: "key_not_accepted", 401, NotExecuted, AUTHORISED,
        "The key does not exist or was revoked.",
        "Ask the operator for a key.", "Make the account a new key if it should have one.";
    SignatureWrong: "signature_wrong", 401, NotExecuted, AUTHORISED,
        "The signature does not fit the key and the request as it arrived.",
        "Compare the signed lines with the recipe: cluster id, request target and body must be the very bytes that were sent.",
        "Check that no proxy in front changes the target or the body.";
    ScopeMissing: "scope_missing", 403, NotExecuted, AUTHORISED,
        "The key's scopes do not allow this request.",
        "Use a key with the scope.", "Make a key with the scope if the account should have it.";
    LoginRequired: "login_required", 401, NotExecuted, AUTHORISED,
        "The WebSocket session must log in before it sends this.",
        "Sign the session's nonce and log in.", NOTHING;
    LoginRepeated: "login_repeated", 409, NotExecuted, AUTHORISED,
        "The WebSocket session is logged in already.",
        "Open another session for another key.", NOTHING;
    MessageInvalid: "message_invalid", 400, NotExecuted, MALFORMED,
        "The WebSocket message is not one that the server knows.",
        CORRECT, NOTHING;
    UpgradeInvalid: "upgrade_invalid", 400, NotExecuted, fix_business(business::OTHER),
        "The request does not open a WebSocket: a header of the upgrade is missing or wrong.",
        "Open /v1/ws with a WebSocket client.", NOTHING;
    ChannelUnknown: "channel_unknown", 404, NotExecuted, fix_business(business::UNSUPPORTED_MESSAGE),
        "There is no such channel.",
        CORRECT, NOTHING;
    SubscriptionRepeated: "subscription_repeated", 409, NotExecuted, fix_business(business::OTHER),
        "The session has this subscription already.",
        "Unsubscribe first.", NOTHING;
    SubscriptionsLimit: "subscriptions_limit", 429, NotExecuted, fix_business(business::THROTTLED),
        "The session has as many subscriptions as it may have.",
        "Unsubscribe from what is not needed, or open another session.", NOTHING;
    SlowConsumer: "slow_consumer", 429, NotExecuted, fix_business(business::THROTTLED),
        "The session read too slowly, so it was ended.",
        "Connect again and resume each stream from the last position; read faster or subscribe to less.", NOTHING;
    PositionForked: "position_forked", 409, NotExecuted, fix_business(business::UNKNOWN_ID),
        "The position belongs to a part of an epoch that is void; the stream's last position that was kept is given.",
        "Resume from the given position and take back what followed on it.", "See the reconciliation of the fork.";
    PositionAhead: "position_ahead", 400, NotExecuted, fix_business(business::UNKNOWN_ID),
        "The position lies ahead of everything that was sequenced.",
        "Check the position; start from a snapshot if it is lost.", NOTHING;
    HistoryRetired: "history_retired", 410, NotExecuted, fix_business(business::UNKNOWN_ID),
        "What was asked for is older than what this node keeps.",
        "Start from a snapshot, or ask the read side.", "Raise the event log's size if clients need more.";
    HistoryRebuilding: "history_rebuilding", 503, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "The event log is being made again from the journal.",
        WAIT, "Wait; the log says how far it is.";
    HistoryUnreadable: "history_unreadable", 503, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "The event log could not be read.",
        WAIT, "See the node's log; the event log can be removed and is then made again from the journal.";
    ViewBehind: "view_behind", 503, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "The node's queries have not caught up yet with what it has executed.",
        WAIT, "See the publisher's lag in the metrics.";
    RateLimited: "rate_limited", 429, NotExecuted, fix(order::BROKER_OPTION, cancel::BROKER_OPTION, business::THROTTLED),
        "There were more requests than the limit allows.",
        "Wait retry_after_ms; the RateLimit headers say what is left.", "Raise the limit if the client should have more.";
    ConnectionsLimit: "connections_limit", 503, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "The node has as many connections as it may have.",
        WAIT, "Raise connections_max, or add gateways.";
    Busy: "busy", 503, NotExecuted, AVAILABLE,
        "The queue to the exchange is full.",
        WAIT, "See the queue's depth and the journal's sync times in the metrics.";
    NodeStarting: "node_starting", 503, NotExecuted, AVAILABLE,
        "The node is starting: it still recovers what its journal holds.",
        WAIT, "Wait; the log says how far it is.";
    NodeStopping: "node_stopping", 503, NotExecuted, AVAILABLE,
        "The node is stopping and takes no more requests.",
        WAIT, NOTHING;
    NotLeader: "not_leader", 421, NotExecuted, AVAILABLE,
        "This node does not lead its group.",
        "Send the same request again with the same id to the node that `leader` names, or, if retry_after_ms is given, to this one after it.",
        "`meridian cluster status` says who leads and who is heard of.";
    RegionNotActive: "region_not_active", 503, NotExecuted, AVAILABLE,
        "The region is not active: another one takes orders, or will within moments.",
        "Send the same request again with the same id to the other region's endpoints, then to this one's.",
        "`meridian region status` says which region is active and why.";
    StandbyLags: "standby_lags", 503, NotExecuted, AVAILABLE,
        "The standby region lacks more than it may; nothing is taken that would add to that.",
        WAIT, "See the lag in `meridian region status`; look at the link between the regions and at the standby.";
    NoLeader: "no_leader", 503, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "No leader of the group could be asked from where on an answer is fresh.",
        "Ask again after retry_after_ms, or another node, or with freshness=stale.",
        "`meridian cluster status` says who leads and who is heard of.";
    DiskFull: "disk_full", 503, NotExecuted, AVAILABLE,
        "The disk of the journal is full; nothing is taken that could not be made durable.",
        WAIT, "Make room on the journal's disk.";
    DiskFailed: "disk_failed", 503, NotExecuted, AVAILABLE,
        "A write or sync of the journal failed; nothing is taken that could not be made durable.",
        WAIT, "Replace the disk and restart the node; see its log.";
    ClockUnsure: "clock_unsure", 503, NotExecuted, AVAILABLE,
        "The node's clock is out of its bound, so it stamps nothing.",
        WAIT, "Repair the clock's synchronisation.";
    StateDiverged: "state_diverged", 503, NotExecuted, AVAILABLE,
        "The node's state differs from a replay of its journal; it stopped and keeps the evidence.",
        WAIT, "Keep the data folder and report the fault.";
    ApplyFailed: "apply_failed", 503, NotExecuted, AVAILABLE,
        "Applying a command failed; the node stopped, and its operator must look at the log.",
        WAIT, "See the node's log: it names the command and what to do.";
    OneRegion: "one_region", 409, NotExecuted, fix_business(business::OTHER),
        "The cluster has one region.",
        LEFT_TO_OPERATORS, "Regions are in [sites] of each node's configuration; see docs/disaster-recovery.md.";
    RegionRefused: "region_refused", 409, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "The regions can't change like that now.",
        LEFT_TO_OPERATORS, "The detail says why; `meridian region status` shows how they are.";
    ChangeUnderWay: "change_under_way", 409, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "Another change of the group's members is under way.",
        LEFT_TO_OPERATORS, "Wait until `meridian cluster status` shows it done, then ask again.";
    UnknownMember: "unknown_member", 404, NotExecuted, fix_business(business::UNKNOWN_ID),
        "The group has no such member.",
        LEFT_TO_OPERATORS, "`meridian cluster status` lists the members.";
    OtherRole: "other_role", 409, NotExecuted, fix_business(business::OTHER),
        "The member has another role than the request says or needs.",
        LEFT_TO_OPERATORS, "Remove the member and add it under a new node id; only a voter can lead.";
    IsLeader: "is_leader", 409, NotExecuted, fix_business(business::OTHER),
        "The node leads its group, so it can't be removed.",
        LEFT_TO_OPERATORS, "Hand leadership over first: `meridian cluster transfer-leader`.";
    TooManyMembers: "too_many_members", 422, NotExecuted, fix_business(business::OTHER),
        "The group has as many members as it may have.",
        LEFT_TO_OPERATORS, "Remove a member that is not needed.";
    AddressTooLong: "address_too_long", 422, NotExecuted, fix_business(business::INVALID_VALUE),
        "The member's address is longer than 255 bytes.",
        LEFT_TO_OPERATORS, "Give the node a shorter name.";
    NoQuorum: "no_quorum", 409, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "Too few of the voters that would be left answer at the moment.",
        LEFT_TO_OPERATORS, "Bring the voters back that `meridian cluster status` does not hear of, then ask again.";
    EngineVersionNotInForce: "engine_version_not_in_force", 409, NotExecuted,
        fix(order::UNSUPPORTED_CHARACTERISTIC, cancel::OTHER, business::NOT_AVAILABLE),
        "The request asks for behaviour that the group has not switched on yet.",
        "Ask for something else, under the same id if you like, or ask the operator when it will be switched on.",
        "Upgrade all nodes, then `meridian admin engine-version set`.";
    EngineVersionNotRead: "engine_version_not_read", 409, NotExecuted, fix_business(business::NOT_AVAILABLE),
        "Not every member of the group is connected and runs a program that reads this engine version.",
        LEFT_TO_OPERATORS, "`meridian admin engine-version` lists what each member reads: upgrade or start those that lack it, or remove them, then ask again.";
    OutcomeUnknown: "outcome_unknown", 504, Unknown, AVAILABLE,
        "The request was handed over, but its answer did not come back in time; it may have executed.",
        "Send the same request again with the same id: it executes at most once, and you get its answer.",
        "See the journal's sync times and the node's log.";
    AnswerUnavailable: "answer_unavailable", 503, Unknown, AVAILABLE,
        "The request was sequenced, but what came of it can't be read here.",
        "Ask for the order by its id; nothing executes twice.",
        "The event log was retired past the request's window, or can't be read: see the node's log.";
    InternalError: "internal_error", 500, Unknown, AVAILABLE,
        "Something failed inside of the gateway.",
        "Send the same request again with the same id.", "See the node's log and report the fault.";
}

pub(super) fn of_reject(reason: RejectReason) -> ErrorEntry {
    let (http_status, fix, client, operator) = row_of_reject(reason);
    ErrorEntry {
        code: reason.code(),
        meaning: reason.sentence(),
        http_status,
        fix,
        outcome: Outcome::NotExecuted,
        applies_to: applies_to(reason),
        client,
        operator,
    }
}

/// A reject that does not use up the id says nothing of what else was done under it.
fn applies_to(reason: RejectReason) -> AppliesTo {
    if reason.uses_request_id() {
        AppliesTo::Order
    } else {
        AppliesTo::Attempt
    }
}

const NEW_ID: &str = "Correct the request and send it under a new id.";
const KEYS: FixFields = AUTHORISED;

type Row = (u16, FixFields, &'static str, &'static str);

fn row_of_reject(reason: RejectReason) -> Row {
    use RejectReason as R;
    match reason {
        R::RequestIdReused => {
            let client = "Choose a new id; ask for the order under this one to see what it was used for.";
            (
                422,
                fix(order::DUPLICATE, cancel::DUPLICATE, business::OTHER),
                client,
                NOTHING,
            )
        }
        R::RequestMemoryFull => {
            let client = "Wait and send the same request again with the same id.";
            (503, AVAILABLE, client, "Enlarge request_memory_bytes_max in the rules.")
        }
        R::ValidUntilPassed => (
            409,
            fix(order::STALE, cancel::TOO_LATE, business::OTHER),
            "Decide anew, and send it under a new id.",
            NOTHING,
        ),
        R::ValidUntilTooFar => (
            422,
            MALFORMED,
            "Send it with an earlier valid_until under a new id.",
            NOTHING,
        ),
        R::RequestIdBurnt => (
            409,
            fix_order(order::DUPLICATE),
            "Send the order under a new id if it is still wanted.",
            NOTHING,
        ),
        R::KeyUnknown | R::KeyRevoked => (
            401,
            KEYS,
            "Ask the operator for a key; the request id may be kept.",
            "Make the account a new key if it should have one.",
        ),
        R::KeyScopeMissing => (
            403,
            KEYS,
            "Use a key with the scope; the request id may be kept.",
            "Make a key with the scope if the account should have it.",
        ),
        R::AccountUnknown => (
            404,
            fix(order::UNKNOWN_ACCOUNT, cancel::OTHER, business::UNKNOWN_ID),
            NEW_ID,
            NOTHING,
        ),
        R::AccountSuspended => (
            403,
            fix(order::UNKNOWN_ACCOUNT, cancel::OTHER, business::NOT_AUTHORISED),
            "Ask the operator.",
            "Set the account active when it may trade again.",
        ),
        R::AccountCancelOnly => (
            403,
            fix(order::EXCEEDS_LIMIT, cancel::BROKER_OPTION, business::NOT_AUTHORISED),
            "Cancel only, or ask the operator.",
            "Set the account active when it may trade again.",
        ),
        R::InstrumentUnknown => (
            404,
            fix(order::UNKNOWN_SYMBOL, cancel::OTHER, business::UNKNOWN_SECURITY),
            NEW_ID,
            NOTHING,
        ),
        R::InstrumentHalted => (
            409,
            fix(order::EXCHANGE_CLOSED, cancel::BROKER_OPTION, business::NOT_AVAILABLE),
            "Wait until it trades, and use a new id.",
            "Set it trading when the halt is over.",
        ),
        R::InstrumentClosed => (
            409,
            fix(order::EXCHANGE_CLOSED, cancel::BROKER_OPTION, business::NOT_AVAILABLE),
            "Trade another instrument.",
            NOTHING,
        ),
        R::InstrumentScaleChanged => (
            409,
            fix_both(order::OTHER, cancel::OTHER),
            "Read the instrument, and send the order anew under a new id.",
            NOTHING,
        ),
        R::PriceOutOfRange => (422, fix_both(order::OTHER, cancel::OTHER), NEW_ID, NOTHING),
        R::PriceOutsideCollar => (
            422,
            fix_both(order::PRICE_EXCEEDS_BAND, cancel::PRICE_EXCEEDS_BAND),
            NEW_ID,
            "Widen the collar if the market moved.",
        ),
        R::QuantityTooSmall | R::QuantityTooLarge => {
            (422, fix_both(order::INCORRECT_QUANTITY, cancel::OTHER), NEW_ID, NOTHING)
        }
        R::NotionalTooSmall | R::NotionalTooLarge => {
            (422, fix_both(order::EXCEEDS_LIMIT, cancel::OTHER), NEW_ID, NOTHING)
        }
        R::InsufficientFunds => (
            422,
            fix(order::EXCEEDS_LIMIT, cancel::OTHER, business::OTHER),
            "Order less, cancel something or deposit; use a new id.",
            NOTHING,
        ),
        R::OpenOrdersLimit => (
            422,
            fix_order(order::EXCEEDS_LIMIT),
            "Cancel something, and use a new id.",
            "Raise the limit in the rules if there is memory for it.",
        ),
        R::PostOnlyWouldTake => (
            422,
            fix_both(order::BROKER_OPTION, cancel::BROKER_OPTION),
            "Send it at another price under a new id.",
            NOTHING,
        ),
        R::FokNotFillable | R::NoLiquidity => (
            422,
            fix_order(order::BROKER_OPTION),
            "Decide anew, and use a new id.",
            NOTHING,
        ),
        R::ExpiryPassed => (
            422,
            fix_order(order::TOO_LATE),
            "Send it with a later expires_at under a new id.",
            NOTHING,
        ),
        R::CombinationInvalid => (
            422,
            fix_both(order::UNSUPPORTED_CHARACTERISTIC, cancel::OTHER),
            NEW_ID,
            NOTHING,
        ),
        R::OrderUnknown => (404, fix_cancel(cancel::UNKNOWN_ORDER), "Check the id.", NOTHING),
        R::OrderClosed => (
            409,
            fix_cancel(cancel::TOO_LATE),
            "Nothing: the order has ended.",
            NOTHING,
        ),
        R::QuantityNotAboveFilled => (
            422,
            fix_cancel(cancel::OTHER),
            "Cancel the order, or send a larger quantity under a new id.",
            NOTHING,
        ),
        R::NothingToChange => (422, fix_cancel(cancel::OTHER), NOTHING, NOTHING),
        R::DeadlineTooFar => (422, fix_business(business::INVALID_VALUE), NEW_ID, NOTHING),
        R::AmountOutOfRange => (422, fix_business(business::INVALID_VALUE), NEW_ID, NEW_ID),
        R::AssetUnknown => (404, fix_business(business::UNKNOWN_ID), NEW_ID, NEW_ID),
        R::SymbolTaken => (
            409,
            fix_business(business::OTHER),
            "Choose another name, and a new id.",
            "Choose another name, and a new id.",
        ),
        R::RulesInvalid => (422, fix_business(business::INVALID_VALUE), NEW_ID, NEW_ID),
        R::NotHaltedAndEmpty => (
            409,
            fix_business(business::OTHER),
            "Ask the operator.",
            "Halt the instrument and cancel its orders first; use a new id.",
        ),
        R::LimitReached => (
            409,
            fix_business(business::OTHER),
            "Ask the operator.",
            "Raise the limit in the rules, or remove what is not needed.",
        ),
        R::KeyInvalid => (422, fix_business(business::INVALID_VALUE), NEW_ID, NEW_ID),
        R::InitialisedAlready => (
            409,
            fix_business(business::NOT_AUTHORISED),
            NOTHING,
            "Use the first admin key to make others.",
        ),
        R::EngineVersionNotHigher => (
            409,
            fix_business(business::OTHER),
            NOTHING,
            "Nothing: it is in force, or a later one is.",
        ),
        R::NotInForce => (
            409,
            fix(
                order::UNSUPPORTED_CHARACTERISTIC,
                cancel::OTHER,
                business::NOT_AVAILABLE,
            ),
            NEW_ID,
            "Upgrade all nodes, then `meridian admin engine-version set`.",
        ),
        R::Quarantined => (
            422,
            fix(order::OTHER, cancel::OTHER, business::OTHER),
            "Ask the operator before sending it again.",
            "Report the fault with the journal's record.",
        ),
    }
}
