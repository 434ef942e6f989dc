//! What happens when the supervising process is killed, at any point; and supervisors with fewer rights.
//!
//! A supervisor is this program, in a process of its own, told by its environment what to play.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use airunner_exec::{
    CgroupError, Cgroups, Exit, Isolation, Job, JobId, Measure, SpawnError, Spec, harden_self, resolve_user,
    sweep,
};

use crate::bench::{bounded, is_empty, run, shell, until};
use crate::cell::{nobody, open, open_directory, root};
use crate::trials;

trials![
    a_supervisor_killed_at_any_point_leaves_nothing_after_the_sweep,
    a_sandbox_ends_with_its_supervisor,
    the_cgroup_of_this_process_is_taken_over,
    a_cgroup_that_holds_other_processes_is_foreseen_and_named,
    without_root_a_sandbox_is_as_tight,
    a_hardened_supervisor_isolates_as_well,
    a_filter_on_clone3_is_named,
    namespaces_that_the_host_refuses_are_an_error_or_left_out,
];

const ROLE: &str = "AIRUNNER_TEST_ROLE";
const PLACE: &str = "AIRUNNER_TEST_PLACE";

/// Called first thing in `main`: returns where this process is none.
pub(crate) fn play_role() {
    let Ok(role) = env::var(ROLE) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "starts many" => start_many().await,
            "holds one" => hold_one().await,
            "takes over" => take_over().await,
            "shares" => share(),
            "without root" => without_root().await,
            "hardened" => hardened().await,
            "filtered" => filtered().await,
            "confined" => confined().await,
            _ => panic!("no such role"),
        }
    });
    std::process::exit(0);
}

fn role(name: &str, place: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(ROLE, name).env(PLACE, place).stdout(Stdio::piped());
    command
}

fn place() -> std::path::PathBuf {
    env::var_os(PLACE).unwrap().into()
}

fn say(word: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{word}").unwrap();
    stdout.flush().unwrap();
}

fn own_cgroup() -> Cgroups {
    Cgroups::at(root().join(format!("airunner-role-{}", std::process::id()))).unwrap()
}

/// Starts jobs of all kinds, stops and drops them, until it is killed.
async fn start_many() {
    let cgroups = own_cgroup();
    for number in 0_u32.. {
        let id = JobId::new(format!("role-{}-{number}", std::process::id())).unwrap();
        let script = "setsid sleep 600 & (sleep 600 &) ; echo up; sleep 600";
        let spec = Spec::new(id, "sh").args(["-c", script]).env("PATH", "/usr/bin:/bin").mark_dir(place());
        let level = if number.is_multiple_of(3) { Isolation::Limits } else { Isolation::Sandbox };
        let spec = spec.isolation(level).cgroups(&cgroups).run_as(nobody());
        let mut job = Job::spawn(spec).await.unwrap();
        job.output().unwrap().next().await.unwrap();
        match number % 4 {
            0 => drop(job),
            1 => drop(job.stop(airunner_exec::Signal::Kill, Duration::ZERO).await),
            // It runs on while the next begin.
            _ => std::mem::forget(job),
        }
        say("one more");
    }
}

/// Numbers from a seed (splitmix64).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A supervisor that is killed with the test, too.
struct Supervisor {
    child: Child,
    words: mpsc::Receiver<String>,
}

impl Supervisor {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, words) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, words }
    }

    fn hear(&self) -> String {
        self.words.recv_timeout(crate::bench::BOUND).expect("it says nothing")
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its success.
    fn finish(mut self) {
        let words: Vec<String> = self.words.iter().collect();
        assert!(self.child.wait().unwrap().success(), "{words:?}");
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes whose environment names a job of that supervisor.
fn left_of(supervisor: u32) -> Vec<String> {
    let mark = format!("AIRUNNER_JOB_ID=role-{supervisor}-");
    let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let left = all.filter(|entry| {
        fs::read(entry.path().join("environ"))
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|pair| pair.starts_with(mark.as_bytes())))
    });
    left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

async fn a_supervisor_killed_at_any_point_leaves_nothing_after_the_sweep() {
    let seed = env::var("AIRUNNER_TEST_SEED").map_or(20_261_130, |seed| seed.parse().unwrap());
    let rounds = env::var("AIRUNNER_TEST_ROUNDS").map_or(24, |rounds| rounds.parse().unwrap());
    let mut seeded = Seeded(seed);
    for round in 0..rounds {
        let dir = open_directory();
        let marks = dir.path().join("marks");
        let mut supervisor = Supervisor::start(role("starts many", &marks));
        for _ in 0..seeded.below(6) {
            supervisor.hear();
        }
        // Anywhere within the start of a job, which takes a few milliseconds.
        let moment = Duration::from_micros(seeded.below(15_000));
        while supervisor.words.recv_timeout(moment).is_ok() {}
        supervisor.kill();
        let pid = supervisor.child.id();
        let swept = bounded(sweep(&marks)).await.unwrap();
        let what = format!("seed {seed}, round {round}: {swept:?}");
        assert!(swept.survived.is_empty() && swept.live.is_empty() && swept.unknown.is_empty(), "{what}");
        assert!(!marks.exists() || is_empty(&marks), "{what}");
        // One that was not handed over yet ends by itself.
        until("no process of it is left", || left_of(pid).is_empty()).await;
        let cgroup = root().join(format!("airunner-role-{pid}"));
        if cgroup.exists() {
            let jobs = fs::read_dir(&cgroup).unwrap().filter_map(Result::ok);
            let jobs = jobs.filter(|entry| entry.file_name().to_string_lossy().starts_with("job-"));
            assert_eq!(jobs.count(), 0, "{what}");
            let _ = fs::remove_dir(cgroup.join("supervisor"));
            fs::remove_dir(&cgroup).expect("nothing is in it");
        }
    }
}

async fn hold_one() {
    let id = JobId::new(format!("role-{}-0", std::process::id())).unwrap();
    let spec = Spec::new(id, "sh")
        .args(["-c", "setsid sleep 600 & echo up; sleep 600"])
        .env("PATH", "/bin:/usr/bin");
    let spec = spec.isolation(Isolation::Sandbox).cgroups(&own_cgroup()).run_as(nobody());
    let mut job = Job::spawn(spec).await.unwrap();
    job.output().unwrap().next().await.unwrap();
    say("up");
    job.wait().await;
}

async fn a_sandbox_ends_with_its_supervisor() {
    let dir = open_directory();
    let mut supervisor = Supervisor::start(role("holds one", dir.path()));
    assert_eq!(supervisor.hear(), "up");
    let pid = supervisor.child.id();
    assert!(left_of(pid).len() >= 3);
    supervisor.kill();
    until("its sandbox is gone without a sweep", || left_of(pid).is_empty()).await;
    // There was no mark, and so the empty cgroup stays.
    for name in [format!("job-role-{pid}-0.{pid}"), "supervisor".into(), String::new()] {
        let directory = root().join(format!("airunner-role-{pid}")).join(name);
        until("it can be removed", || fs::remove_dir(&directory).is_ok()).await;
    }
}

async fn take_over() {
    let cgroups = Cgroups::delegated().unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let expected = place();
    assert_eq!(root().join(own.trim_start_matches('/')), expected.join("supervisor"));
    assert_eq!(cgroups.directory(), expected);
    // Called again it stays where it is.
    assert_eq!(Cgroups::delegated().unwrap().directory(), expected);
    let spec = shell("exit 3").isolation(Isolation::Sandbox).cgroups(&cgroups).run_as(nobody());
    assert_eq!(run(spec).await.0.exit, Exit::Code(3));
}

async fn the_cgroup_of_this_process_is_taken_over() {
    let cgroup = root().join(format!("airunner-delegated-{}", std::process::id()));
    fs::create_dir(&cgroup).unwrap();
    // As a service manager does: the process begins there.
    let script = "echo $$ >\"$1/cgroup.procs\" && exec \"$0\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(env::current_exe().unwrap()).arg(&cgroup);
    command.env(ROLE, "takes over").env(PLACE, &cgroup).stdout(Stdio::piped());
    Supervisor::start(command).finish();
    fs::remove_dir(cgroup.join("supervisor")).unwrap();
    fs::remove_dir(&cgroup).unwrap();
}

/// With another process beside it.
fn share() {
    let controllers = fs::read_to_string(place().join("cgroup.controllers")).unwrap();
    let ours = ["cpu", "memory", "pids", "io"];
    if !controllers.split_whitespace().any(|controller| ours.contains(&controller)) {
        // There is nothing to hand on, and so nothing in the way.
        Cgroups::survey().unwrap();
        Cgroups::delegated().unwrap();
        return;
    }
    for found in [Cgroups::survey().map(|_| ()), Cgroups::delegated().map(|_| ())] {
        let error = found.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, CgroupError::Occupied { processes, .. } if processes.len() == 1), "{text}");
        assert!(text.contains(" sleep") && text.contains("Delegate=yes"), "{text}");
    }
}

async fn a_cgroup_that_holds_other_processes_is_foreseen_and_named() {
    let cgroup = root().join(format!("airunner-shared-{}", std::process::id()));
    // What is above hands its controllers on, as a service manager does.
    let controllers = fs::read_to_string(root().join("cgroup.controllers")).unwrap();
    for controller in controllers.split_whitespace() {
        let _ = fs::write(root().join("cgroup.subtree_control"), format!("+{controller}"));
    }
    fs::create_dir(&cgroup).unwrap();
    let mut other =
        Command::new("sleep").arg("600").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    fs::write(cgroup.join("cgroup.procs"), other.id().to_string()).unwrap();
    let script = "echo $$ >\"$1/cgroup.procs\" && exec \"$0\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(env::current_exe().unwrap()).arg(&cgroup);
    command.env(ROLE, "shares").env(PLACE, &cgroup).stdout(Stdio::piped());
    let mut sharing = command.spawn().unwrap();
    let ended = sharing.wait().unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(ended.success());
    let _ = fs::remove_dir(cgroup.join("supervisor"));
    until("it can be removed", || fs::remove_dir(&cgroup).is_ok()).await;
}

/// As an ordinary user, and hardened: the sandbox is born in a user namespace.
async fn without_root() {
    harden_self().unwrap();
    let spec = |script: &str| shell(script).isolation(Isolation::Sandbox).same_user().best_effort();
    let script = "id -u; cat /proc/self/uid_map; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; \
        echo /proc/[0-9]*; touch /usr/x 2>/dev/null || echo closed; tail -n +3 /proc/net/dev | cut -d: -f1; exit 6";
    let mut job = Job::spawn(spec(script)).await.unwrap();
    let (stdout, _) = crate::bench::collect(&mut job.output().unwrap()).await;
    assert_eq!(job.left_out(), [Measure::Cgroup], "of the rest nothing");
    assert_eq!(job.wait().await.exit, Exit::Code(6));
    let text = String::from_utf8(stdout).unwrap();
    let uid = rustix::process::getuid().as_raw().to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    let none = "0000000000000000";
    let wanted = [
        &uid,
        &uid,
        &uid,
        "1",
        "CapEff:",
        none,
        "CapBnd:",
        none,
        "NoNewPrivs:",
        "1",
        "/proc/1",
        "/proc/2",
        "closed",
        "lo",
    ];
    assert_eq!(words, wanted);
    // Its terminal, and the signal through its init.
    let (job, mut output) =
        crate::bench::spawn(spec("trap 'exit 5' TERM; tty; while :; do sleep 0.01; done").pty(1, 1)).await;
    crate::bench::line(&mut output).await;
    assert_eq!(job.stop(airunner_exec::Signal::Term, Duration::from_hours(1)).await.exit, Exit::Code(5));
    // Another user is not to be had, and without a cgroup nothing is silently less.
    let other = shell("true").isolation(Isolation::Sandbox).run_as(resolve_user("root").unwrap());
    assert!(matches!(Job::spawn(other).await, Err(SpawnError::RunAsRefused(_))));
    let strict = shell("true").isolation(Isolation::Sandbox).same_user();
    assert!(matches!(Job::spawn(strict).await, Err(SpawnError::NoCgroups)));
    // Nor is there a cgroup for the asking.
    assert!(Cgroups::delegated().is_err());
}

async fn without_root_a_sandbox_is_as_tight() {
    // Where everybody can execute it.
    let dir = open_directory();
    let copy = dir.path().join("isolation");
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    open(&copy, 0o755);
    let mut command = Command::new(&copy);
    command.env(ROLE, "without root").env(PLACE, "/").stdout(Stdio::piped()).current_dir("/");
    command.uid(nobody().uid).gid(nobody().gid);
    Supervisor::start(command).finish();
}

async fn hardened() {
    harden_self().unwrap();
    let cgroups = own_cgroup();
    for level in [Isolation::Limits, Isolation::Sandbox] {
        let spec = shell("exit 3").isolation(level).cgroups(&cgroups).run_as(nobody());
        assert_eq!(run(spec).await.0.exit, Exit::Code(3));
    }
}

async fn a_hardened_supervisor_isolates_as_well() {
    let supervisor = Supervisor::start(role("hardened", Path::new("/")));
    let cgroup = root().join(format!("airunner-role-{}", supervisor.child.id()));
    supervisor.finish();
    fs::remove_dir(cgroup.join("supervisor")).unwrap();
    fs::remove_dir(cgroup).unwrap();
}

/// As in a container whose filter does not know the call.
async fn filtered() {
    let rules = [(libc::SYS_clone3, Vec::new())].into();
    let missing = seccompiler::SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter = seccompiler::SeccompFilter::new(
        rules,
        seccompiler::SeccompAction::Allow,
        missing,
        env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter_all_threads(&program).unwrap();
    for level in [Isolation::Limits, Isolation::Sandbox] {
        let spec = shell("true").isolation(level).same_user().best_effort();
        let error = Job::spawn(spec).await.unwrap_err();
        assert!(matches!(error, SpawnError::CloneRefused(_)), "{error}");
    }
    // What needs none goes on.
    assert_eq!(run(shell("exit 3")).await.0.exit, Exit::Code(3));
}

async fn a_filter_on_clone3_is_named() {
    Supervisor::start(role("filtered", Path::new("/"))).finish();
}

/// On a host that gives no network namespace any more.
async fn confined() {
    let spec = || shell("exit 3").isolation(Isolation::Sandbox).same_user().best_effort();
    let (job, _output) = crate::bench::spawn(spec()).await;
    assert_eq!(job.left_out(), [Measure::Cgroup, Measure::Namespaces]);
    assert_eq!(job.wait().await.exit, Exit::Code(3));
    // The rest is not left out.
    let script = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | cut -f2 | tr '\\n' ' '";
    let seen =
        crate::bench::stdout_of(shell(script).isolation(Isolation::Sandbox).same_user().best_effort()).await;
    assert_eq!(seen, "0000000000000000 0000000000000000 1 2 ");
    // The host's network needs none.
    let shared = spec().sandbox(airunner_exec::Sandbox::new().network(airunner_exec::Network::Host));
    let (job, _output) = crate::bench::spawn(shared).await;
    assert_eq!(job.left_out(), [Measure::Cgroup]);
}

async fn namespaces_that_the_host_refuses_are_an_error_or_left_out() {
    // The bound is one of a user namespace, and so of nobody else.
    let script = "echo 0 >/proc/sys/user/max_net_namespaces && exec \"$0\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(env::current_exe().unwrap());
    command.env(ROLE, "confined").env(PLACE, "/").stdout(Stdio::piped());
    Supervisor::start(command).finish();
}
