//! What an object's name says: whose output it holds, from where to where. Keys sort as the output runs.
//!
//! | key | what |
//! |---|---|
//! | `output/JOB/ATTEMPT-FIRST-LAST.batch` | one append |
//! | `output/JOB/ATTEMPT-FIRST-LAST.segment` | what was merged |
//! | `output/JOB/lost-ATTEMPT-N` | output up to and including this place is gone |

use airunner_core::{JobId, Sequence};

/// Bits of a sequence that are not the attempt.
const BITS: u32 = 40;

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One append.
    Batch,
    /// What was merged out of several.
    Segment,
}

/// An object with output of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    pub(super) kind: Kind,
    pub(super) size: u64,
}

/// What there is of a job, in order: by the first place, and the longer before the shorter.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    pub(super) objects: Vec<Object>,
    /// Every marker of lost output; the greatest counts.
    pub(super) lost: Vec<Sequence>,
}

impl Object {
    pub(super) fn key(&self, job: JobId) -> String {
        let suffix = match self.kind {
            Kind::Batch => "batch",
            Kind::Segment => "segment",
        };
        let (attempt, first, last) = (self.first.attempt(), self.first.n(), self.last.n());
        format!("{}{attempt:010}-{first:013}-{last:013}.{suffix}", prefix(job))
    }
}

impl Listing {
    /// Takes in a key with its size. What is no name of ours is let be.
    pub(super) fn take(&mut self, job: JobId, key: &str, size: u64) {
        let Some(name) = key.strip_prefix(&prefix(job)) else { return };
        if let Some(place) = name.strip_prefix("lost-") {
            self.lost.extend(place.split_once('-').and_then(|(attempt, n)| sequence(attempt, n)));
            return;
        }
        let read = || {
            let (places, suffix) = name.split_once('.')?;
            let kind = match suffix {
                "batch" => Kind::Batch,
                "segment" => Kind::Segment,
                _ => return None,
            };
            let (attempt, range) = places.split_once('-')?;
            let (first, last) = range.split_once('-')?;
            Some(Object { first: sequence(attempt, first)?, last: sequence(attempt, last)?, kind, size })
        };
        self.objects.extend(read());
    }

    pub(super) fn sort(&mut self) {
        self.objects.sort_by_key(|object| (object.first, std::cmp::Reverse(object.last)));
    }

    pub(super) fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }

    /// Up to where output is gone, if some is.
    pub(super) fn lost_until(&self) -> Option<Sequence> {
        self.lost.iter().max().copied()
    }

    /// The last place of the attempt that was kept, even if it is gone since.
    pub(super) fn last_of(&self, attempt: u32) -> Option<Sequence> {
        let of_attempt = self.objects.iter().filter(|object| object.first.attempt() == attempt);
        let kept = of_attempt.map(|object| object.last).max();
        kept.or(self.lost_until().filter(|lost| lost.attempt() == attempt))
    }
}

/// What every key of output begins with.
pub(super) const ALL: &str = "output/";

/// What every key of the job begins with.
pub(super) fn prefix(job: JobId) -> String {
    format!("{ALL}{job}/")
}

/// Whose output an object of this key is; none where it is no output.
pub(super) fn job_of(key: &str) -> Option<JobId> {
    let (job, _) = key.strip_prefix(ALL)?.split_once('/')?;
    job.parse().ok()
}

/// What sorts after every key of the job, and before those of the next.
pub(super) fn after_job(job: JobId) -> String {
    format!("{}~", prefix(job))
}

/// What sorts before every key of the attempt, and after those of the attempts before it.
pub(super) fn before_attempt(job: JobId, attempt: u32) -> String {
    format!("{}{attempt:010}", prefix(job))
}

pub(super) fn lost_key(job: JobId, lost: Sequence) -> String {
    format!("{}lost-{:010}-{:013}", prefix(job), lost.attempt(), lost.n())
}

fn sequence(attempt: &str, n: &str) -> Option<Sequence> {
    let (attempt, n): (u32, u64) = (attempt.parse().ok()?, n.parse().ok()?);
    (n < 1 << BITS).then(|| Sequence::from_u64((u64::from(attempt) << BITS) | n))
}

#[cfg(test)]
mod tests {
    use airunner_core::Timestamp;
    use airunner_testkit::random::SeededRandom;

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_sort_as_the_output_runs() {
        let job = JobId::new(Timestamp::from_millis(1), &SeededRandom::new(1));
        let object = |attempt, first, last, kind| Object {
            first: Sequence::new(attempt, first),
            last: Sequence::new(attempt, last),
            kind,
            size: 7,
        };
        let objects = [
            object(1, 1, 9, Kind::Batch),
            object(1, 10, 400, Kind::Segment),
            object(2, 1, 1, Kind::Batch),
            object(11, 3, Sequence::MAX_N, Kind::Batch),
        ];
        let keys: Vec<_> = objects.iter().map(|object| object.key(job)).collect();
        assert!(keys.is_sorted());
        assert!(keys[1].as_str() < before_attempt(job, 2).as_str() && before_attempt(job, 2) < keys[2]);
        let lost = lost_key(job, Sequence::end_of(3));
        assert!(keys[3] < lost && lost < after_job(job));
        assert!(keys.iter().chain([&lost]).all(|key| job_of(key) == Some(job)));
        assert_eq!(job_of("output/README"), None);
        let mut listing = Listing::default();
        for key in keys.iter().chain([&lost, &format!("{}note.txt", prefix(job))]) {
            listing.take(job, key, 7);
        }
        assert_eq!(listing.objects, objects);
        assert_eq!(listing.lost_until(), Some(Sequence::end_of(3)));
        assert_eq!(listing.last_of(2), Some(Sequence::new(2, 1)));
        assert_eq!(listing.last_of(3), Some(Sequence::end_of(3)));
    }
}
