//! What a job may use at most, and what is told where the machine can't keep that.

use airunner_core::Isolation as Level;
use airunner_exec::Measure;
use airunner_proto::job::v1::{Isolation, JobSpec, JobState, ResourceLimits, exit::How};

use crate::{
    bed::{Bed, Report},
    machine::{ISOLATED, at, can_limit},
    trials,
};

trials![
    a_limit_holds_or_is_refused_with_its_reason,
    limits_on_processes_and_on_cpu_time_hold_or_are_refused_with_their_reason,
    best_effort_tells_what_was_left_out,
    best_effort_is_the_workers_to_allow,
    limits_of_each_process_hold,
    more_than_the_machine_has_is_a_failure_that_says_so,
    limits_at_a_worker_without_isolation_are_a_failure_that_says_what_to_do,
];

fn limited(spec: JobSpec, limits: ResourceLimits) -> JobSpec {
    JobSpec { limits: Some(limits), ..spec }
}

fn memory() -> ResourceLimits {
    ResourceLimits { memory_bytes: 64 << 20, ..Default::default() }
}

async fn a_limit_holds_or_is_refused_with_its_reason() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    for level in ISOLATED {
        memory_holds(&bed, level).await;
    }
    worker.stop().await.unwrap();
}

async fn limits_on_processes_and_on_cpu_time_hold_or_are_refused_with_their_reason() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    for level in ISOLATED {
        processes_hold(&bed, level).await;
        cpu_time_holds(&bed, level).await;
    }
    worker.stop().await.unwrap();
}

fn assert_refused(report: &Report, file: &str) {
    assert_eq!((report.state(), report.exit()), (JobState::Failed, None));
    let reason = report.reason();
    assert!(reason.contains(file) && reason.contains("best effort"), "{reason}");
    assert!(report.started.is_empty());
}

pub(crate) async fn memory_holds(bed: &Bed, level: Isolation) {
    let line = "perl -e '$x = 1; $x = \"x\" x 200000000; print 1'; echo survived";
    let job_id = bed.submit(limited(at(level, line), memory())).await;
    let report = bed.watch(&job_id).end().await;
    if !can_limit(Measure::MemoryLimit) {
        return assert_refused(&report, "memory.max");
    }
    assert_eq!((report.exit(), report.text().as_str()), (Some(How::Signal(9)), ""), "{level:?}");
    let usage = bed.job(&job_id).await.usage.unwrap();
    assert!(usage.oom_kills.unwrap() >= 1 && usage.peak_memory_bytes.unwrap() <= 64 << 20);
}

/// Each child tells that it is there, and waits for one that is too many.
pub(crate) async fn processes_hold(bed: &Bed, level: Isolation) {
    let line = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do (echo here; exec sleep 600) & done; echo all";
    let limits = ResourceLimits { processes: 8, ..Default::default() };
    let report = bed.run(limited(at(level, line), limits)).await;
    if !can_limit(Measure::ProcessLimit) {
        return assert_refused(&report, "pids.max");
    }
    let (text, errors) = (report.text(), String::from_utf8_lossy(&report.stderr).into_owned());
    assert!(text.matches("here").count() < 8 && !text.contains("all"), "{level:?}: {text}");
    assert!(errors.to_lowercase().contains("fork"), "{level:?}: {errors}");
}

/// Two seconds of spinning are less than one of CPU time.
pub(crate) async fn cpu_time_holds(bed: &Bed, level: Isolation) {
    let limits = ResourceLimits { cpu_millis: 250, ..Default::default() };
    let spin = "timeout -s KILL 2 sh -c 'while :; do :; done'; echo over";
    let job_id = bed.submit(limited(at(level, spin), limits)).await;
    let report = bed.watch(&job_id).end().await;
    if !can_limit(Measure::CpuLimit) {
        return assert_refused(&report, "cpu.max");
    }
    assert_eq!(report.text(), "over\n", "{level:?}");
    let usage = bed.job(&job_id).await.usage.unwrap();
    let millis = |time: Option<prost_types::Duration>| {
        time.map_or(0, |time| time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000)
    };
    let used = millis(usage.user_time) + millis(usage.system_time);
    assert!((100..1_000).contains(&used), "{level:?}: {used} ms");
}

async fn best_effort_tells_what_was_left_out() {
    let bed = Bed::new().await;
    let worker = bed.worker_with(|options| options.best_effort = true);
    for level in ISOLATED {
        let spec = limited(at(level, "echo ran"), memory());
        let job_id = bed.submit(JobSpec { best_effort: true, ..spec }).await;
        let report = bed.watch(&job_id).end().await;
        assert_eq!(report.text(), "ran\n", "{}", report.reason());
        let left_out = bed.job(&job_id).await.usage.unwrap().left_out;
        let expected =
            if can_limit(Measure::MemoryLimit) { vec![] } else { vec![Measure::MemoryLimit.to_string()] };
        assert_eq!(left_out, expected, "{level:?}");
        let noted = |report: &Report| report.notes.iter().any(|note| note.contains("memory.max"));
        assert_eq!(noted(&report), !expected.is_empty(), "{:?}", report.notes);
    }
    worker.stop().await.unwrap();
}

async fn best_effort_is_the_workers_to_allow() {
    let bed = Bed::new().await;
    let worker = bed.worker_with(|options| options.isolation = Level::Sandbox);
    let spec = JobSpec { best_effort: true, ..limited(at(Isolation::Sandbox, "true"), memory()) };
    let report = bed.run(spec).await;
    if can_limit(Measure::MemoryLimit) {
        assert_eq!(report.state(), JobState::Completed);
    } else {
        assert_eq!(report.state(), JobState::Failed);
        assert!(report.reason().contains("worker.best_effort"), "{}", report.reason());
    }
    worker.stop().await.unwrap();
}

async fn limits_of_each_process_hold() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    for level in ISOLATED {
        let limits = ResourceLimits { open_files: 64, file_size_bytes: 4_096, ..Default::default() };
        let line = "ulimit -n; head -c 100000 /dev/zero >$HOME/file; stat -c %s $HOME/file";
        let report = bed.run(limited(at(level, line), limits)).await;
        assert_eq!(report.text(), "64\n4096\n", "{level:?}");
    }
    worker.stop().await.unwrap();
}

async fn more_than_the_machine_has_is_a_failure_that_says_so() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let limits = ResourceLimits { open_files: 1 << 29, ..Default::default() };
    let report = bed.run(limited(at(Isolation::Limits, "true"), limits)).await;
    assert_eq!(report.state(), JobState::Failed);
    assert!(
        report.reason().contains("open files") && report.reason().contains("between 1 and"),
        "{}",
        report.reason()
    );
    worker.stop().await.unwrap();
}

async fn limits_at_a_worker_without_isolation_are_a_failure_that_says_what_to_do() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let limits = ResourceLimits { open_files: 64, ..Default::default() };
    let report = bed.run(limited(at(Isolation::Unspecified, "true"), limits)).await;
    assert_eq!(report.state(), JobState::Failed);
    assert!(report.reason().contains("ask for the isolation limits or sandbox"), "{}", report.reason());
    worker.stop().await.unwrap();
}
