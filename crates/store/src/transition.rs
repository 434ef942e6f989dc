//! How a job moves from state to state. Pure: what is written of it is the intents' business.

use airunner_core::{
    AttemptOutcome, Cancellation, ControlEvent, EventKind, Exit, Job, JobState, Lease, LeaseRequest,
    Sequence, Timestamp, Usage,
};

/// The job as whoever asks gets it, under a new lease.
pub(crate) fn begin_attempt(job: &Job, request: &LeaseRequest) -> Job {
    let LeaseRequest { holder, worker, deadline, .. } = request;
    Job {
        state: JobState::Running,
        attempt: job.attempt + 1,
        lease: Some(Lease { holder: holder.clone(), worker: *worker, deadline: *deadline }),
        process_id: None,
        exit: None,
        usage: None,
        ..job.clone()
    }
}

/// The job after its attempt ended like this, having used that: over, or waiting again.
pub(crate) fn end_attempt(job: &Job, outcome: &AttemptOutcome, usage: Option<Usage>, now: Timestamp) -> Job {
    let (exit, reason) = (exit_of(outcome), reason_of(outcome));
    let mut job = Job { lease: None, exit, reason, usage, certificates: Vec::new(), ..job.clone() };
    if *outcome == AttemptOutcome::HandedBack {
        job.handed_back += 1;
    }
    job.state = next_state(&job, outcome);
    if job.state.has_ended() {
        job.finished_at = Some(now);
    }
    if job.state == JobState::Failed && is_used_up(outcome) {
        let attempts = job.attempt.saturating_sub(job.handed_back);
        job.reason = format!("{} (attempt {attempts} of {})", job.reason, job.spec.max_attempts);
    }
    // A job whose own attempt failed waits behind the others; one that lost its worker keeps its place.
    if job.state == JobState::Scheduled && is_own_failure(outcome) {
        let attempts = job.attempt.saturating_sub(job.handed_back);
        job.visible_at = job.visible_at.max(now.plus(job.spec.backoff(attempts)));
        job.rank = None;
    }
    job
}

/// The job, stopped before anyone took it.
pub(crate) fn cancel_waiting(job: &Job, cancellation: Cancellation) -> Job {
    Job {
        state: JobState::Cancelled,
        finished_at: Some(cancellation.at),
        cancellation: Some(cancellation),
        ..job.clone()
    }
}

/// The event that goes with the end of an attempt; `job` is as it is after it.
pub(crate) fn end_event(job: &Job, outcome: AttemptOutcome, now: Timestamp) -> ControlEvent {
    ControlEvent {
        sequence: Sequence::end_of(job.attempt),
        at: now,
        kind: EventKind::AttemptEnded { outcome, last: job.state.has_ended() },
    }
}

fn next_state(job: &Job, outcome: &AttemptOutcome) -> JobState {
    match outcome {
        AttemptOutcome::Exited(Exit::Code(0)) => JobState::Completed,
        AttemptOutcome::Exited(_) if !job.spec.retry_on_exit => JobState::Completed,
        AttemptOutcome::Cancelled(_) => JobState::Cancelled,
        AttemptOutcome::TimedOut(_) => JobState::TimedOut,
        // From here on the job would run again, but for a request to stop it.
        _ if job.cancellation.is_some() => JobState::Cancelled,
        AttemptOutcome::HandedBack => JobState::Scheduled,
        AttemptOutcome::Exited(_)
        | AttemptOutcome::Failed(_)
        | AttemptOutcome::LeaseExpired
        | AttemptOutcome::HolderDenied => {
            if job.may_retry() {
                JobState::Scheduled
            } else {
                JobState::Failed
            }
        }
    }
}

fn exit_of(outcome: &AttemptOutcome) -> Option<Exit> {
    match outcome {
        AttemptOutcome::Exited(exit) => Some(*exit),
        AttemptOutcome::Cancelled(exit) | AttemptOutcome::TimedOut(exit) => *exit,
        AttemptOutcome::Failed(_)
        | AttemptOutcome::HandedBack
        | AttemptOutcome::LeaseExpired
        | AttemptOutcome::HolderDenied => None,
    }
}

fn reason_of(outcome: &AttemptOutcome) -> String {
    match outcome {
        AttemptOutcome::Failed(reason) => reason.clone(),
        AttemptOutcome::LeaseExpired => "the worker's lease ran out".to_owned(),
        AttemptOutcome::HolderDenied => "the worker was suspended or revoked".to_owned(),
        AttemptOutcome::Exited(_)
        | AttemptOutcome::Cancelled(_)
        | AttemptOutcome::TimedOut(_)
        | AttemptOutcome::HandedBack => String::new(),
    }
}

/// Whether a failure needs saying that it was the last of several attempts.
fn is_used_up(outcome: &AttemptOutcome) -> bool {
    matches!(outcome, AttemptOutcome::LeaseExpired | AttemptOutcome::HolderDenied | AttemptOutcome::Failed(_))
}

fn is_own_failure(outcome: &AttemptOutcome) -> bool {
    matches!(outcome, AttemptOutcome::Failed(_) | AttemptOutcome::Exited(_))
}

#[cfg(test)]
mod tests {
    use airunner_core::{Labels, QueueOrder};
    use airunner_testkit::{
        clock::FakeClock,
        random::SeededRandom,
        records::{self, JobExt as _},
    };

    use super::*;

    const NOW: Timestamp = FakeClock::START;

    /// A job on the first of three attempts.
    fn running() -> Job {
        leased(&records::job("alice", NOW, &SeededRandom::new(1)))
    }

    fn leased(job: &Job) -> Job {
        let (holder, now, deadline) = (records::id("w1"), NOW, NOW);
        let request = LeaseRequest {
            queues: Vec::new(),
            order: QueueOrder::Strict,
            turn: 0,
            labels: Labels::new(),
            holder,
            worker: None,
            max: 1,
            now,
            deadline,
        };
        begin_attempt(job, &request)
    }

    fn after(job: &Job, outcome: &AttemptOutcome) -> JobState {
        end_attempt(job, outcome, None, NOW).state
    }

    #[test]
    fn a_command_that_exits_is_completed_whatever_its_code() {
        assert_eq!(after(&running(), &AttemptOutcome::Exited(Exit::Code(0))), JobState::Completed);
        let failed = end_attempt(&running(), &AttemptOutcome::Exited(Exit::Code(7)), None, NOW);
        assert_eq!(failed.state, JobState::Completed);
        assert_eq!(failed.exit, Some(Exit::Code(7)));
        assert_eq!(after(&running(), &AttemptOutcome::Exited(Exit::Signal(9))), JobState::Completed);
    }

    #[test]
    fn an_exit_is_retried_only_where_the_job_asks_for_it_and_attempts_are_left() {
        let asks = running().with(|spec| spec.retry_on_exit = true);
        let exit = AttemptOutcome::Exited(Exit::Code(7));
        assert_eq!(after(&asks, &exit), JobState::Scheduled);
        assert_eq!(after(&Job { attempt: 3, ..asks.clone() }, &exit), JobState::Failed);
        assert_eq!(after(&asks, &AttemptOutcome::Exited(Exit::Code(0))), JobState::Completed);
    }

    #[test]
    fn a_lost_lease_is_tried_again_until_the_attempts_are_used_up() {
        for outcome in [AttemptOutcome::LeaseExpired, AttemptOutcome::HolderDenied] {
            assert_eq!(after(&running(), &outcome), JobState::Scheduled);
            let failed = end_attempt(&Job { attempt: 3, ..running() }, &outcome, None, NOW);
            assert_eq!(failed.state, JobState::Failed);
            assert!(failed.reason.contains("attempt 3 of 3"), "{}", failed.reason);
        }
    }

    #[test]
    fn handing_back_costs_no_attempt() {
        let mut job = running();
        for _ in 0..10 {
            job = end_attempt(&job, &AttemptOutcome::HandedBack, None, NOW);
            assert_eq!(job.state, JobState::Scheduled);
            job = leased(&job);
        }
        assert_eq!((job.attempt, job.handed_back), (11, 10));
        assert!(job.may_retry());
    }

    #[test]
    fn what_someone_asked_to_stop_does_not_run_again() {
        let cancellation =
            Cancellation { at: NOW, signal: 15, grace: std::time::Duration::ZERO, by: "alice".to_owned() };
        let asked =
            Job { cancellation: Some(cancellation), ..running().with(|spec| spec.retry_on_exit = true) };
        for outcome in [
            AttemptOutcome::LeaseExpired,
            AttemptOutcome::HolderDenied,
            AttemptOutcome::HandedBack,
            AttemptOutcome::Failed("no such repository".to_owned()),
            AttemptOutcome::Exited(Exit::Code(1)),
            AttemptOutcome::Cancelled(Some(Exit::Signal(15))),
        ] {
            assert_eq!(after(&asked, &outcome), JobState::Cancelled, "{outcome:?}");
        }
        assert_eq!(after(&asked, &AttemptOutcome::Exited(Exit::Code(0))), JobState::Completed);
    }

    #[test]
    fn a_failed_attempt_waits_behind_others_and_a_lost_one_keeps_its_place() {
        let later = NOW.plus(std::time::Duration::from_mins(1));
        let failed = end_attempt(&running(), &AttemptOutcome::Failed("no".to_owned()), None, later);
        assert_eq!(failed.visible_at, later);
        assert_eq!(end_attempt(&running(), &AttemptOutcome::LeaseExpired, None, later).visible_at, NOW);
    }
}
