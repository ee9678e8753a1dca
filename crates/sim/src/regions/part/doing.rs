//! What a node does as its region says.

use super::*;

impl Part {
    pub(in crate::regions) fn look_at_group(&mut self, turn: &mut Turn<'_>) {
        let applied = self.replica.applier().applied();
        let place = GroupPlace {
            leads: self.replica.leads(),
            settled: self.replica.is_settled(),
            applied: LogPlace {
                epoch: applied.epoch,
                sequence: applied.sequence,
                chain: applied.chain,
            },
            stamp: applied.sequenced_at,
        };
        if self.told != Some(place) {
            self.told = Some(place);
            self.tell(RegionInput::Group(place), turn);
        }
    }

    /// What is to be done after each turn.
    pub(in crate::regions) fn look_after(&mut self, turn: &mut Turn<'_>) {
        self.look_at_group(turn);
        self.do_as_the_region_says(turn);
        self.release(turn);
        self.feed(turn);
        self.tell_followed(turn);
    }

    pub(in crate::regions) fn do_as_the_region_says(&mut self, turn: &mut Turn<'_>) {
        while !self.outputs.is_empty() && self.end.is_none() {
            for output in std::mem::take(&mut self.outputs) {
                self.do_one(output, turn);
            }
            self.look_at_group(turn);
        }
    }

    pub(in crate::regions) fn do_one(&mut self, output: RegionOutput, turn: &mut Turn<'_>) {
        let node = self.node;
        turn.shared.hit(output_point(&output));
        match output {
            RegionOutput::Ask { to, id, command } => {
                turn.shared
                    .send(node, to, Packet::Site(SiteMessage::LeaseAsk { id, command }));
            }
            RegionOutput::TellMoved(epoch) => {
                for other in nodes_of(self.site.other(), turn.shared) {
                    let message = SiteMessage::LeaseMoved { epoch };
                    turn.shared.send(node, other, Packet::Site(message));
                }
            }
            RegionOutput::Operated(result) => {
                turn.shared.say(|| format!("node {node}: operated {result:?}"));
            }
            RegionOutput::Mode(mode) => self.mode_changed(mode, turn),
            RegionOutput::BeginAnew {
                incarnation,
                founder,
                kept,
            } => {
                turn.shared
                    .say(|| format!("node {node} begins life {incarnation} with founder {founder}, kept {kept}"));
                self.list_void(turn);
                self.end = Some(End::BeginAnew {
                    incarnation,
                    founder,
                    kept,
                });
            }
        }
    }

    /// What `meridian reconcile` would list: of each batch of this life's journal, whether it holds by the lease's history.
    pub(in crate::regions) fn list_void(&mut self, turn: &mut Turn<'_>) {
        let Some(lease) = self.region.lease() else { return };
        let mut is_any = false;
        for batch in turn.disk.store.all_batches() {
            for sequence in (batch.first.0..=batch.last.0).map(Sequence) {
                if lease.kept(batch.epoch, sequence) < sequence {
                    is_any = true;
                    if !turn.shared.is_mutated(RegionMutation::EvidenceNotKept) {
                        turn.shared.oracle.list_void(batch.epoch, sequence);
                    }
                }
            }
        }
        if is_any {
            turn.shared.hit(Point::Evidence);
        }
    }

    pub(in crate::regions) fn mode_changed(&mut self, mode: Mode, turn: &mut Turn<'_>) {
        let (node, leads) = (self.node, self.replica.leads());
        let epoch = self.region.lease().map(|lease| lease.epoch);
        turn.shared
            .say(|| format!("node {node} (leads: {leads}): {mode:?}, in {epoch:?}"));
        turn.shared.hit(match mode {
            Mode::Unknown | Mode::Standby => Point::Standby,
            Mode::Beginning => Point::Beginning,
            Mode::Active(_) => Point::Active,
            Mode::Draining(_) => Point::Draining,
            Mode::Fenced(_) => Point::Fenced,
        });
        let was_fenced = std::mem::replace(&mut self.is_fenced, matches!(mode, Mode::Fenced(_)));
        if was_fenced && matches!(mode, Mode::Active(_)) {
            turn.shared.hit(Point::FromFenced);
        }
        if let (Mode::Active(_), Some(lease)) = (mode, self.region.lease()) {
            self.both_through = self.both_through.max(lease.began_after().unwrap_or_default());
        }
        if !matches!(mode, Mode::Standby) {
            self.follow = Follow::default();
        }
        if !self.region.is_active() {
            self.server.committed(None, Sequence(0));
            self.let_go(turn.shared);
            self.refuse_queue(turn);
        }
        self.step(Input::Sequence(mode.sequences()), turn);
    }

    // ---- looked at from outside --------------------------------------------------------------------------------------

    /// True if any of its nodes' clocks says that its region is active for certain.
    pub(in crate::regions) fn believes(&self, elapsed: Elapsed) -> bool {
        self.region.may_read(elapsed)
    }

    /// Where it stands, by what is the same in both regions.
    pub(in crate::regions) fn standing(&self) -> Standing {
        let applier = self.replica.applier();
        Standing {
            node: self.node,
            applied: Applied {
                index: LogIndex(0),
                term: wire::journal::Term(0),
                ..applier.applied()
            },
            state_hash: applier.machine().state_hash(),
            recomputed: applier.machine().recompute_state_hash(),
        }
    }

    pub(in crate::regions) fn market(&self) -> &Market {
        self.replica.applier().machine()
    }
}
