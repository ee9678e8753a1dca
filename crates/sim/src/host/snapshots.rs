//! Snapshots: made, kept, and installed from a peer.

use std::rc::Rc;

use replica::{HardState, Input, SnapshotPoint};
use types::{EngineVersion, StateMachine};

use super::Host;
use crate::coverage::Point;
use crate::events::{Event, MILLISECOND, Stored};
use crate::journal::PowerLost;
use crate::market::Genesis;
use crate::mutation::{Mutated, Mutation};
use crate::shared::Shared;

impl Host {
    /// Begins to make a snapshot of what is applied now.
    pub(super) fn begin_snapshot(&mut self, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        if running.makes_snapshot {
            return;
        }
        running.makes_snapshot = true;
        let applier = running.replica.applier();
        let point = SnapshotPoint {
            applied: applier.applied(),
            membership: applier.membership().clone(),
        };
        running.snapshot_at = point.applied.index;
        let stored = Rc::new(Stored {
            point,
            state: applier.machine().snapshot(),
            engine_version: applier.machine().engine_version(),
        });
        let takes = shared.dice.between(2, 60) * MILLISECOND;
        shared.after(takes, Event::SnapshotDone { node, life, stored });
    }

    /// It is on the disk.
    pub(crate) fn snapshot_done(&mut self, stored: Rc<Stored>, shared: &mut Shared) {
        let Some(running) = &mut self.running else { return };
        running.makes_snapshot = false;
        let point = stored.point.clone();
        let wanted = running
            .snapshot_wanted
            .take_if(|at_least| *at_least <= point.applied.index);
        let is_too_old = wanted.is_none() && running.snapshot_wanted.is_some();
        let id = self.id;
        shared.say(|| format!("node {id} has a snapshot of index {}", point.applied.index));
        self.disk.snapshots.push(stored);
        self.disk.snapshots.sort_by_key(|stored| stored.point.applied.index);
        let kept = self.disk.snapshots.len().saturating_sub(2);
        self.disk.snapshots.drain(..kept);
        let oldest = self.disk.snapshots[0].point.applied.index;
        if running.journal.retire(&mut self.disk.files, oldest) > 0 {
            shared.hit(Point::SegmentRetired);
        }
        shared.hit(Point::InSnapshotMade);
        self.step(Input::SnapshotMade(point), shared);
        if is_too_old {
            self.begin_snapshot(shared);
        }
    }

    /// Makes one now, for a fault that needs it.
    pub(crate) fn snapshot_now(&mut self, shared: &mut Shared) {
        self.begin_snapshot(shared);
    }

    /// A peer's snapshot takes the place of everything.
    pub(super) fn install(
        &mut self,
        point: &SnapshotPoint,
        hard_state: HardState,
        shared: &mut Shared,
    ) -> Result<(), PowerLost> {
        let id = self.id;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let place = point.applied;
        let found = running.received.iter().find(|stored| stored.point == *point).cloned();
        let Some(mut stored) = found else {
            shared
                .oracle
                .stopped(id, format!("there is no snapshot of index {} to install", place.index));
            return Ok(());
        };
        if shared.mutation.is(Mutation::WrongSnapshotInstalled) {
            stored = Rc::new(Stored {
                point: point.clone(),
                state: Genesis::get().snapshot.clone(),
                engine_version: EngineVersion::FIRST,
            });
        }
        shared.say(|| format!("node {id} installs the snapshot of index {}", place.index));
        shared.hit(Point::StartInstalled);
        if self.is_gateway {
            self.kill(shared);
            self.installed = Some((stored, hard_state));
        } else {
            let files = &mut self.disk.files;
            running.journal.announce_jump(files, place.into())?;
            self.disk
                .snapshots
                .retain(|kept| kept.point.applied.index < place.index);
            self.disk.snapshots.push(stored);
            running.journal.begin_at(files, place.into(), hard_state)?;
            self.kill(shared);
        }
        shared.after(
            MILLISECOND,
            Event::Start {
                node: id,
                life: self.lives,
            },
        );
        Ok(())
    }

    /// True if this start is of the life that the node is in, or was in last.
    pub(crate) fn is_last_life(&self, life: u32) -> bool {
        self.lives == life
    }

    /// How many lives it has had.
    pub(crate) fn lives(&self) -> u32 {
        self.lives
    }

    /// How many segments it has begun and kept.
    pub(crate) fn segments(&self) -> usize {
        self.disk.files.segments.len()
    }
}
