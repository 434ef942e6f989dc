//! What a job may use at most. Where the host has no controller, its limit is refused by name.

use std::fs;
use std::os::unix::fs::MetadataExt;

use airunner_exec::{Exit, IoLimit, Isolation, Job, Limits, Measure, SpawnError, Usage};

use crate::bench::{bounded, run, shell, spawn, stdout_of};
use crate::cell::{ISOLATED, at, cgroup_of, cgroups, has_controller, limited, sandboxed};
use crate::trials;

trials![
    a_limit_without_its_controller_is_refused_or_left_out_by_name,
    cpu_time_is_limited_and_counted,
    memory_is_limited_and_the_whole_job_ends_with_it,
    processes_are_limited,
    a_block_device_is_limited_and_counted,
    limits_of_each_process_need_no_controller,
    a_job_is_born_in_its_cgroup,
    what_was_used_is_told_of_the_whole_tree,
];

fn of(limit: &str) -> (Limits, Measure) {
    match limit {
        "cpu" => (Limits::new().cpus(0.5), Measure::CpuLimit),
        "memory" => (Limits::new().memory(64 << 20), Measure::MemoryLimit),
        "pids" => (Limits::new().processes(16), Measure::ProcessLimit),
        _ => (
            Limits::new().io(IoLimit { device: disk(), write_bytes: Some(4 << 20), ..IoLimit::default() }),
            Measure::IoLimit,
        ),
    }
}

/// Any whole disk of this machine.
fn disk() -> (u32, u32) {
    let mut named =
        fs::read_dir("/sys/block").unwrap().filter_map(Result::ok).map(|entry| entry.path().join("dev"));
    let number = named.find_map(|path| fs::read_to_string(path).ok()).expect("a block device");
    let (major, minor) = number.trim().split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

async fn a_limit_without_its_controller_is_refused_or_left_out_by_name() {
    for name in ["cpu", "memory", "pids", "io"] {
        let (limits, wanted) = of(name);
        let spec = || limited(shell("exit 3")).limits(limits.clone());
        if has_controller(name) {
            let (job, _) = spawn(spec()).await;
            assert_eq!((job.left_out(), bounded(job.wait()).await.exit), (&[][..], Exit::Code(3)));
            continue;
        }
        match Job::spawn(spec()).await {
            Err(SpawnError::Unavailable { measure, .. }) => assert_eq!(measure, wanted),
            other => panic!("{name}: {other:?}"),
        }
        let (job, _) = spawn(spec().best_effort()).await;
        assert_eq!((job.left_out(), bounded(job.wait()).await.exit), (&[wanted][..], Exit::Code(3)));
    }
}

async fn cpu_time_is_limited_and_counted() {
    if !has_controller("cpu") {
        return refused("cpu").await;
    }
    // Ten periods' worth at a tenth of a CPU.
    let spin = "while :; do :; done";
    let (job, _output) = spawn(limited(shell(spin)).limits(Limits::new().cpus(0.1))).await;
    let stat = cgroup_of(job.id()).join("cpu.stat");
    crate::bench::until("it was held back", || {
        let text = fs::read_to_string(&stat).unwrap();
        let throttled = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
        throttled.parse::<u32>().unwrap() >= 5
    })
    .await;
    let completion = bounded(job.stop(airunner_exec::Signal::Kill, std::time::Duration::ZERO)).await;
    let usage: Usage = completion.usage.unwrap();
    assert!(!(usage.user + usage.system).is_zero());
}

async fn refused(limit: &str) {
    let spec = limited(shell("exit 3")).limits(of(limit).0);
    assert!(matches!(Job::spawn(spec).await, Err(SpawnError::Unavailable { .. })));
}

async fn memory_is_limited_and_the_whole_job_ends_with_it() {
    if !has_controller("memory") {
        return refused("memory").await;
    }
    for level in ISOLATED {
        let script = "sleep 600 & perl -e '$x = 1; $x = \"x\" x 200000000; print 1'; echo survived";
        let (completion, stdout, _) =
            run(at(level, shell(script)).limits(Limits::new().memory(48 << 20))).await;
        assert_eq!((completion.exit, stdout.len()), (Exit::Signal(9), 0), "{level:?}");
        assert!(completion.usage.unwrap().oom_kills.unwrap() >= 1);
    }
    // One that fits is not touched, and its peak is known.
    let script = "exec perl -e '$x = \"x\" x 10000000; print length $x'";
    let (completion, stdout, _) = run(limited(shell(script)).limits(Limits::new().memory(64 << 20))).await;
    assert_eq!((completion.exit, stdout.as_slice()), (Exit::Code(0), &b"10000000"[..]));
    let usage = completion.usage.unwrap();
    assert_eq!(usage.oom_kills, Some(0));
    assert!(usage.peak_memory.unwrap() >= 10_000_000, "{usage:?}");
    // Files in memory are memory.
    let fill = "head -c 100000000 /dev/zero >/tmp/x; echo survived";
    let spec = sandboxed(shell(fill)).limits(Limits::new().memory(32 << 20));
    let spec = spec.sandbox(airunner_exec::Sandbox::new().tmp_size(100 << 20));
    assert_eq!(run(spec).await.0.exit, Exit::Signal(9));
}

async fn processes_are_limited() {
    if !has_controller("pids") {
        return refused("pids").await;
    }
    for level in ISOLATED {
        let script = "i=0; while [ $i -lt 40 ]; do sleep 600 & i=$((i + 1)); done; echo all";
        let (completion, stdout, stderr) =
            run(at(level, shell(script)).limits(Limits::new().processes(16))).await;
        assert_ne!(completion.exit, Exit::Code(0), "{level:?}");
        assert!(stdout.is_empty() && !stderr.is_empty());
        assert!(completion.usage.unwrap().peak_processes.is_none_or(|peak| peak == 16));
    }
}

const MIB: u64 = 1 << 20;

async fn a_block_device_is_limited_and_counted() {
    if !has_controller("io") {
        return refused("io").await;
    }
    let disk = std::env::var("AIRUNNER_TEST_DISK").expect("a disk that may be overwritten");
    let number = fs::metadata(&disk).unwrap().rdev();
    let device = (rustix::fs::major(number), rustix::fs::minor(number));
    let write = format!("dd if=/dev/zero of={disk} bs=256k count=16 oflag=direct 2>&1; exit 5");
    let spec = shell(&write).isolation(Isolation::Limits).cgroups(cgroups()).same_user();
    let limits = Limits::new().io(IoLimit { device, write_bytes: Some(2 * MIB), ..IoLimit::default() });
    let (completion, stdout, _) = run(spec.limits(limits)).await;
    assert_eq!(completion.exit, Exit::Code(5));
    let said = String::from_utf8(stdout).unwrap();
    let seconds: f64 =
        said.split(", ").find_map(|part| part.strip_suffix(" s")).expect(&said).parse().unwrap();
    assert!(seconds > 1.0, "4 MiB at 2 MiB/s took {seconds} s");
    assert!(completion.usage.unwrap().written_bytes.unwrap() >= 4 * MIB);
}

async fn limits_of_each_process_need_no_controller() {
    for level in ISOLATED {
        let limits = Limits::new().open_files(32).file_size(1 << 20);
        let seen =
            stdout_of(at(level, shell("ulimit -n; ulimit -c; ulimit -f")).limits(limits.clone())).await;
        assert_eq!(seen, "32\n0\n2048\n", "{level:?}: of blocks of 512 bytes");
    }
}

async fn a_job_is_born_in_its_cgroup() {
    for level in ISOLATED {
        let (job, _output) = spawn(at(level, shell("exec sleep 600"))).await;
        let seen = fs::read_to_string(format!("/proc/{}/cgroup", job.pid())).unwrap();
        let own = seen.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        assert!(own.ends_with(&format!("/job-{}.{}", job.id(), std::process::id())), "{level:?}: {own}");
        let inside = fs::read_to_string(cgroup_of(job.id()).join("cgroup.procs")).unwrap();
        assert!(inside.lines().any(|line| line == job.pid().to_string()));
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(own.lines().any(|line| line.starts_with("0::") && line.ends_with("/supervisor")), "{own}");
}

async fn what_was_used_is_told_of_the_whole_tree() {
    for level in ISOLATED {
        // A child that nobody waits for counts, too.
        let script =
            "(i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; echo spun) & read x </dev/null; wait";
        let (job, mut output) = spawn(at(level, shell(script))).await;
        assert_eq!(job.usage(), None, "it runs");
        crate::bench::line(&mut output).await;
        let completion = bounded(job.wait()).await;
        let usage = completion.usage.unwrap();
        assert!(!(usage.user + usage.system).is_zero(), "{level:?}: {usage:?}");
        assert_eq!(job.usage(), completion.usage);
        assert_eq!(usage.peak_memory.is_some(), has_controller("memory"));
    }
}
