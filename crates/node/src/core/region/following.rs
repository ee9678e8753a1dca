//! A standby's side: what it asks the active region for, and what came; and what the active region's leader is asked.

use std::collections::VecDeque;

use bytes::Bytes;
use replica::lease::Elapsed;
use replica::region::RegionInput;
use types::Sequence;
use wire::batch;
use wire::journal::NodeId;
use wire::site::{LogPlace, NotServed, SiteMessage};

use super::InRegion;

/// For how long a standby hears nothing until it asks again, or another node, in nanoseconds.
const SILENCE_NS: u64 = 1_500_000_000;
/// Bytes of batches that a standby keeps until its own group takes them.
const INCOMING_BYTES_MAX: usize = 64 << 20;

/// How a standby follows.
#[derive(Default)]
pub(super) struct Follow {
    /// The stream that it asked for; 0: none.
    pub(super) stream: u64,
    pub(super) source: Option<NodeId>,
    pub(super) heard_at: Elapsed,
    pub(super) incoming: VecDeque<Bytes>,
    pub(super) incoming_bytes: usize,
    pub(super) committed: Sequence,
    /// The last sequence of what came.
    pub(super) received_through: Sequence,
    /// What it said last that it has.
    pub(super) said: Option<LogPlace>,
    pub(super) said_at: Elapsed,
    /// When it last had everything that it knew of.
    pub(super) even_at: Elapsed,
}

impl InRegion {
    pub(super) fn hear(&mut self, from: NodeId, message: SiteMessage, leader: Option<NodeId>) {
        match message {
            SiteMessage::LeaseAnswer { id, done, view } => self.step(RegionInput::Answer { id, done, view }),
            SiteMessage::LeaseMoved { .. } => self.step(RegionInput::LeaseMoved),
            SiteMessage::FollowFrom { stream, place, .. } => self.asked_to_serve(from, stream, place, leader),
            SiteMessage::Followed {
                stream, epoch, place, ..
            } => {
                self.sites.followed(stream, place.sequence);
                self.step(RegionInput::Followed { epoch, place });
            }
            SiteMessage::NotServed { stream, why } => self.not_served(from, stream, why),
            // The voter's, and what was made of them before it came here.
            SiteMessage::LeaseAsk { .. } | SiteMessage::LeaseSnapshot { .. } | SiteMessage::Batches { .. } => {}
        }
    }

    fn asked_to_serve(&mut self, from: NodeId, stream: u64, place: LogPlace, leader: Option<NodeId>) {
        let refuse = |why| SiteMessage::NotServed { stream, why };
        let leads = self.told.is_some_and(|place| place.leads);
        let lease = self.region.lease().filter(|_| leads && self.region.is_active());
        let Some(lease) = lease.filter(|lease| lease.began_after().is_some()) else {
            let _ = self.sites.send(from, &refuse(NotServed::NotLeader { leader }));
            return;
        };
        let kept = lease.kept(place.epoch, place.sequence);
        if kept < place.sequence {
            let _ = self.sites.send(from, &refuse(NotServed::Forked { kept }));
            return;
        }
        tracing::info!(node = from.0, sequence = place.sequence.0, "the standby follows");
        self.sites.serve(from, stream, place);
    }

    fn not_served(&mut self, from: NodeId, stream: u64, why: NotServed) {
        if stream != self.follow.stream {
            return;
        }
        match why {
            NotServed::NotLeader { leader } => {
                let known = leader.filter(|leader| self.others.contains(leader));
                self.follow.source = known.or_else(|| self.after(from));
            }
            NotServed::Retired { first } => tracing::error!(
                first = first.0,
                "the active region no longer has what this one lacks: give this region's nodes a snapshot, see \
                 docs/disaster-recovery.md"
            ),
            NotServed::Forked { kept } => tracing::error!(
                kept = kept.0,
                "the active region's log is another one from here on; nothing is followed"
            ),
            NotServed::Unreadable => tracing::warn!(node = from.0, "the active region's node can't read its journal"),
        }
        self.follow.stream = 0;
        if matches!(why, NotServed::NotLeader { .. }) {
            self.ask_to_follow();
        }
    }

    /// The other region's node behind this one.
    fn after(&self, node: NodeId) -> Option<NodeId> {
        let at = self.others.iter().position(|other| *other == node);
        let next = at.map_or(0, |at| at + 1);
        self.others.get(next % self.others.len().max(1)).copied()
    }

    /// Asks for what follows, if nobody streams it.
    pub(super) fn ask_to_follow(&mut self) {
        let now = self.sites.now();
        let silent = now.since(self.follow.heard_at) >= SILENCE_NS;
        let (Some(place), Some(lease)) = (self.told, self.region.lease()) else {
            return;
        };
        if !self.region.follows() || (self.follow.stream != 0 && !silent) {
            return;
        }
        if self.follow.stream == 0 && now.since(self.follow.said_at) < SILENCE_NS / 10 {
            return;
        }
        let source = match self.follow.source {
            Some(source) if self.follow.stream == 0 => Some(source),
            Some(source) => self.after(source),
            None => self.others.first().copied(),
        };
        let Some(source) = source else { return };
        self.follow.source = Some(source);
        // Rises over restarts of the node, as the system's time does.
        self.follow.stream = now.0.max(self.follow.stream + 1);
        self.follow.heard_at = now;
        self.follow.said_at = now;
        self.follow.said = None;
        self.follow.received_through = place.applied.sequence;
        self.follow.incoming.clear();
        self.follow.incoming_bytes = 0;
        let message = SiteMessage::FollowFrom {
            region: self.id,
            stream: self.follow.stream,
            place: place.applied,
            epoch: lease.epoch,
        };
        let _ = self.sites.send(source, &message);
    }

    pub(super) fn take_batches(
        &mut self,
        from: NodeId,
        stream: u64,
        committed: Sequence,
        after: Sequence,
        batches: Vec<Bytes>,
    ) {
        let follow = &mut self.follow;
        if stream != follow.stream || follow.source != Some(from) {
            return;
        }
        let now = self.sites.now();
        follow.heard_at = now;
        if after != follow.received_through {
            tracing::warn!(
                received = follow.received_through.0,
                after = after.0,
                "something of the active region's was lost on the way; it is asked for again"
            );
            follow.stream = 0;
            follow.incoming.clear();
            follow.incoming_bytes = 0;
            return;
        }
        if let Some(Ok(last)) = batches.last().map(|payload| batch::decode_header(payload)) {
            follow.received_through = last.last_sequence();
        }
        follow.committed = follow.committed.max(committed);
        // Says at least that it lives.
        if now.since(follow.said_at) >= SILENCE_NS / 3 {
            follow.said = None;
        }
        for payload in batches {
            follow.incoming_bytes += payload.len();
            follow.incoming.push_back(payload);
        }
        if follow.incoming_bytes > INCOMING_BYTES_MAX {
            tracing::warn!("more comes from the active region than this one takes; it is asked for again");
            follow.stream = 0;
            follow.incoming.clear();
            follow.incoming_bytes = 0;
        }
    }

    /// The next batches to put into the log, at most so many; none if the first of those that came is of no use.
    pub(super) fn next_batches(&mut self, next: Sequence, count_max: usize) -> Option<Vec<Bytes>> {
        let first = self.follow.incoming.front()?;
        let begins = batch::decode_header(first).map(|header| header.first_sequence);
        match begins {
            Ok(begins) if begins == next => {
                let count = self.follow.incoming.len().min(count_max);
                let batches: Vec<Bytes> = self.follow.incoming.drain(..count).collect();
                self.follow.incoming_bytes -= batches.iter().map(Bytes::len).sum::<usize>();
                Some(batches)
            }
            // It is there already: it was asked for before it was applied.
            Ok(begins) if begins < next => {
                let gone = self.follow.incoming.pop_front()?;
                self.follow.incoming_bytes -= gone.len();
                None
            }
            _ => {
                tracing::warn!(
                    next = next.0,
                    "what comes from the active region does not follow; it is asked for again"
                );
                self.follow.stream = 0;
                self.follow.incoming.clear();
                self.follow.incoming_bytes = 0;
                None
            }
        }
    }
}
