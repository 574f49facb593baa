//! How many batches are in progress at once, each of another log.
//!
//! Past what the database has cores for they only slow each other down, and a log that waits for its turn gathers a
//! larger batch meanwhile, which costs less a command. Where commands come one by one from many logs nothing is
//! gathered by waiting: then twice as many are let in, and more of them share a write to disk.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The mean is kept in parts of a command.
const PARTS: u64 = 1_024;
/// A batch counts for so much of the mean.
const WEIGHT: u64 = 32;
/// Batches below this mean are those of single commands, as they come.
const SINGLE: u64 = PARTS + PARTS / 4;

/// Admits batches.
#[derive(Debug)]
pub(super) struct Admission {
    always: Semaphore,
    /// For batches of single commands.
    more: Semaphore,
    /// Commands in a batch, lately.
    mean: AtomicU64,
}

impl Admission {
    /// So many at once, and twice as many of single commands.
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self { always: Semaphore::new(at_once), more: Semaphore::new(at_once), mean: AtomicU64::new(SINGLE) }
    }

    /// Waits for a turn, which lasts until it is dropped. `None` never, as long as the store lives.
    pub async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if !self.are_single() {
            return self.always.acquire().await.ok();
        }
        tokio::select! {
            biased;
            turn = self.always.acquire() => turn.ok(),
            turn = self.more.acquire() => turn.ok(),
        }
    }

    /// Takes the size of a batch into account.
    pub fn took(&self, commands: usize) {
        let commands = u64::try_from(commands).unwrap_or(u64::MAX / PARTS).saturating_mul(PARTS);
        // Two at once may count as one: it is a mean.
        let mean = self.mean.load(Ordering::Relaxed);
        self.mean.store((mean * (WEIGHT - 1)).saturating_add(commands) / WEIGHT, Ordering::Relaxed);
    }

    fn are_single(&self) -> bool {
        self.mean.load(Ordering::Relaxed) < SINGLE
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// How many turns are to be had at once.
    fn at_once(admission: &Admission) -> usize {
        let mut taken = Vec::new();
        while let Some(turn) = admission.take().now_or_never() {
            taken.push(turn.unwrap());
        }
        taken.len()
    }

    #[test]
    fn twice_as_many_are_let_in_while_batches_are_of_single_commands() {
        let admission = Admission::new(3);
        assert_eq!(at_once(&admission), 3);
        (0..40).for_each(|_| admission.took(1));
        assert_eq!(at_once(&admission), 6);
        // One of a burst is no reason, larger ones are.
        admission.took(4);
        assert_eq!(at_once(&admission), 6);
        (0..40).for_each(|_| admission.took(2));
        assert_eq!(at_once(&admission), 3);
        (0..200).for_each(|_| admission.took(1));
        assert_eq!(at_once(&admission), 6);
        admission.took(usize::MAX);
        assert_eq!(at_once(&admission), 3);
    }

    #[tokio::test]
    async fn whoever_waits_is_let_in_when_a_turn_ends() {
        let admission = Admission::new(1);
        (0..40).for_each(|_| admission.took(1));
        let (first, second) = (admission.take().await, admission.take().await);
        let third = admission.take();
        tokio::pin!(third);
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.as_mut().now_or_never().is_some());
        // Back to one: those of before still end in their own time.
        (0..40).for_each(|_| admission.took(9));
        assert!(admission.take().now_or_never().is_none());
        drop(first);
        assert!(admission.take().now_or_never().is_some());
    }
}
