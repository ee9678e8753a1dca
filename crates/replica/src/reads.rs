//! Reads that wait to learn from where on they see all that was acknowledged before them.
//!
//! Consensus is asked once for all reads that have come since it was asked last: it confirms with a majority that the
//! leader still leads, and names the last entry that was committed when it was asked (Raft's thesis, section 6.4). Once
//! that entry is applied here, the state serves the read. Consensus drops such a question silently where there is no
//! leader, or a new one; so it is asked again.

use std::collections::VecDeque;
use std::mem;

use types::Timestamp;

use crate::applier::Applied;
use crate::protocol::{Output, ReadTicket};

/// Ticks after which consensus is asked again.
const AGAIN_TICKS: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Not yet asked for.
    waiting: Vec<ReadTicket>,
    asked: Option<Asked>,
    /// Those whose entry is known and may have to be applied first.
    known: VecDeque<(u64, Vec<ReadTicket>)>,
    counter: u64,
}

#[derive(Debug)]
struct Asked {
    context: Vec<u8>,
    tickets: Vec<ReadTicket>,
    /// Since the question was put last, and
    ticks: usize,
    /// since it was first.
    ticks_all: usize,
}

impl Reads {
    pub(crate) fn wait(&mut self, ticket: ReadTicket) {
        self.waiting.push(ticket);
    }

    /// What consensus is to be asked, if there is a read to ask for and no question is under way. No two questions of a
    /// group are alike, those of a node's earlier lives included.
    pub(crate) fn ask(&mut self, node: u64, now: Timestamp) -> Option<Vec<u8>> {
        let (tickets, ticks_all) = match &mut self.asked {
            // It was dropped, it seems: a later question holds for these too.
            Some(asked) if asked.ticks >= AGAIN_TICKS => (mem::take(&mut asked.tickets), asked.ticks_all),
            Some(_) => return None,
            None => (Vec::new(), 0),
        };
        let mut tickets = tickets;
        tickets.append(&mut self.waiting);
        if tickets.is_empty() {
            self.asked = None;
            return None;
        }
        self.counter += 1;
        let context: Vec<u8> = [node, now.0, self.counter]
            .iter()
            .flat_map(|part| part.to_le_bytes())
            .collect();
        self.asked = Some(Asked {
            context: context.clone(),
            tickets,
            ticks: 0,
            ticks_all,
        });
        Some(context)
    }

    /// Consensus answered a question.
    pub(crate) fn answered(&mut self, context: &[u8], index: u64) {
        if self.asked.as_ref().is_some_and(|asked| asked.context == context)
            && let Some(asked) = self.asked.take()
        {
            self.known.push_back((index, asked.tickets));
        }
    }

    /// Lets time pass; what has waited for longer than `ticks_max` has failed.
    pub(crate) fn tick<C, E, W>(&mut self, ticks_max: usize, outputs: &mut Vec<Output<C, E, W>>) {
        let Some(asked) = &mut self.asked else { return };
        asked.ticks += 1;
        asked.ticks_all += 1;
        if asked.ticks_all > ticks_max {
            outputs.extend(asked.tickets.drain(..).map(Output::ReadFailed));
            self.asked = None;
        }
    }

    /// None of those that were not asked for yet is served.
    pub(crate) fn refuse_waiting<C, E, W>(&mut self, outputs: &mut Vec<Output<C, E, W>>) {
        outputs.extend(self.waiting.drain(..).map(Output::ReadFailed));
    }

    /// Everything up to `applied` is.
    pub(crate) fn applied<C, E, W>(&mut self, applied: &Applied, outputs: &mut Vec<Output<C, E, W>>) {
        while let Some((index, _)) = self.known.front()
            && *index <= applied.index.0
            && let Some((_, tickets)) = self.known.pop_front()
        {
            let sequence = applied.sequence;
            outputs.extend(tickets.into_iter().map(|ticket| Output::ReadFrom { ticket, sequence }));
        }
    }
}
