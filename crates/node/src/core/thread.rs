//! The core's own thread: takes what is queued and what peers say, and lets time pass.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, select};
use gateway::handle::NotAccepting;
use gateway::waiting::Waiter;
use replica::Input;
use types::limits::BATCH_COMMANDS_MAX;
use types::{Command, Event, StateMachine};

use super::CoreEnd;
use super::group::CoreEvent;
use super::handle::{Message, Shared};
use super::region::InRegion;
use super::seat::{Seat, Sitting};
use super::state::CoreState;
use crate::journal::Room;

/// How often consensus is told that time passes.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// Ticks between two looks at the clock's error bound.
const TICKS_PER_CLOCK_REFRESH: u32 = 50;
/// Ticks between two times that others are told how the group is.
const TICKS_PER_STATUS: u32 = 5;
/// How often it is looked whether the next segment's file is there, while peers are heard.
const ROOM_COMES: Duration = Duration::from_millis(1);
/// What peers say that is heard before commands are looked at again.
const EVENTS_PER_TURN: usize = 256;
/// For how long a node on its way down waits for its clients' commands to come to their end, and for another to lead.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// How long a leader that may take no requests itself waits until it offers leadership again: who got it may be no better off.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(10);
/// How often a full disk is looked at again while nothing is taken.
const ROOM_AGAIN: Duration = Duration::from_millis(100);

/// Everything that the core's own thread has to itself.
pub(super) struct CoreThread<M: StateMachine> {
    seat: Arc<Seat<CoreState<M>>>,
    queue: Receiver<Message>,
    events: Receiver<CoreEvent>,
    shared: Arc<Shared>,
    spin: Duration,
    next_tick: Instant,
    ticks: u32,
    /// By when it ends, once it is on its way down.
    leaves_by: Option<Instant>,
    /// When it last offered leadership because its disk is short.
    handed_over_at: Option<Instant>,
}

/// What came first.
enum First {
    Message(Message),
    Event(CoreEvent),
    Nothing,
}

impl<M> CoreThread<M>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    pub(super) fn new(
        seat: Arc<Seat<CoreState<M>>>,
        queue: Receiver<Message>,
        events: Receiver<CoreEvent>,
        shared: Arc<Shared>,
        spin: Duration,
    ) -> Self {
        Self {
            seat,
            queue,
            events,
            shared,
            spin,
            next_tick: Instant::now() + TICK,
            ticks: 0,
            leaves_by: None,
            handed_over_at: None,
        }
    }

    /// Works until it is asked to stop, or can't go on.
    pub(super) fn run(mut self) -> CoreEnd {
        let worked = self.work();
        if let Err(end) = &worked {
            self.shared.set_accepting(Err(end.not_accepting()));
        }
        // What is queued by now was not sequenced, and is told so.
        let why = worked
            .as_ref()
            .err()
            .map_or(NotAccepting::Stopping, CoreEnd::not_accepting);
        let mut state = self.seat.take().take().expect("nobody else takes it away");
        self.refuse_queued(&mut state, why);
        match worked.and_then(|()| Ok(state.close()?)) {
            Ok(()) => CoreEnd::Stopped,
            Err(end) => end,
        }
    }

    fn work(&mut self) -> Result<(), CoreEnd> {
        // It stays in the seat but for the time that it waits.
        let seat = Arc::clone(&self.seat);
        let mut sitting = seat.take();
        // Even the first entry of a term needs room.
        while self.wait_for_room(state(&mut sitting))? {
            if self.is_stopping() {
                return Ok(());
            }
        }
        if !state(&mut sitting).member.decides_with_others() {
            state(&mut sitting).step(Input::Campaign)?;
        }
        state(&mut sitting).tell_status();
        let mut commands = Vec::new();
        loop {
            if !self.wait_for_room(state(&mut sitting))? {
                state(&mut sitting).follow_replica();
                let first;
                (first, sitting) = self.wait(&seat, sitting);
                if let Some(end) = state(&mut sitting).ended.take() {
                    if let First::Message(message) = first {
                        self.refuse(state(&mut sitting), message, end.not_accepting());
                    }
                    return Err(end);
                }
                match first {
                    First::Message(message) => self.gather(message, &mut commands),
                    First::Event(event) => self.hear(event, state(&mut sitting))?,
                    First::Nothing => {}
                }
            }
            let state = state(&mut sitting);
            self.shared.pace.begins();
            if !commands.is_empty() {
                state.execute(std::mem::take(&mut commands))?;
            } else if self.is_stopping() && self.queue.is_empty() && self.may_leave(state)? {
                return state.step(Input::Drain);
            } else if state.deadline_is_due() {
                state.step(Input::Deadline)?;
            } else {
                state.pump()?;
            }
            state.look_after_region()?;
            self.tick(state)?;
        }
    }

    /// Takes what has happened, up to a turn's worth.
    fn hear(&self, first: CoreEvent, state: &mut CoreState<M>) -> Result<(), CoreEnd> {
        state.take_event(first)?;
        for event in self.events.try_iter().take(EVENTS_PER_TURN) {
            state.take_event(event)?;
        }
        Ok(())
    }

    /// On the way down: true once no client waits any more and another leads, or that takes too long. A lone voter waits for
    /// nothing.
    fn may_leave(&mut self, state: &mut CoreState<M>) -> Result<bool, CoreEnd> {
        if !state.member.decides_with_others() {
            return Ok(true);
        }
        let first = self.leaves_by.is_none();
        let by = *self.leaves_by.get_or_insert_with(|| Instant::now() + LEAVE_WITHIN);
        let idle = state.member.is_idle()
            && state.replica.in_flight_count() == 0
            && state.region.as_ref().is_none_or(InRegion::is_idle);
        if Instant::now() >= by || (idle && !state.replica.leads()) {
            return Ok(true);
        }
        if first || (idle && state.replica.accepting().is_ok()) {
            state.step(Input::TransferLeadership { to: None })?;
        }
        Ok(false)
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// True if there is no room for now, after a while of waiting for it. What was sequenced can't be refused any more,
    /// so nothing is sequenced that might have to wait for a full disk; and what is queued meanwhile is refused at once.
    fn wait_for_room(&self, state: &mut CoreState<M>) -> Result<bool, CoreEnd> {
        let room = state.journal.room();
        let until = self.next_tick.min(Instant::now() + ROOM_AGAIN);
        let why = match room {
            Room::Enough => return Ok(false),
            Room::Coming if state.member.decides_with_others() => {
                // Peers are heard meanwhile, or they would take this node for lost.
                let wait = until.saturating_duration_since(Instant::now()).min(ROOM_COMES);
                if let Ok(event) = self.events.recv_timeout(wait) {
                    self.hear(event, state)?;
                }
                return Ok(true);
            }
            Room::Coming => {
                state.journal.wait_for_room(until);
                return Ok(true);
            }
            Room::DiskFull => NotAccepting::DiskFull,
            Room::DiskFailed => NotAccepting::DiskFailed,
        };
        state.set_accepting(Err(why));
        self.refuse_queued(state, why);
        if state.replica.accepting().is_ok() && state.member.decides_with_others() {
            // Others have room, perhaps.
            state.step(Input::TransferLeadership { to: None })?;
        }
        if self.is_stopping() {
            return Ok(true);
        }
        match self.receive(Instant::now(), until, false) {
            First::Message(message) => self.refuse(state, message, why),
            First::Event(event) => self.hear(event, state)?,
            First::Nothing => {}
        }
        Ok(true)
    }

    fn refuse_queued(&self, state: &mut CoreState<M>, why: NotAccepting) {
        while let Ok(message) = self.queue.try_recv() {
            self.refuse(state, message, why);
        }
    }

    fn refuse(&self, state: &mut CoreState<M>, message: Message, why: NotAccepting) {
        if let Message::Command(_, waiter) = message {
            self.seat.uncount_queued(1);
            state.refuse(waiter, why);
        }
    }

    /// Takes all commands that are queued behind the first one, up to a batch.
    fn gather(&self, first: Message, commands: &mut Vec<(Command, Waiter)>) {
        match first {
            Message::Command(command, waiter) => commands.push((command, waiter)),
            Message::Wake => return,
        }
        while commands.len() < BATCH_COMMANDS_MAX {
            match self.queue.try_recv() {
                Ok(Message::Command(command, waiter)) => commands.push((command, waiter)),
                Ok(Message::Wake) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.seat.uncount_queued(commands.len());
    }

    /// Waits for the next command, event, tick or deadline. If it has to, it leaves the seat meanwhile.
    fn wait<'a>(
        &self,
        seat: &'a Seat<CoreState<M>>,
        mut sitting: Sitting<'a, CoreState<M>>,
    ) -> (First, Sitting<'a, CoreState<M>>) {
        let state = state(&mut sitting);
        let held = state.region.as_ref().is_some_and(InRegion::has_too_much);
        let has_enough = held || state.member.has_enough(state.replica.in_flight_count());
        if let Some(first) = self.try_receive(has_enough) {
            return (first, sitting);
        }
        let started = Instant::now();
        let mut until = self.next_tick;
        let now = self.shared.clock.now();
        if let Some(deadline) = state.deadline() {
            until = until.min(started + Duration::from_nanos(deadline.since_ns(now)));
        }
        let wait = until.saturating_duration_since(started);
        state.alarm = now.plus_ns(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        self.shared.pace.ends();
        drop(sitting);
        let first = self.receive(started, until, has_enough);
        (first, seat.take())
    }

    /// What has come. While there is enough to do, commands stay in the queue.
    fn try_receive(&self, has_enough: bool) -> Option<First> {
        if let Ok(event) = self.events.try_recv() {
            return Some(First::Event(event));
        }
        if has_enough {
            return None;
        }
        self.queue.try_recv().ok().map(First::Message)
    }

    fn receive(&self, started: Instant, until: Instant, has_enough: bool) -> First {
        let spin_until = until.min(started + self.spin);
        while !self.spin.is_zero() && Instant::now() < spin_until {
            if let Some(first) = self.try_receive(has_enough) {
                return first;
            }
            std::hint::spin_loop();
        }
        let wait = until.saturating_duration_since(Instant::now());
        if has_enough {
            return self.events.recv_timeout(wait).map_or(First::Nothing, First::Event);
        }
        select! {
            recv(self.events) -> came => came.map_or(First::Nothing, First::Event),
            recv(self.queue) -> came => came.map_or(First::Nothing, First::Message),
            default(wait) => First::Nothing,
        }
    }

    fn tick(&mut self, state: &mut CoreState<M>) -> Result<(), CoreEnd> {
        if Instant::now() < self.next_tick {
            return Ok(());
        }
        self.next_tick = Instant::now() + TICK;
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_CLOCK_REFRESH) {
            self.shared.clock.refresh();
            state.observe();
        }
        state.step(Input::Tick)?;
        state.group_tick()?;
        state.region_tick()?;
        self.hand_over_if_short_of_disk(state)?;
        if self.ticks.is_multiple_of(TICKS_PER_STATUS) {
            state.tell_status();
            state.tell_region();
        }
        Ok(())
    }
}

impl<M> CoreThread<M>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    /// A node whose disk is short takes no requests of its own clients; it should not sequence those of the others' either,
    /// as long as another voter can.
    fn hand_over_if_short_of_disk(&mut self, state: &mut CoreState<M>) -> Result<(), CoreEnd> {
        let is_short = self.shared.blocked() == Err(NotAccepting::DiskFull);
        if !is_short || !state.replica.leads() || !state.member.decides_with_others() {
            return Ok(());
        }
        let waits = |at: Instant| at.elapsed() < HAND_OVER_AGAIN;
        if self.handed_over_at.is_some_and(waits) {
            return Ok(());
        }
        self.handed_over_at = Some(Instant::now());
        tracing::warn!("the disk is short: another voter is to lead");
        state.step(Input::TransferLeadership { to: None })
    }
}

/// What the seat gives the use of, while the core has not ended.
fn state<'a, M: StateMachine>(sitting: &'a mut Sitting<'_, CoreState<M>>) -> &'a mut CoreState<M> {
    sitting
        .as_mut()
        .expect("only the core's own thread takes it away, at its end")
}
