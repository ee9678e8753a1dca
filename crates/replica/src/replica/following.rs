//! A standby's leader: what the active region has sequenced goes into its group's log as it is.

use super::*;

impl<M: StateMachine, W> Replica<M, W> {
    /// Puts batches of the active region into the log as they are, only as a leader, and only those that follow on what is
    /// there. The others are passed over: whoever brings them looks at [`Self::next_sequence`].
    pub(super) fn follow(&mut self, batches: Vec<Bytes>) -> Result<(), StopReason> {
        for payload in batches {
            let may = self.may_propose().is_ok() && self.epoch.is_none();
            if !may || self.in_flight.len() >= BATCHES_IN_FLIGHT_MAX {
                return Ok(());
            }
            let decoded = wire::batch::decode::<M::Command>(&payload);
            let (header, commands) = decoded.map_err(|error| StopReason::Undecodable {
                index: self.last_index().next(),
                error,
            })?;
            let last_epoch = self.in_flight.back().map(|batch| batch.header.epoch);
            let follows = header.group == self.applier.group()
                && header.first_sequence == self.next_sequence
                && header.epoch >= last_epoch.unwrap_or(self.applier.applied().epoch)
                && header.sequenced_at >= self.last_stamp;
            if !follows || self.raw.propose(Vec::new(), payload.to_vec()).is_err() {
                return Ok(());
            }
            self.next_sequence = header.last_sequence().next();
            self.last_stamp = header.sequenced_at;
            self.in_flight.push_back(InFlight {
                index: self.raw.raft.raft_log.last_index(),
                term: self.raw.raft.term,
                header,
                commands,
                waiters: Vec::new(),
            });
        }
        Ok(())
    }
}
