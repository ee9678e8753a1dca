use super::*;
use wire::json::{CancelItem, NumberText};

fn session() -> Session {
    Session::new(RetryPolicy::default(), false)
}

fn at(sequence: u64) -> wire::json::Position {
    wire::json::Position {
        group: 0,
        epoch: 1,
        sequence: NumberText::from(sequence),
    }
}

fn cancel() -> Request {
    Request::Cancel(CancelItem {
        request_id: "r".into(),
        client_order_id: Some("c".into()),
        ..CancelItem::default()
    })
}

fn reply(id: u64) -> ServerMessage {
    ServerMessage::Reply(Reply {
        id,
        status: 200,
        ..Reply::default()
    })
}

/// A part of a message of the trades stream: position, index, whether more follows, previous.
fn trades(sequence: u64, index: u32, more: bool, previous: Option<u64>) -> ServerMessage {
    ServerMessage::Trades(StreamMessage {
        symbol: Some("A".into()),
        snapshot: false,
        position: at(sequence),
        index,
        more,
        previous: previous.map(at),
        sequenced_at: None,
        items: Vec::new(),
    })
}

fn follow_trades(session: &mut Session, from: u64) {
    let (sender, _receiver) = oneshot::channel();
    let subscribe = Subscribe {
        channel: Channel::Trades,
        symbol: Some("A".into()),
        depth: None,
        from: Some(at(from)),
        freshness: None,
    };
    session.submit(Request::Subscribe(subscribe), sender, Instant::now());
    let id = session.next_id - 1;
    session.take_unsent(Instant::now());
    confirm(session, id, from);
}

fn confirm(session: &mut Session, id: u64, from: u64) {
    let subscription = Subscription {
        channel: Channel::Trades,
        symbol: Some("A".into()),
        position: at(from),
        previous: None,
    };
    let reply = ServerMessage::Reply(Reply {
        id,
        status: 200,
        subscription: Some(subscription),
        ..Reply::default()
    });
    assert_eq!(session.receive(reply, Instant::now()), Vec::new());
}

/// `d` for what is delivered, `s` for what is sent, in order.
fn kinds(steps: &[Step]) -> String {
    let kind = |step: &Step| match step {
        Step::Deliver(_) => 'd',
        Step::Send(_) => 's',
        Step::Disconnect(_) => 'x',
    };
    steps.iter().map(kind).collect()
}

#[tokio::test]
async fn a_request_is_sent_again_as_it_was_until_its_reply_comes() {
    let mut session = session();
    let (sender, mut receiver) = oneshot::channel();
    let now = Instant::now();
    session.submit(cancel(), sender, now);
    let first = session.take_unsent(now);
    assert_eq!(first.len(), 1);
    assert!(session.take_unsent(now).is_empty());
    session.disconnected("cut");
    assert_eq!(session.take_unsent(now), first);
    assert!(receiver.try_recv().is_err());
    session.receive(reply(1), now);
    assert_eq!(receiver.await.unwrap().unwrap().id, 1);
    assert_eq!(session.pending_count(), 0);
}

#[tokio::test]
async fn a_busy_exchange_is_asked_again_later_and_patience_ends_as_unknown() {
    let mut session = session();
    let (sender, receiver) = oneshot::channel();
    let now = Instant::now();
    session.submit(cancel(), sender, now);
    session.take_unsent(now);
    session.disconnected("cut");
    session.take_unsent(now);
    let mut busy = Problem::new(Refusal::RateLimited.into());
    busy.retry_after_ms = Some(200);
    session.receive(ServerMessage::Reply(Reply::of_problem(1, busy)), now);
    assert!(session.take_unsent(now + Duration::from_millis(199)).is_empty());
    assert_eq!(session.take_unsent(now + Duration::from_millis(200)).len(), 1);
    assert!(!session.check_time(now + Duration::from_secs(1)));
    assert!(
        session.check_time(now + Duration::from_secs(7)),
        "the connection must be dead"
    );
    session.check_time(now + Duration::from_secs(31));
    let error = receiver.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unknown { request_id, .. } if request_id == "r"));
}

#[test]
fn a_stream_is_delivered_once_and_in_order() {
    let mut session = session();
    follow_trades(&mut session, 5);
    for (message, wanted) in [
        (trades(5, 0, false, None), ""),
        (trades(7, 0, true, Some(5)), "d"),
        (trades(7, 0, true, Some(5)), ""),
        (trades(7, 1, false, Some(5)), "d"),
        (trades(7, 1, false, Some(5)), ""),
        (trades(9, 0, false, Some(7)), "d"),
        // A gap: position 10 was not seen. The stream is asked for again.
        (trades(11, 0, false, Some(10)), "ss"),
        (trades(10, 0, false, Some(9)), "d"),
        (trades(11, 0, false, Some(10)), "d"),
    ] {
        let steps = session.receive(message.clone(), Instant::now());
        assert_eq!(kinds(&steps), wanted, "{message:?}");
    }
}

#[test]
fn a_cut_stream_goes_on_behind_its_last_whole_message() {
    let mut session = session();
    follow_trades(&mut session, 5);
    session.receive(trades(7, 0, false, Some(5)), Instant::now());
    session.receive(trades(8, 0, true, Some(7)), Instant::now());
    session.disconnected("cut");
    let resumed = session.resume_all();
    assert_eq!(resumed.len(), 1);
    assert!(resumed[0].contains(r#""sequence":"7""#), "{}", resumed[0]);
    let id = session.next_id - 1;
    confirm(&mut session, id, 7);
    let steps = session.receive(trades(8, 0, true, Some(7)), Instant::now());
    assert_eq!(kinds(&steps), "", "that part was delivered before");
    let steps = session.receive(trades(8, 1, false, Some(7)), Instant::now());
    assert_eq!(kinds(&steps), "d");
}

#[test]
fn a_stream_whose_past_is_gone_starts_anew() {
    let mut session = session();
    follow_trades(&mut session, 5);
    session.disconnected("cut");
    session.resume_all();
    let id = session.next_id - 1;
    let retired = Problem::new(Refusal::HistoryRetired.into());
    let steps = session.receive(ServerMessage::Reply(Reply::of_problem(id, retired)), Instant::now());
    assert_eq!(kinds(&steps), "ds");
    assert!(matches!(&steps[1], Step::Send(text) if !text.contains("from")));
}
