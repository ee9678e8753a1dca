//! Which processors threads run on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// True if this process may use a processor. Where the system doesn't say, any may be.
pub fn may_be_used(processor: usize) -> bool {
    processor < CpuSet::MAX_CPU && sched_getaffinity(None).map_or(true, |allowed| allowed.is_set(processor))
}

/// Lets the calling thread run on these processors only; on any, if there are none.
pub fn pin_to(processors: &[usize]) {
    if processors.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(*processor);
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(?processors, %error, "a thread could not be bound to its processors");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_put() {
        let allowed = sched_getaffinity(None).unwrap();
        let processor = (0..CpuSet::MAX_CPU)
            .find(|processor| allowed.is_set(*processor))
            .unwrap();
        assert!(may_be_used(processor) && !may_be_used(CpuSet::MAX_CPU));
        std::thread::spawn(move || {
            pin_to(&[]);
            assert_eq!(sched_getaffinity(None).unwrap(), allowed);
            pin_to(&[processor]);
            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        })
        .join()
        .unwrap();
    }
}
