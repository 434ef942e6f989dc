//! A bounded queue between async callers and the threads that serve SQLite. Pushing never blocks; popping does.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    limit: usize,
}

struct State<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

/// Why a queue took nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(limit: usize) -> Self {
        let state = State { items: VecDeque::new(), is_closed: false };
        Self { state: Mutex::new(state), ready: Condvar::new(), limit }
    }

    pub(super) fn push(&self, item: T) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Refusal::Closed);
        }
        if state.items.len() >= self.limit {
            return Err(Refusal::Full);
        }
        state.items.push_back(item);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits for an item. None when the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        self.wait().items.pop_front()
    }

    /// Waits for an item and takes all there are. Empty when the queue is closed and empty.
    pub(super) fn pop_all(&self) -> VecDeque<T> {
        std::mem::take(&mut self.wait().items)
    }

    /// Takes nothing more. What waits is still served.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.ready.notify_all();
    }

    fn wait(&self) -> MutexGuard<'_, State<T>> {
        let idle = |state: &mut State<T>| state.items.is_empty() && !state.is_closed;
        self.ready.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_loses_nothing() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push(2), Ok(()));
        assert_eq!(queue.push(3), Err(Refusal::Full));
        assert_eq!(queue.pop_all(), [1, 2]);
    }

    #[test]
    fn a_closed_queue_is_emptied_and_then_over() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1), Ok(()));
        queue.close();
        assert_eq!(queue.push(2), Err(Refusal::Closed));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.pop(), None);
        assert!(queue.pop_all().is_empty());
    }
}
