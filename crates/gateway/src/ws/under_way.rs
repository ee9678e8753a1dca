//! The requests of a session that the core has: a table that is used again and again, so that it allocates nothing once
//! it has held as many as the session has under way.

use types::{RequestId, Timestamp};

use crate::waiting::Token;

/// A request that the core has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// What the client calls the message.
    pub id: u64,
    /// What kind of answer it gets.
    pub kind: Kind,
    /// Its request id.
    pub request_id: RequestId,
    /// When its bytes came in.
    pub received_at: Timestamp,
    /// At which of the session's ticks its outcome counts as unknown.
    pub late_at: u64,
}

/// What kind of answer a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Place,
    Order,
    CancelAll,
    CancelAfter,
}

/// The requests that the core has.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    /// Tells a request from an earlier one in the same slot.
    turn: u32,
    request: Option<Request>,
}

impl UnderWay {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Keeps a request. The token finds it.
    pub fn insert(&mut self, request: Request) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { turn: 0, request: None });
            u32::try_from(self.slots.len() - 1).expect("a session's requests are bounded")
        });
        let slot = &mut self.slots[index as usize];
        slot.turn = slot.turn.wrapping_add(1);
        slot.request = Some(request);
        u64::from(slot.turn) << 32 | u64::from(index)
    }

    /// Takes a request out; none if it was taken out before.
    pub fn remove(&mut self, token: Token) -> Option<Request> {
        let (turn, index) = ((token >> 32) as u32, token as u32);
        let slot = self.slots.get_mut(index as usize).filter(|slot| slot.turn == turn)?;
        let request = slot.request.take()?;
        self.free.push(index);
        Some(request)
    }

    /// Takes a request out that is late at a tick, if there is one.
    pub fn remove_late(&mut self, tick: u64) -> Option<Request> {
        let is_late = |slot: &Slot| slot.request.as_ref().is_some_and(|request| request.late_at <= tick);
        let index = self.slots.iter().position(is_late)?;
        let request = self.slots[index].request.take();
        self.free
            .push(u32::try_from(index).expect("a session's requests are bounded"));
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64, late_at: u64) -> Request {
        Request {
            id,
            kind: Kind::Place,
            request_id: RequestId::EMPTY,
            received_at: Timestamp(0),
            late_at,
        }
    }

    #[test]
    fn a_request_is_found_once_by_its_token_alone() {
        let mut under_way = UnderWay::default();
        let first = under_way.insert(request(1, 10));
        let second = under_way.insert(request(2, 20));
        assert_eq!(under_way.remove(first).map(|request| request.id), Some(1));
        assert!(under_way.remove(first).is_none());
        let third = under_way.insert(request(3, 5));
        assert!(under_way.remove(first).is_none(), "its slot has another one");
        assert_eq!(under_way.len(), 2);
        let late = |under_way: &mut UnderWay, tick| under_way.remove_late(tick).map(|request| request.id);
        assert_eq!(late(&mut under_way, 4), None);
        assert_eq!(late(&mut under_way, 19), Some(3));
        assert_eq!(late(&mut under_way, 19), None);
        assert!(under_way.remove(third).is_none(), "it was late");
        assert_eq!(under_way.remove(second).map(|request| request.id), Some(2));
        assert_eq!(under_way.len(), 0);
    }
}
