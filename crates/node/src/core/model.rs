//! The seat in every order of events in which two threads that bring commands and the core's own can meet.

use std::collections::BTreeMap;

use loom::sync::{Arc, mpsc};

mod sync {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;
}
#[expect(clippy::duplicate_mod, reason = "the very same code, made of the model's primitives")]
#[path = "seat.rs"]
mod seat;

use seat::Seat;

/// How often the model takes the processor from a thread that could go on.
const PREEMPTIONS_MAX: usize = 3;

type Executed = Vec<(char, u32)>;

/// What `CoreHandle::hand_over` does: run it here, or queue it.
fn submit(seat: &Seat<Executed>, queue: &mpsc::Sender<Option<(char, u32)>>, command: (char, u32)) {
    if let Some(mut sitting) = seat.take_if_idle() {
        sitting.as_mut().unwrap().push(command);
        return;
    }
    assert!(seat.count_queued(10));
    queue.send(Some(command)).unwrap();
}

/// What the core's own thread does, until as many have said that they bring nothing more.
fn core(seat: &Seat<Executed>, queue: &mpsc::Receiver<Option<(char, u32)>>, mut bringers: u32) {
    while bringers > 0 {
        let Some(command) = queue.recv().unwrap() else {
            bringers -= 1;
            continue;
        };
        let mut sitting = seat.take();
        sitting.as_mut().unwrap().push(command);
        seat.uncount_queued(1);
    }
}

#[test]
fn every_command_is_run_once_and_none_overtakes_an_earlier_one_of_its_bringer() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(|| {
        let seat = Arc::new(Seat::new(Some(Executed::new())));
        let (sender, queue) = mpsc::channel();
        let bring = |name: char, count: u32| {
            let (seat, sender) = (Arc::clone(&seat), sender.clone());
            loom::thread::spawn(move || {
                for number in 0..count {
                    submit(&seat, &sender, (name, number));
                }
                sender.send(None).unwrap();
            })
        };
        let bringers = [bring('a', 2), bring('b', 1)];
        core(&seat, &queue, 2);
        for bringer in bringers {
            bringer.join().unwrap();
        }
        let executed = seat.take().take().unwrap();
        let mut by_bringer: BTreeMap<char, Vec<u32>> = BTreeMap::new();
        for (name, number) in executed {
            by_bringer.entry(name).or_default().push(number);
        }
        assert_eq!(by_bringer, BTreeMap::from([('a', vec![0, 1]), ('b', vec![0])]));
        assert_eq!(seat.queued(), 0);
    });
}
