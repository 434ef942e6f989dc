//! What was published last to a job: a stretch of events without a gap, which lies in the store too. Events are numbered
//! one after the other, so that between two neighbours nothing can be that is not known here.

use std::collections::VecDeque;

use airunner_core::Sequence;

use crate::event::PublishedEvent;

/// Bytes of output of a stretch at most: several batches.
const MOST_BYTES: usize = 1024 * 1024;
/// Events of a stretch at most.
const MOST_EVENTS: usize = 1_024;

/// The stretch.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    events: VecDeque<PublishedEvent>,
    bytes: usize,
}

/// What comes after a place.
#[derive(Debug)]
pub(crate) enum Since {
    /// These, in order, and maybe more than is known here.
    Events(Vec<PublishedEvent>),
    /// Nothing: the place is that of the last event.
    Nothing,
    /// It is not known here.
    Unknown,
}

impl Recent {
    /// Adds events that follow, in order; where something lies between, the stretch begins anew. What is there already is
    /// left out.
    pub(crate) fn add(&mut self, events: Vec<PublishedEvent>) {
        for event in events {
            match self.events.back().map(PublishedEvent::sequence) {
                Some(last) if event.sequence() <= last => continue,
                Some(last) if !follows(last, event.sequence()) => *self = Self::default(),
                _ => {}
            }
            self.bytes += event.len();
            self.events.push_back(event);
        }
        while (self.bytes > MOST_BYTES || self.events.len() > MOST_EVENTS) && self.events.len() > 1 {
            let oldest = self.events.pop_front().map_or(0, |event| event.len());
            self.bytes -= oldest;
        }
    }

    /// What comes right after `after`.
    pub(crate) fn since(&self, after: Sequence) -> Since {
        if self.events.back().is_some_and(|last| last.sequence() == after) {
            return Since::Nothing;
        }
        let start = self.events.partition_point(|event| event.sequence() <= after);
        match self.events.get(start) {
            Some(next) if follows(after, next.sequence()) => {
                Since::Events(self.events.range(start..).cloned().collect())
            }
            _ => Since::Unknown,
        }
    }
}

/// Whether nothing can be between the two.
fn follows(one: Sequence, next: Sequence) -> bool {
    one.as_u64().checked_add(1) == Some(next.as_u64())
}

#[cfg(test)]
mod tests {
    use airunner_core::{OutputChunk, OutputStream, Timestamp};

    use super::*;

    fn printed(attempt: u32, n: u64, bytes: usize) -> PublishedEvent {
        PublishedEvent::Output(OutputChunk {
            sequence: Sequence::new(attempt, n),
            at: Timestamp::default(),
            stream: OutputStream::Stdout,
            bytes: vec![0; bytes].into(),
        })
    }

    fn since(recent: &Recent, attempt: u32, n: u64) -> Option<Vec<u64>> {
        match recent.since(Sequence::new(attempt, n)) {
            Since::Events(events) => Some(events.iter().map(|event| event.sequence().n()).collect()),
            Since::Nothing => Some(Vec::new()),
            Since::Unknown => None,
        }
    }

    #[test]
    fn what_follows_a_place_is_known_from_the_stretch_on() {
        let mut recent = Recent::default();
        assert_eq!(since(&recent, 1, 0), None);
        recent.add((4..=6).map(|n| printed(1, n, 10)).collect());
        assert_eq!(since(&recent, 1, 3), Some(vec![4, 5, 6]));
        assert_eq!(since(&recent, 1, 5), Some(vec![6]));
        assert_eq!(since(&recent, 1, 6), Some(vec![]));
        for unknown in [0, 2, 7, 100] {
            assert_eq!(since(&recent, 1, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_batch_that_comes_again_is_there_once_and_a_gap_begins_anew() {
        let mut recent = Recent::default();
        recent.add(vec![printed(1, 1, 10), printed(1, 2, 10)]);
        recent.add(vec![printed(1, 1, 10), printed(1, 2, 10), printed(1, 3, 10)]);
        assert_eq!(since(&recent, 1, 0), Some(vec![1, 2, 3]));
        // Another server took what lies between.
        recent.add(vec![printed(1, 8, 10), printed(1, 9, 10)]);
        assert_eq!(since(&recent, 1, 3), None);
        assert_eq!(since(&recent, 1, 7), Some(vec![8, 9]));
        // The end of the attempt lies between.
        recent.add(vec![printed(2, 1, 10)]);
        assert_eq!(since(&recent, 1, 9), None);
        assert_eq!(since(&recent, 2, 0), Some(vec![1]));
        assert_eq!(since(&recent, 1, Sequence::MAX_N), None);
    }

    #[test]
    fn a_stretch_stays_within_its_bounds_and_keeps_the_newest() {
        let mut recent = Recent::default();
        for n in 1..=100 {
            recent.add(vec![printed(1, n, 64 * 1024)]);
        }
        assert!(recent.bytes <= MOST_BYTES);
        assert_eq!(since(&recent, 1, 99), Some(vec![100]));
        assert_eq!(since(&recent, 1, 1), None);
        recent.add((101..=5_000).map(|n| printed(1, n, 1)).collect());
        assert!(recent.events.len() <= MOST_EVENTS);
        recent.add(vec![printed(1, 5_001, 2 * MOST_BYTES)]);
        assert_eq!(since(&recent, 1, 5_000), Some(vec![5_001]));
    }
}
