//! The core's own thread: takes what is queued, and lets time pass.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use gateway::handle::NotAccepting;
use gateway::waiting::Waiter;
use replica::Input;
use types::limits::BATCH_COMMANDS_MAX;
use types::{Command, Event, StateMachine};

use super::CoreEnd;
use super::handle::{Message, Shared};
use super::seat::{Seat, Sitting};
use super::state::CoreState;
use crate::journal::Room;

/// How often consensus is told that time passes.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks at the clock's error bound.
const TICKS_PER_CLOCK_REFRESH: u32 = 10;
/// How often a full disk is looked at again while nothing is taken.
const ROOM_AGAIN: Duration = Duration::from_millis(100);

/// Everything that the core's own thread has to itself.
pub(super) struct CoreThread<M: StateMachine> {
    seat: Arc<Seat<CoreState<M>>>,
    queue: Receiver<Message>,
    shared: Arc<Shared>,
    spin: Duration,
    next_tick: Instant,
    ticks: u32,
}

impl<M> CoreThread<M>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    pub(super) fn new(
        seat: Arc<Seat<CoreState<M>>>,
        queue: Receiver<Message>,
        shared: Arc<Shared>,
        spin: Duration,
    ) -> Self {
        Self {
            seat,
            queue,
            shared,
            spin,
            next_tick: Instant::now() + TICK,
            ticks: 0,
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
        while self.wait_for_room(state(&mut sitting)) {
            if self.is_stopping() {
                return Ok(());
            }
        }
        state(&mut sitting).step(Input::Campaign)?;
        let mut commands = Vec::new();
        loop {
            if !self.wait_for_room(state(&mut sitting)) {
                state(&mut sitting).follow_replica();
                let first;
                (first, sitting) = self.wait(&seat, sitting);
                if let Some(end) = state(&mut sitting).ended.take() {
                    if let Some(message) = first {
                        self.refuse(state(&mut sitting), message, end.not_accepting());
                    }
                    return Err(end);
                }
                self.gather(first, &mut commands);
            }
            let state = state(&mut sitting);
            self.shared.pace.begins();
            if !commands.is_empty() {
                state.execute(std::mem::take(&mut commands))?;
            } else if self.is_stopping() && self.queue.is_empty() {
                return state.step(Input::Drain);
            } else if state.deadline_is_due() {
                state.step(Input::Deadline)?;
            }
            self.tick(state)?;
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// True if there is no room for now, after a while of waiting for it. What was sequenced can't be refused any more,
    /// so nothing is sequenced that might have to wait for a full disk; and what is queued meanwhile is refused at once.
    fn wait_for_room(&self, state: &mut CoreState<M>) -> bool {
        let room = state.journal.room();
        let until = self.next_tick.min(Instant::now() + ROOM_AGAIN);
        let why = match room {
            Room::Enough => return false,
            Room::Coming => {
                state.journal.wait_for_room(until);
                return true;
            }
            Room::DiskFull => NotAccepting::DiskFull,
            Room::DiskFailed => NotAccepting::DiskFailed,
        };
        state.set_accepting(Err(why));
        self.refuse_queued(state, why);
        if !self.is_stopping()
            && let Ok(message) = self.queue.recv_deadline(until)
        {
            self.refuse(state, message, why);
        }
        true
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
    fn gather(&self, first: Option<Message>, commands: &mut Vec<(Command, Waiter)>) {
        match first {
            Some(Message::Command(command, waiter)) => commands.push((command, waiter)),
            Some(Message::Wake) | None => return,
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

    /// Waits for the next command, tick or deadline. If it has to, it leaves the seat meanwhile.
    fn wait<'a>(
        &self,
        seat: &'a Seat<CoreState<M>>,
        mut sitting: Sitting<'a, CoreState<M>>,
    ) -> (Option<Message>, Sitting<'a, CoreState<M>>) {
        if let Ok(message) = self.queue.try_recv() {
            return (Some(message), sitting);
        }
        let state = state(&mut sitting);
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
        let message = self.receive(started, until);
        (message, seat.take())
    }

    fn receive(&self, started: Instant, until: Instant) -> Option<Message> {
        let spin_until = until.min(started + self.spin);
        while !self.spin.is_zero() && Instant::now() < spin_until {
            if let Ok(message) = self.queue.try_recv() {
                return Some(message);
            }
            std::hint::spin_loop();
        }
        self.queue.recv_deadline(until).ok()
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
        state.step(Input::Tick)
    }
}

/// What the seat gives the use of, while the core has not ended.
fn state<'a, M: StateMachine>(sitting: &'a mut Sitting<'_, CoreState<M>>) -> &'a mut CoreState<M> {
    sitting
        .as_mut()
        .expect("only the core's own thread takes it away, at its end")
}
