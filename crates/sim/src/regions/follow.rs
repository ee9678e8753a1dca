//! The stream from the active region's leader to the standby's: what `node` has for both ends of it, in short.

use std::collections::VecDeque;

use bytes::Bytes;
use replica::lease::Elapsed;
use replica::region::RegionInput;
use types::{Epoch, Sequence};
use wire::batch;
use wire::journal::NodeId;
use wire::site::{LogPlace, NotServed, SiteMessage};

use super::coverage::Point;
use super::mutation::RegionMutation;
use super::part::{Part, Turn, nodes_of, region_of};
use super::shared::{Happening, Packet};
use crate::events::{MILLISECOND, SECOND, Time};

/// For how long a standby hears nothing until it asks again, or another node.
const SILENCE: Time = 1_500 * MILLISECOND;
/// Batches that a standby puts into its log before it waits for the first of them to be committed.
const FOLLOW_IN_FLIGHT_MAX: usize = 32;
/// Bytes of batches of one message.
const MESSAGE_BYTES: usize = 4 << 10;
/// How often the standby hears that the active region lives.
const HEARTBEAT_EVERY: Time = 200 * MILLISECOND;
/// For how long a standby that says nothing is streamed to.
const SILENCE_MAX: Time = 10 * SECOND;

/// How a standby follows.
#[derive(Default)]
pub(super) struct Follow {
    stream: u64,
    source: Option<NodeId>,
    heard_at: Elapsed,
    incoming: VecDeque<Bytes>,
    /// The last sequence that came.
    through: Sequence,
    said: Option<LogPlace>,
    said_at: Elapsed,
}

/// The stream to the standby.
#[derive(Default)]
pub(super) struct Server {
    asked: Option<(NodeId, u64, Epoch)>,
    epoch: Option<Epoch>,
    committed: Sequence,
    followed: Sequence,
    heard_at: Time,
    sent_through: Sequence,
    sent_at: Time,
    under_way: VecDeque<(Sequence, usize)>,
}

impl Server {
    /// The region is active in this epoch, or not at all, and has committed this.
    pub(super) fn committed(&mut self, epoch: Option<Epoch>, through: Sequence) {
        self.epoch = epoch;
        self.committed = through;
    }
}

impl Part {
    /// What a site says to this region.
    pub(super) fn hear(&mut self, from: NodeId, message: SiteMessage, turn: &mut Turn<'_>) {
        match message {
            SiteMessage::LeaseAnswer { id, done, view } => self.tell(RegionInput::Answer { id, done, view }, turn),
            SiteMessage::LeaseMoved { .. } => self.tell(RegionInput::LeaseMoved, turn),
            SiteMessage::FollowFrom { stream, place, .. } => self.asked_to_serve(from, stream, place, turn),
            SiteMessage::Followed {
                stream, epoch, place, ..
            } => {
                if self.server.asked.is_some_and(|(_, asked, _)| asked == stream) {
                    self.server.followed = self.server.followed.max(place.sequence);
                    self.server.heard_at = turn.shared.now;
                }
                self.tell(RegionInput::Followed { epoch, place }, turn);
            }
            SiteMessage::NotServed { stream, why } => self.not_served(from, stream, why, turn),
            _ => {}
        }
        self.look_after(turn);
    }

    // ---- the active region -------------------------------------------------------------------------------------------

    fn asked_to_serve(&mut self, from: NodeId, stream: u64, place: LogPlace, turn: &mut Turn<'_>) {
        let leads = self.told.is_some_and(|place| place.leads);
        let leader = self.replica.leader();
        let lease = self.region.lease().filter(|_| leads && self.region.is_active());
        let served = match lease.filter(|lease| lease.began_after().is_some()) {
            None => Err(NotServed::NotLeader { leader }),
            Some(lease) => {
                let (kept, epoch) = (lease.kept(place.epoch, place.sequence), lease.epoch);
                if kept < place.sequence {
                    Err(NotServed::Forked { kept })
                } else {
                    self.find(place, turn).map(|()| epoch)
                }
            }
        };
        match served {
            Ok(epoch) => {
                self.server.asked = Some((from, stream, epoch));
                self.server.followed = place.sequence;
                self.server.sent_through = place.sequence;
                self.server.heard_at = turn.shared.now;
                self.server.sent_at = 0;
                self.server.under_way.clear();
                let (node, life) = (self.node, turn.shared.life(self.node));
                turn.shared.after(MILLISECOND, Happening::Stream { node, life });
            }
            Err(why) => {
                turn.shared.hit(match why {
                    NotServed::Retired { .. } => Point::NotServedRetired,
                    NotServed::Forked { .. } => Point::NotServedForked,
                    NotServed::NotLeader { .. } | NotServed::Unreadable => Point::NotServedNotLeader,
                });
                let refused = SiteMessage::NotServed { stream, why };
                turn.shared.send(self.node, from, Packet::Site(refused));
            }
        }
    }

    /// Whether the journal has what follows a place.
    fn find(&mut self, place: LogPlace, turn: &mut Turn<'_>) -> Result<(), NotServed> {
        let begin = self.journal_begin;
        if place.sequence < turn.disk.retired {
            let first = turn.disk.retired.next();
            return Err(NotServed::Retired { first });
        }
        if place.sequence < begin.sequence {
            // An operator brings back what is needed from the archive, so that the next time it is there.
            let first = begin.sequence.next();
            turn.shared.restore(&mut self.journal, &mut self.journal_begin);
            return Err(NotServed::Retired { first });
        }
        let there = if begin.sequence == place.sequence {
            Some(begin.chain)
        } else {
            let at = self.journal.partition_point(|batch| batch.last < place.sequence);
            let batch = self.journal.get(at).filter(|batch| batch.last == place.sequence);
            batch.map(|batch| batch.chain)
        };
        if there == Some(place.chain) {
            Ok(())
        } else {
            Err(NotServed::Forked { kept: begin.sequence })
        }
    }

    /// Now and then, as long as somebody follows.
    pub(super) fn stream_turn(&mut self, turn: &mut Turn<'_>) {
        self.stream(turn);
        if self.server.asked.is_some() {
            let (node, life) = (self.node, turn.shared.life(self.node));
            turn.shared.after(HEARTBEAT_EVERY, Happening::Stream { node, life });
        }
    }

    /// Sends what there is to send.
    pub(super) fn stream(&mut self, turn: &mut Turn<'_>) {
        let now = turn.shared.now;
        while let Some((to, stream, epoch)) = self.server.asked {
            if self.server.epoch != Some(epoch) {
                // A leader that has just begun says at its next turn how far it is.
                if self.server.epoch.is_some() || !self.region.is_active() || !self.replica.leads() {
                    self.server.asked = None;
                }
                return;
            }
            if now > self.server.heard_at + SILENCE_MAX {
                self.server.asked = None;
                return;
            }
            let server = &mut self.server;
            while server
                .under_way
                .front()
                .is_some_and(|(through, _)| *through <= server.followed)
            {
                server.under_way.pop_front();
            }
            let bytes: usize = server.under_way.iter().map(|(_, bytes)| bytes).sum();
            let has_more = server.committed > server.sent_through && bytes < turn.shared.setup.window_bytes;
            if !has_more && now < server.sent_at + HEARTBEAT_EVERY {
                return;
            }
            let after = server.sent_through;
            let mut batches = Vec::new();
            let mut size = 0;
            if has_more {
                let from = self.journal.partition_point(|batch| batch.last <= server.sent_through);
                for batch in &self.journal[from..] {
                    if size >= MESSAGE_BYTES || batch.last > server.committed {
                        break;
                    }
                    size += batch.payload.len();
                    server.sent_through = batch.last;
                    batches.push(batch.payload.clone());
                }
                server.under_way.push_back((server.sent_through, size));
            }
            server.sent_at = now;
            let is_empty = batches.is_empty();
            let packet = Packet::Batches { stream, after, batches };
            turn.shared.send(self.node, to, packet);
            if is_empty {
                return;
            }
        }
    }

    // ---- the standby -------------------------------------------------------------------------------------------------

    fn not_served(&mut self, from: NodeId, stream: u64, why: NotServed, turn: &mut Turn<'_>) {
        if stream != self.follow.stream {
            return;
        }
        if let NotServed::NotLeader { leader } = why {
            let others = nodes_of(self.site.other(), turn.shared);
            let known = leader.filter(|leader| others.contains(leader));
            self.follow.source = known.or_else(|| after(&others, from));
        }
        self.follow.stream = 0;
        if matches!(why, NotServed::NotLeader { .. }) {
            self.ask_to_follow(turn);
        }
    }

    /// Asks for what follows, if nobody streams it.
    pub(super) fn ask_to_follow(&mut self, turn: &mut Turn<'_>) {
        let now = turn.elapsed;
        let follow = &mut self.follow;
        let silent = now.since(follow.heard_at) >= SILENCE;
        let (Some(place), Some(lease)) = (self.told, self.region.lease()) else {
            return;
        };
        if !self.region.follows() || (follow.stream != 0 && !silent) {
            return;
        }
        if follow.stream == 0 && now.since(follow.said_at) < SILENCE / 10 {
            return;
        }
        let others = nodes_of(self.site.other(), turn.shared);
        let source = match follow.source {
            Some(source) if follow.stream == 0 => Some(source),
            Some(source) => after(&others, source),
            None => others.first().copied(),
        };
        let Some(source) = source else { return };
        follow.source = Some(source);
        follow.stream = now.0.max(follow.stream + 1);
        follow.heard_at = now;
        follow.said_at = now;
        follow.said = None;
        follow.incoming.clear();
        follow.through = place.applied.sequence;
        let message = SiteMessage::FollowFrom {
            region: region_of(self.site),
            stream: follow.stream,
            place: place.applied,
            epoch: lease.epoch,
        };
        turn.shared.hit(Point::FollowedAgain);
        turn.shared.send(self.node, source, Packet::Site(message));
    }

    /// Batches of the active region came.
    pub(super) fn take_batches(
        &mut self,
        from: NodeId,
        (stream, after): (u64, Sequence),
        batches: Vec<Bytes>,
        turn: &mut Turn<'_>,
    ) {
        let follow = &mut self.follow;
        if stream != follow.stream || follow.source != Some(from) {
            return;
        }
        follow.heard_at = turn.elapsed;
        if turn.elapsed.since(follow.said_at) >= SILENCE / 3 {
            follow.said = None;
        }
        if after > follow.through && !turn.shared.is_mutated(RegionMutation::GapNotNoticed) {
            // Something got lost on the way, and there may be nothing behind it for a while.
            turn.shared.hit(Point::OutOfOrder);
            follow.stream = 0;
            follow.incoming.clear();
            return;
        }
        for payload in batches {
            if let Ok(header) = batch::decode_header(&payload) {
                follow.through = follow.through.max(header.last_sequence());
            }
            follow.incoming.push_back(payload);
        }
        self.look_after(turn);
    }

    /// Puts what came into the log, as far as there is room.
    pub(super) fn feed(&mut self, turn: &mut Turn<'_>) {
        loop {
            let in_flight = self.replica.in_flight_count();
            if self.follow.incoming.is_empty()
                || !self.region.follows()
                || in_flight >= FOLLOW_IN_FLIGHT_MAX
                || self.end.is_some()
            {
                return;
            }
            let Some(batches) = self.next_batches(FOLLOW_IN_FLIGHT_MAX - in_flight, turn) else {
                continue;
            };
            self.follow_batches(batches, turn);
        }
    }

    fn next_batches(&mut self, most: usize, turn: &mut Turn<'_>) -> Option<Vec<Bytes>> {
        let next = self.replica.next_sequence();
        let incoming = &mut self.follow.incoming;
        let begins = batch::decode_header(incoming.front()?).map(|header| header.first_sequence);
        match begins {
            Ok(begins) if begins == next => Some(incoming.drain(..incoming.len().min(most)).collect()),
            Ok(begins) if begins < next => {
                turn.shared.hit(Point::ResentDropped);
                incoming.pop_front();
                None
            }
            _ => {
                turn.shared.hit(Point::OutOfOrder);
                self.follow.stream = 0;
                incoming.clear();
                None
            }
        }
    }

    /// Tells the active region how far this one is, when that changed.
    pub(super) fn tell_followed(&mut self, turn: &mut Turn<'_>) {
        let (Some(place), Some(lease)) = (self.told, self.region.lease()) else {
            return;
        };
        let mut said = place.applied;
        if turn.shared.is_mutated(RegionMutation::FollowedBeforeCommitted) && self.region.follows() {
            said.sequence = Sequence(self.replica.next_sequence().0 - 1);
        }
        let follow = &mut self.follow;
        if follow.stream == 0 || follow.said == Some(said) {
            return;
        }
        follow.said = Some(said);
        follow.said_at = turn.elapsed;
        let message = SiteMessage::Followed {
            stream: follow.stream,
            epoch: lease.epoch,
            place: said,
        };
        if let Some(source) = follow.source {
            turn.shared.send(self.node, source, Packet::Site(message));
        }
    }
}

fn after(others: &[NodeId], node: NodeId) -> Option<NodeId> {
    let at = others.iter().position(|other| *other == node);
    let next = at.map_or(0, |at| at + 1);
    others.get(next % others.len().max(1)).copied()
}
