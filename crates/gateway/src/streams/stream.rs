//! One stream of one session: a cursor that is pulled.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use types::{AccountId, AppliedBatch, Balance, Event, InstrumentId, Order, Position, Sequence, Side};
use wire::errors::Refusal;
use wire::json::{Problem, Scale};
use wire::ws::{Channel, STREAM_ITEMS_MAX, ServerMessage, StreamMessage};

use super::catch_up::{Chunk, PastBook, changes_book};
use super::text::{self, Head};
use crate::handle::{History, HistoryError};
use crate::past::Past;
use crate::view::{
    AccountSlot, Bell, LevelNow, Listeners, Market, PrivateStream, Reference, TradeRecord, Update, View, locked,
};

/// How many updates are taken from the view at a time.
const UPDATES_PER_LOCK: usize = 64;
/// How many commands of the past are walked over in one pull.
const COMMANDS_PER_PULL: usize = 4_096;
/// How many bytes are read from the event log at a time.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamName {
    /// The levels of an instrument's book.
    Book(InstrumentId),
    /// An instrument's trades.
    Trades(InstrumentId),
    /// One of an account's own.
    Private(AccountId, PrivateStream),
}

impl StreamName {
    /// Its kind.
    pub fn channel(self) -> Channel {
        match self {
            Self::Book(_) => Channel::Book,
            Self::Trades(_) => Channel::Trades,
            Self::Private(_, PrivateStream::Orders) => Channel::Orders,
            Self::Private(_, PrivateStream::Fills) => Channel::Fills,
            Self::Private(_, PrivateStream::Balances) => Channel::Balances,
        }
    }

    /// The name of its instrument, if it has one.
    pub fn symbol(self, reference: &Reference) -> Option<String> {
        match self {
            Self::Book(id) | Self::Trades(id) => {
                reference.instrument(id).map(|instrument| instrument.symbol.to_string())
            }
            Self::Private(..) => None,
        }
    }
}

/// Why a stream can't be opened or goes no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The account or instrument does not exist.
    #[error("there is no such stream")]
    Unknown,
    /// What follows on the position is no longer kept.
    #[error("the position is older than what is kept")]
    Retired {
        /// The first position that is.
        first: Position,
    },
    /// The position is of an epoch that ended before it.
    #[error("the position lies behind a fork")]
    Forked {
        /// The last position of that epoch that was kept, or the last of all.
        last: Position,
    },
    /// The position lies ahead of everything.
    #[error("the position was not sequenced yet")]
    Ahead {
        /// The last position.
        last: Position,
    },
    /// The event log could not be read.
    #[error(transparent)]
    History(HistoryError),
}

impl StreamError {
    /// The error as clients get it.
    pub fn problem(&self) -> Problem {
        let (refusal, kept, detail) = match self {
            Self::Unknown => (Refusal::ResourceNotFound, None, None),
            Self::Retired { first } => {
                let advice = "Subscribe without `from` for a snapshot, or from the kept position's predecessor.";
                (Refusal::HistoryRetired, Some(*first), Some(advice.to_owned()))
            }
            Self::Forked { last } => (Refusal::PositionForked, Some(*last), None),
            Self::Ahead { last } => (Refusal::PositionAhead, Some(*last), None),
            Self::History(HistoryError::Rebuilding) => (Refusal::HistoryRebuilding, None, None),
            Self::History(error) => (Refusal::HistoryUnreadable, None, Some(error.to_string())),
        };
        let mut problem = Problem::new(refusal.into());
        problem.kept_position = kept.map(Into::into);
        problem.detail = detail;
        problem
    }

    fn of_history(view: &View, error: HistoryError) -> Self {
        match error {
            HistoryError::Retired { first, .. } => Self::Retired {
                first: view.position_of(first),
            },
            HistoryError::Rebuilding | HistoryError::Io(_) => Self::History(error),
        }
    }
}

/// Makes an item of a message of what the view keeps.
type ItemOf<T, I> = fn(&T, &Scale) -> I;
/// Makes a server's message of a stream's.
type KindOf<I> = fn(StreamMessage<I>) -> ServerMessage;

/// What a pull came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Everything was told; the bell rings when there is more.
    Idle,
    /// There may be more: pull again.
    More,
    /// The event log must be read from this sequence on and given to [`Stream::take_in`]; then pull again.
    Read(Sequence),
}

/// Where a stream's news come from.
#[derive(Clone, Debug)]
enum Source {
    Market(Arc<Market>),
    Account(Arc<AccountSlot>),
}

/// One stream of one session.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    source: Source,
    symbol: Option<String>,
    bell: Arc<Bell>,
    mark: usize,
    /// Everything up to here was told.
    cursor: Sequence,
    /// The position of the last message, or what is known of the one before the first.
    previous: Option<Position>,
    snapshot: Option<Snapshot>,
    /// How many messages of the command behind the cursor were told, if some were and some were not.
    partly_told: Option<u32>,
    /// Batches that were read and are not walked over yet.
    chunk: Chunk,
    /// The book while it is further behind than the view's last updates reach.
    past_book: Option<PastBook>,
}

/// A snapshot that is being told.
#[derive(Debug)]
struct Snapshot {
    position: Position,
    items: SnapshotItems,
    /// How many messages were made of it.
    told: u32,
}

#[derive(Debug)]
enum SnapshotItems {
    Levels(Vec<LevelNow>),
    Orders(Vec<Order>),
    Balances(Vec<Balance>),
}

/// Opens a stream behind `from`, or at the present with a snapshot. From now on `bell` rings with `mark` when there is
/// news. The caller has waited until the view knows everything that was sequenced when the request came.
pub async fn open(
    view: &View,
    past: &Past,
    name: StreamName,
    (bell, mark): (&Arc<Bell>, usize),
    from: Option<Position>,
    depth: usize,
) -> Result<Stream, StreamError> {
    let source = match name {
        StreamName::Book(id) | StreamName::Trades(id) => view.market(id).map(Source::Market),
        StreamName::Private(account, _) => view.account_slot(account).map(Source::Account),
    };
    let mut stream = Stream {
        name,
        source: source.ok_or(StreamError::Unknown)?,
        symbol: name.symbol(&view.reference()),
        bell: Arc::clone(bell),
        mark,
        cursor: Sequence(0),
        previous: None,
        snapshot: None,
        partly_told: None,
        chunk: Chunk::default(),
        past_book: None,
    };
    stream.listeners().add(bell, mark);
    match from {
        None => stream.start_now(view, depth),
        Some(from) => stream.start_from(view, past, from).await?,
    }
    Ok(stream)
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.listeners().remove(&self.bell, self.mark);
    }
}

impl Stream {
    /// Which stream it is.
    pub fn name(&self) -> StreamName {
        self.name
    }

    /// Everything up to here was told, or is in the snapshot.
    pub fn position(&self, view: &View) -> Position {
        view.position_of(self.cursor)
    }

    /// What the next message's `previous` will be, as far as it is known.
    pub fn previous(&self) -> Option<Position> {
        self.previous
    }

    /// Appends messages to `out`, at least until there are `limit` or no more for now. Never blocks.
    pub fn pull(
        &mut self,
        view: &View,
        history: &dyn History,
        out: &mut Vec<Utf8Bytes>,
        limit: usize,
    ) -> Result<Pulled, StreamError> {
        if self.snapshot.is_some() {
            self.tell_snapshot(view, out, limit);
            return Ok(Pulled::More);
        }
        let pulled = match (self.name, self.source.clone()) {
            (StreamName::Private(account, stream), Source::Account(slot)) => {
                self.pull_private(view, history, (account, stream, &slot), out, limit)
            }
            (StreamName::Book(id), Source::Market(market)) => self.pull_book(view, id, &market, out, limit),
            (StreamName::Trades(id), Source::Market(market)) => self.pull_trades(view, id, &market, out, limit),
            _ => unreachable!("a stream's source is of its kind"),
        };
        if matches!(pulled, Ok(Pulled::Idle)) {
            self.chunk.clear();
        }
        pulled
    }

    /// Takes in what was read from the event log.
    pub fn take_in(
        &mut self,
        view: &View,
        read: Result<Vec<Arc<AppliedBatch>>, HistoryError>,
    ) -> Result<(), StreamError> {
        let batches = read.map_err(|error| StreamError::of_history(view, error))?;
        if batches.is_empty() {
            return Err(StreamError::History(HistoryError::Rebuilding));
        }
        self.chunk.fill(batches);
        Ok(())
    }

    fn listeners(&self) -> &Listeners {
        match (&self.source, self.name) {
            (Source::Market(market), StreamName::Book(_)) => &market.book_listeners,
            (Source::Market(market), _) => &market.trade_listeners,
            (Source::Account(slot), StreamName::Private(_, stream)) => &slot.listeners[stream as usize],
            (Source::Account(_), _) => unreachable!("a stream's source is of its kind"),
        }
    }

    fn start_now(&mut self, view: &View, depth: usize) {
        let published = view.position();
        let (touched, items) = match (&self.source, self.name) {
            (Source::Market(market), StreamName::Book(_)) => {
                let state = locked(&market.state);
                self.previous = state.updates.last();
                let levels = [Side::Buy, Side::Sell].into_iter().flat_map(|side| {
                    let best = state.levels.best(side, depth).into_iter();
                    best.map(move |(price, level)| LevelNow { side, price, level })
                });
                (state.touched, Some(SnapshotItems::Levels(levels.collect())))
            }
            (Source::Market(market), _) => {
                let state = locked(&market.state);
                self.previous = state.trades.last();
                (state.touched, None)
            }
            (Source::Account(slot), StreamName::Private(_, stream)) => {
                let state = locked(&slot.state);
                let last = state
                    .index
                    .previous(stream, published.sequence.max(state.touched.sequence));
                self.previous = last.map(|sequence| view.position_of(sequence));
                let items = match stream {
                    PrivateStream::Orders => Some(SnapshotItems::Orders(state.orders.after(None).copied().collect())),
                    PrivateStream::Fills => None,
                    PrivateStream::Balances => Some(SnapshotItems::Balances(state.balances.clone())),
                };
                (state.touched, items)
            }
            (Source::Account(_), _) => unreachable!("a stream's source is of its kind"),
        };
        let position = published.max(touched);
        self.cursor = position.sequence;
        self.snapshot = items.map(|items| Snapshot {
            position,
            items,
            told: 0,
        });
    }

    async fn start_from(&mut self, view: &View, past: &Past, from: Position) -> Result<(), StreamError> {
        let last = view.position();
        let sequence = from.sequence;
        if sequence.0 > 0 {
            let here = view.position_of(sequence);
            if here.group != from.group || here.epoch != from.epoch {
                let last = view.last_of_epoch(from.epoch).unwrap_or(last);
                return Err(StreamError::Forked { last });
            }
            if sequence > last.sequence {
                return Err(StreamError::Ahead { last });
            }
        }
        let first = past.history().first();
        if sequence.next() < first {
            let first = view.position_of(first);
            return Err(StreamError::Retired { first });
        }
        self.cursor = sequence;
        self.previous = self.known_previous(view, sequence);
        if self.previous.is_none() && sequence >= first && sequence.0 > 0 {
            // Who resumes from a message of the stream gets its link, however long ago that was.
            let read = past.command(sequence).await;
            let command = read.map_err(|error| StreamError::of_history(view, error))?;
            if command.is_some_and(|command| self.concerns(command.events())) {
                self.previous = Some(from);
            }
        }
        Ok(())
    }

    /// The position of the last message at or before a sequence, as far as the view knows.
    fn known_previous(&self, view: &View, at: Sequence) -> Option<Position> {
        match (&self.source, self.name) {
            (Source::Market(market), StreamName::Book(_)) => locked(&market.state).updates.previous(at),
            (Source::Market(market), _) => locked(&market.state).trades.previous(at),
            (Source::Account(slot), StreamName::Private(_, stream)) => {
                let sequence = locked(&slot.state).index.previous(stream, at)?;
                Some(view.position_of(sequence))
            }
            (Source::Account(_), _) => unreachable!("a stream's source is of its kind"),
        }
    }

    /// True if a command has a message on this stream.
    fn concerns(&self, events: &[Event]) -> bool {
        match self.name {
            StreamName::Book(id) => changes_book(id, events),
            StreamName::Trades(id) => events.iter().any(|event| is_trade_of(id, event)),
            StreamName::Private(account, stream) => events.iter().any(|event| stream.contains(account, event)),
        }
    }

    fn tell_snapshot(&mut self, view: &View, out: &mut Vec<Utf8Bytes>, limit: usize) {
        let Some(mut snapshot) = self.snapshot.take() else {
            return;
        };
        let reference = view.reference();
        let head = Head {
            symbol: self.symbol.clone(),
            snapshot: true,
            position: snapshot.position,
            previous: self.previous,
            sequenced_at: None,
        };
        let at = snapshot.position.sequence;
        let count = limit.max(1) * STREAM_ITEMS_MAX;
        let start = snapshot.told as usize * STREAM_ITEMS_MAX;
        let texts = match &snapshot.items {
            SnapshotItems::Levels(levels) => {
                let StreamName::Book(id) = self.name else {
                    unreachable!("only books have levels");
                };
                let scale = text::scale_at(&reference, id, at);
                let item = |now: &LevelNow| text::book_item(now, &scale);
                part(
                    &head,
                    snapshot.told,
                    levels,
                    start..start + count,
                    item,
                    ServerMessage::Book,
                )
            }
            SnapshotItems::Orders(orders) => {
                let item = |order: &Order| text::open_order_item(order, &reference, at);
                part(
                    &head,
                    snapshot.told,
                    orders,
                    start..start + count,
                    item,
                    ServerMessage::Orders,
                )
            }
            SnapshotItems::Balances(balances) => {
                let item = |balance: &Balance| text::balance_item(balance, &reference);
                part(
                    &head,
                    snapshot.told,
                    balances,
                    start..start + count,
                    item,
                    ServerMessage::Balances,
                )
            }
        };
        let (texts, more) = texts;
        snapshot.told += u32::try_from(texts.len()).expect("a snapshot is bounded");
        out.extend(texts);
        if more {
            self.snapshot = Some(snapshot);
        }
    }

    fn head(&self, position: Position, sequenced_at: types::Timestamp) -> Head {
        Head {
            symbol: self.symbol.clone(),
            snapshot: false,
            position,
            previous: self.previous,
            sequenced_at: Some(sequenced_at),
        }
    }

    fn pull_book(
        &mut self,
        view: &View,
        id: InstrumentId,
        market: &Market,
        out: &mut Vec<Utf8Bytes>,
        limit: usize,
    ) -> Result<Pulled, StreamError> {
        let state = locked(&market.state);
        if state.updates.reaches(self.cursor) {
            let count = limit.min(UPDATES_PER_LOCK);
            let updates: Vec<_> = state.updates.after(self.cursor).take(count).cloned().collect();
            drop(state);
            self.past_book = None;
            let item = text::book_item;
            return Ok(self.tell_updates(view, id, &updates, out, (item, ServerMessage::Book)));
        }
        let mut book = match self.past_book.take() {
            Some(book) => book,
            None => {
                let last = view.position().sequence.max(state.touched.sequence);
                PastBook::new(id, state.levels.clone(), last, self.cursor)
            }
        };
        drop(state);
        let pulled = self.walk_book(view, id, &mut book, out, limit);
        self.past_book = Some(book);
        pulled
    }

    fn walk_book(
        &mut self,
        view: &View,
        id: InstrumentId,
        book: &mut PastBook,
        out: &mut Vec<Utf8Bytes>,
        limit: usize,
    ) -> Result<Pulled, StreamError> {
        let reference = view.reference();
        let told = out.len();
        for _ in 0..COMMANDS_PER_PULL {
            if let Some(wanted) = book.wants() {
                let Some(command) = self.chunk.command(wanted) else {
                    return Ok(Pulled::Read(wanted));
                };
                book.sum_up(command.events());
                continue;
            }
            let next = self.cursor.next();
            if next > view.position().sequence || out.len() - told >= limit {
                return Ok(Pulled::More);
            }
            let Some(command) = self.chunk.command(next) else {
                return Ok(Pulled::Read(next));
            };
            let levels = book.advance(command.events());
            self.cursor = next;
            if levels.is_empty() {
                continue;
            }
            let header = &command.batch.header;
            let position = header.position(u32::try_from(command.index).expect("a batch is bounded"));
            let head = self.head(position, header.sequenced_at);
            let scale = text::scale_at(&reference, id, next);
            let items = levels.iter().map(|now| text::book_item(now, &scale)).collect();
            out.extend(text::messages(&head, 0, items, false, ServerMessage::Book));
            self.previous = Some(position);
        }
        Ok(Pulled::More)
    }

    fn pull_trades(
        &mut self,
        view: &View,
        id: InstrumentId,
        market: &Market,
        out: &mut Vec<Utf8Bytes>,
        limit: usize,
    ) -> Result<Pulled, StreamError> {
        let state = locked(&market.state);
        if state.trades.reaches(self.cursor) {
            let count = limit.min(UPDATES_PER_LOCK);
            let updates: Vec<_> = state.trades.after(self.cursor).take(count).cloned().collect();
            drop(state);
            let item = text::trade_item;
            return Ok(self.tell_updates(view, id, &updates, out, (item, ServerMessage::Trades)));
        }
        drop(state);
        let reference = view.reference();
        let told = out.len();
        for _ in 0..COMMANDS_PER_PULL {
            let next = self.cursor.next();
            if next > view.position().sequence || out.len() - told >= limit {
                break;
            }
            let Some(command) = self.chunk.command(next) else {
                return Ok(Pulled::Read(next));
            };
            self.cursor = next;
            let header = &command.batch.header;
            let position = header.position(u32::try_from(command.index).expect("a batch is bounded"));
            let own = command.events().iter().filter_map(|event| match event {
                Event::Traded(trade) if trade.instrument == id => {
                    Some(TradeRecord::new(trade, position, header.sequenced_at))
                }
                _ => None,
            });
            let scale = text::scale_at(&reference, id, next);
            let items: Vec<_> = own.map(|trade| text::trade_item(&trade, &scale)).collect();
            if items.is_empty() {
                continue;
            }
            let head = self.head(position, header.sequenced_at);
            out.extend(text::messages(&head, 0, items, false, ServerMessage::Trades));
            self.previous = Some(position);
        }
        Ok(Pulled::More)
    }

    /// Tells updates that the view keeps. Their text is made once for all who follow.
    fn tell_updates<T, I>(
        &mut self,
        view: &View,
        id: InstrumentId,
        updates: &[Arc<Update<T>>],
        out: &mut Vec<Utf8Bytes>,
        (item, kind): (ItemOf<T, I>, KindOf<I>),
    ) -> Pulled {
        if updates.is_empty() {
            return Pulled::Idle;
        }
        let reference = view.reference();
        for update in updates {
            let make = |previous: Option<Position>| {
                let scale = text::scale_at(&reference, id, update.position.sequence);
                let items = update.items.iter().map(|own| item(own, &scale)).collect();
                let head = Head {
                    symbol: self.symbol.clone(),
                    snapshot: false,
                    position: update.position,
                    previous,
                    sequenced_at: Some(update.sequenced_at),
                };
                text::messages(&head, 0, items, false, kind)
            };
            if update.previous == self.previous || self.previous.is_none() {
                out.extend(update.text.get_or_init(|| make(update.previous)).iter().cloned());
            } else {
                out.extend(make(self.previous));
            }
            self.previous = Some(update.position);
            self.cursor = update.position.sequence;
        }
        Pulled::More
    }

    fn pull_private(
        &mut self,
        view: &View,
        history: &dyn History,
        (account, stream, slot): (AccountId, PrivateStream, &AccountSlot),
        out: &mut Vec<Utf8Bytes>,
        limit: usize,
    ) -> Result<Pulled, StreamError> {
        let told = out.len();
        let wanted: Vec<Sequence> = {
            let state = locked(&slot.state);
            if state.index.reaches(self.cursor) {
                let found = state
                    .index
                    .after(stream, self.cursor)
                    .take(limit.min(UPDATES_PER_LOCK))
                    .collect();
                drop(state);
                found
            } else {
                drop(state);
                let last = view.position().sequence.0;
                let end = last.min(self.cursor.0 + COMMANDS_PER_PULL as u64);
                (self.cursor.0 + 1..=end).map(Sequence).collect()
            }
        };
        if wanted.is_empty() {
            return Ok(Pulled::Idle);
        }
        let reference = view.reference();
        for sequence in wanted {
            let command = match self.chunk.command(sequence) {
                Some(command) => command,
                None if history.is_recent(sequence) => {
                    self.take_in(view, history.read(sequence, READ_BYTES))?;
                    let command = self.chunk.command(sequence);
                    command.ok_or(StreamError::History(HistoryError::Rebuilding))?
                }
                None => return Ok(Pulled::Read(sequence)),
            };
            let header = &command.batch.header;
            let position = header.position(u32::try_from(command.index).expect("a batch is bounded"));
            let head = self.head(position, header.sequenced_at);
            let first = self.partly_told.take().unwrap_or(0);
            let count = limit.saturating_sub(out.len() - told);
            let part = (first, count);
            let (texts, more) = text::private_messages((account, stream), command.events(), &head, &reference, part);
            let texts_len = u32::try_from(texts.len()).expect("they are bounded by the limit");
            out.extend(texts);
            if more {
                self.partly_told = Some(first + texts_len);
                break;
            }
            self.cursor = sequence;
            if first + texts_len > 0 {
                self.previous = Some(position);
            }
            if out.len() - told >= limit {
                break;
            }
        }
        Ok(Pulled::More)
    }
}

fn is_trade_of(id: InstrumentId, event: &Event) -> bool {
    matches!(event, Event::Traded(trade) if trade.instrument == id)
}

/// Messages of a part of a snapshot's items, and whether there is more behind it.
fn part<T, I>(
    head: &Head,
    first_index: u32,
    all: &[T],
    range: std::ops::Range<usize>,
    item: impl Fn(&T) -> I,
    kind: KindOf<I>,
) -> (Vec<Utf8Bytes>, bool) {
    let end = range.end.min(all.len());
    let more = end < all.len();
    let items = all[range.start.min(end)..end].iter().map(item).collect();
    (text::messages(head, first_index, items, more, kind), more)
}
