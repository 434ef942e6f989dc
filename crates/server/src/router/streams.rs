//! How many streams a principal may hold open on this server, over all its connections.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use airunner_core::{Error, Label, PrincipalId, Result};

/// The open streams of every principal.
#[derive(Clone)]
pub struct Streams(Arc<Shared>);

struct Shared {
    most: usize,
    open: Mutex<HashMap<PrincipalId, usize>>,
}

impl Streams {
    /// None open, and `most` of a principal at a time.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most, open: Mutex::default() }))
    }

    /// Counts a stream of this principal until it is dropped.
    ///
    /// # Errors
    /// `limit-reached`.
    pub(super) fn begin(&self, principal: &PrincipalId) -> Result<OpenStream> {
        let mut open = self.0.open();
        let count = open.entry(principal.clone()).or_insert(0);
        if *count >= self.0.most {
            let most = self.0.most;
            return Err(Error::new(
                Label::LimitReached,
                format!(
                    "your principal has {most} streams open on this server, and may have no more: end one"
                ),
            ));
        }
        *count += 1;
        drop(open);
        Ok(OpenStream { streams: self.clone(), principal: principal.clone() })
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<PrincipalId, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream.
pub(super) struct OpenStream {
    streams: Streams,
    principal: PrincipalId,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.streams.0.open().entry(self.principal.clone()) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_its_own_number_and_an_ended_stream_makes_place() {
        let streams = Streams::new(2);
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let first = streams.begin(&one).ok().unwrap();
        let second = streams.begin(&one).ok().unwrap();
        assert_eq!(streams.begin(&one).err().map(|error| error.label()), Some(Label::LimitReached));
        let others = streams.begin(&other).ok().unwrap();
        drop(first);
        let third = streams.begin(&one).ok().unwrap();
        drop((second, third, others));
        assert!(streams.0.open().is_empty(), "who has none open is forgotten");
    }
}
