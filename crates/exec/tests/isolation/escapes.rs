//! Ways out of a sandbox, each tried and refused.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::process::{Child, Command, Stdio};

use airunner_exec::{Exit, Isolation, Job, Limits, Sandbox, Signal, Spec};
use rustix::fs::{Mode, mkfifoat};
use tokio::time::Duration;

use crate::bench::{bounded, collect, command, line, run, runs, shell, spawn, stdout_of};
use crate::cell::{cgroup_of, cgroups, has_controller, inside, is_gone, nobody, open_directory, sandboxed};
use crate::trials;

trials![
    a_fork_bomb_ends_with_its_job,
    a_double_fork_and_a_new_session_do_not_outlive_it,
    a_memory_bomb_hits_its_limit_alone,
    filling_tmp_fills_no_disk,
    nothing_can_be_mounted,
    no_process_can_be_traced,
    no_process_outside_can_be_signalled,
    files_and_keys_of_the_host_cannot_be_read,
    the_supervisors_memory_and_environment_cannot_be_read,
    no_network_can_be_reached,
    no_raw_socket_can_be_had,
    no_device_can_be_made,
    no_keyring_can_be_used,
    no_namespace_can_be_made,
    its_own_cgroup_cannot_be_written,
    a_pipe_held_open_does_not_keep_the_job_alive,
    a_line_of_a_gigabyte_costs_the_supervisor_no_memory,
    what_is_not_known_does_not_exist,
];

/// A program in a sandbox whose exit code tells how many of its attempts succeeded.
fn perl(script: &str) -> Spec {
    sandboxed(command("perl").args(["-e", script]))
}

/// Makes a system call with these arguments, in the words of perl, and tells what the kernel said.
async fn answer(call: i64, arguments: &str) -> String {
    stdout_of(perl(&format!("$r = syscall({call}, {arguments}); print $r == -1 ? $!+0 : 'granted'"))).await
}

const EPERM: &str = "1";
const ENOSYS: &str = "38";

async fn a_fork_bomb_ends_with_its_job() {
    let spec = inside("bomb() { bomb | bomb & }; echo set; bomb; sleep 600");
    let limited = has_controller("pids");
    // Without the controller the bomb is short, for the machine's sake.
    let spec = if limited {
        spec.limits(Limits::new().processes(64))
    } else {
        inside("for i in $(seq 200); do setsid sleep 600 & done; echo set; sleep 600")
    };
    let (job, mut output) = spawn(spec).await;
    assert_eq!(line(&mut output).await.lines().next(), Some("set"));
    if limited {
        let events = cgroup_of(job.id()).join("pids.events");
        crate::bench::until("the limit is hit", || {
            fs::read_to_string(&events).is_ok_and(|text| !text.starts_with("max 0"))
        })
        .await;
    }
    let completion = bounded(job.stop(Signal::Kill, Duration::ZERO)).await;
    assert_eq!((completion.exit, completion.survivors.len()), (Exit::Signal(9), 0));
    if limited {
        assert!(completion.usage.unwrap().peak_processes.is_none_or(|peak| peak <= 64));
    }
    assert!(is_gone(job.id()));
}

async fn a_double_fork_and_a_new_session_do_not_outlive_it() {
    let name = format!("sleep {}", 100_000 + std::process::id());
    let script = format!("setsid sh -c '(setsid {name} &) & exit' & wait; echo gone; exit 0");
    let (job, mut output) = spawn(inside(&script)).await;
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
    assert_eq!(collect(&mut output).await.0, b"gone\n");
    let left = fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").trim() == name)
    });
    assert_eq!(left.count(), 0);
}

async fn a_memory_bomb_hits_its_limit_alone() {
    let bomb = "$x = 'x' x 1048576; push @a, $x . $_ while ++$_ < 512; print 'all';";
    if !has_controller("memory") {
        let refused = Job::spawn(perl(bomb).limits(Limits::new().memory(64 << 20))).await;
        assert!(refused.is_err());
        return;
    }
    // A second process of it, which alone would have lived on.
    let script = format!("sleep 600 & perl -e \"{}\"; echo survived", bomb.replace('$', "\\$"));
    let (completion, stdout, _) = run(inside(&script).limits(Limits::new().memory(64 << 20))).await;
    assert_eq!((completion.exit, stdout.len()), (Exit::Signal(9), 0));
    let usage = completion.usage.unwrap();
    assert!(usage.oom_kills.unwrap() >= 1, "{usage:?}");
    assert!(usage.peak_memory.is_none_or(|peak| (32 << 20..=65 << 20).contains(&peak)), "{usage:?}");
}

async fn filling_tmp_fills_no_disk() {
    let script = "for place in /tmp /dev/shm; do head -c 100000000 /dev/zero >$place/x 2>/dev/null && exit 1; done; \
        du -sk /tmp /dev/shm | cut -f1; while :; do mkdir /tmp/$((i = i + 1)) 2>/dev/null || break; \
        [ $i -gt 1000 ] && exit 1; done; echo ended";
    let spec = inside(script).sandbox(Sandbox::new().tmp_size(1 << 20));
    assert_eq!(stdout_of(spec).await, "1024\n1024\nended\n");
}

async fn nothing_can_be_mounted() {
    let arguments = "my $a='tmpfs', my $b='/tmp', my $c='tmpfs', 0, 0";
    assert_eq!(answer(libc::SYS_mount, arguments).await, EPERM);
    assert_eq!(answer(libc::SYS_umount2, "my $a='/proc', 2").await, EPERM);
    assert_eq!(answer(libc::SYS_pivot_root, "my $a='/tmp', my $b='/tmp'").await, EPERM);
    assert_eq!(answer(libc::SYS_chroot, "my $a='/tmp'").await, EPERM);
    assert_eq!(answer(libc::SYS_move_mount, "-100, my $a='/tmp', -100, my $b='/dev', 0").await, EPERM);
}

async fn no_process_can_be_traced() {
    const PTRACE_TRACEME: &str = "0, 0, 0, 0";
    const PTRACE_ATTACH_INIT: &str = "16, 1, 0, 0";
    assert_eq!(answer(libc::SYS_ptrace, PTRACE_TRACEME).await, EPERM);
    assert_eq!(answer(libc::SYS_ptrace, PTRACE_ATTACH_INIT).await, EPERM);
    assert_eq!(answer(libc::SYS_process_vm_readv, "1, 0, 0, 0, 0, 0").await, EPERM);
    // And not by its files: not even the init, whose user is the same.
    let seen = stdout_of(inside("cat /proc/1/environ /proc/1/mem >/dev/null 2>&1 || echo closed; ls /proc/1/fd /proc/1/root >/dev/null 2>&1 || echo closed")).await;
    assert_eq!(seen, "closed\nclosed\n");
}

async fn no_process_outside_can_be_signalled() {
    let mut victim = Victim(Command::new("sleep").arg("600").spawn().unwrap());
    let own = std::process::id();
    // The job is root outside: what protects is that it has no number for them.
    let script = format!(
        "kill -KILL {} 2>/dev/null && echo hit; kill -KILL {own} 2>/dev/null && echo hit; kill -KILL 1; echo done",
        victim.0.id()
    );
    let spec = shell(&script).isolation(Isolation::Sandbox).cgroups(cgroups()).same_user();
    assert_eq!(stdout_of(spec).await, "done\n");
    assert!(victim.0.try_wait().unwrap().is_none());
}

/// A process that is ended with the test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn files_and_keys_of_the_host_cannot_be_read() {
    let dir = open_directory();
    let key = dir.path().join("key.pem");
    let mut options = fs::OpenOptions::new();
    std::io::Write::write_all(
        &mut options.write(true).create_new(true).mode(0o600).open(&key).unwrap(),
        b"secret",
    )
    .unwrap();
    // Not seen at all; and where its directory is shown, still another user's.
    let read = format!(
        "cat {0} 2>/dev/null || echo refused; cat /etc/shadow 2>/dev/null || echo refused",
        key.display()
    );
    assert_eq!(stdout_of(inside(&read)).await, "refused\nrefused\n");
    let shown = inside(&read).sandbox(Sandbox::new().writable(dir.path()));
    assert_eq!(stdout_of(shown).await, "refused\nrefused\n");
    // Readable by everybody, but of the host.
    fs::write(dir.path().join("public"), "host").unwrap();
    let read = format!("cat {}/public 2>/dev/null || echo refused", dir.path().display());
    assert_eq!(stdout_of(inside(&read)).await, "refused\n");
    // With `limits` alone the job sees it, but not the key.
    let read = format!("cat {0}/public {0}/key.pem 2>/dev/null", dir.path().display());
    assert_eq!(run(crate::cell::limited(shell(&read))).await.1, b"host");
}

async fn the_supervisors_memory_and_environment_cannot_be_read() {
    let own = std::process::id();
    let read = format!(
        "for file in mem environ fd/0 root/etc/passwd; do head -c 1 /proc/{own}/$file >/dev/null 2>&1 && echo $file; done; echo done"
    );
    assert_eq!(stdout_of(inside(&read)).await, "done\n");
    assert_eq!(stdout_of(crate::cell::limited(shell(&read))).await, "done\n");
    // Nor by what the job inherits: where its init came from is no file of the host.
    let seen =
        stdout_of(inside("cat /proc/1/exe >/dev/null 2>&1 || echo closed; ls /proc/self/fd | wc -l")).await;
    assert_eq!(seen, "closed\n4\n");
}

async fn no_network_can_be_reached() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let abstract_name = format!("\\0airunner-test-{own}", own = std::process::id());
    let name = abstract_name.replace("\\0", "");
    let _bound = {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        std::os::unix::net::UnixListener::bind_addr(&address).unwrap()
    };
    let script = format!(
        "socket(A,2,1,0); print 'tcp ' if connect(A,pack('SnCCCCx8',2,{port},127,0,0,1)); \
         socket(B,2,2,0); print 'udp ' if send(B,'x',0,pack('SnCCCCx8',2,53,10,0,0,1)); \
         socket(C,1,1,0); print 'abstract ' if connect(C,pack('S',1).\"\\0{name}\"); print 'done'"
    );
    assert_eq!(stdout_of(perl(&script)).await, "done");
}

async fn no_raw_socket_can_be_had() {
    for (family, kind) in [(2, 3), (10, 3), (17, 3), (17, 2), (40, 1), (38, 5), (31, 3)] {
        // Internet, packet, vsock, the kernel's ciphers, Bluetooth.
        let said =
            stdout_of(perl(&format!("print socket(S,{family},{kind},0) ? 'granted' : 'refused'"))).await;
        assert_eq!(said, "refused", "family {family}, type {kind}");
    }
}

async fn no_device_can_be_made() {
    let dir = open_directory();
    chown(dir.path(), Some(nobody().uid), None).unwrap();
    // A block device of the host, and /dev/mem.
    for (mode, device) in [(0o060_666, 0x0800), (0o020_666, 0x0101)] {
        let sandbox = Sandbox::new().writable(dir.path());
        for place in ["/tmp".to_owned(), dir.path().display().to_string()] {
            let script = format!(
                "my $path = '{place}/x'; print syscall({}, $path, {mode}, {device}) == 0 ? 'granted' : 'refused'",
                libc::SYS_mknod
            );
            let said = stdout_of(perl(&script).sandbox(sandbox.clone())).await;
            assert_eq!(said, "refused");
        }
    }
    // One that was made outside is none inside.
    let node = dir.path().join("null");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &node,
        rustix::fs::FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    crate::cell::open(&node, 0o666);
    let read = format!("cat {} 2>/dev/null || echo refused", node.display());
    let shown = inside(&read).sandbox(Sandbox::new().writable(dir.path()));
    assert_eq!(stdout_of(shown).await, "refused\n");
}

async fn no_keyring_can_be_used() {
    assert_eq!(answer(libc::SYS_keyctl, "0, -3, 1").await, EPERM);
    assert_eq!(answer(libc::SYS_add_key, "my $a='user', my $b='x', my $c='y', 1, -3").await, EPERM);
    assert_eq!(answer(libc::SYS_request_key, "my $a='user', my $b='x', 0, -3").await, EPERM);
}

async fn no_namespace_can_be_made() {
    let new = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    for flag in new {
        assert_eq!(answer(libc::SYS_unshare, &flag.to_string()).await, EPERM);
        let by_clone = format!("{}, 0, 0, 0, 0", i64::from(flag) | i64::from(libc::SIGCHLD));
        assert_eq!(answer(libc::SYS_clone, &by_clone).await, EPERM);
    }
    assert_eq!(answer(libc::SYS_setns, "0, 0").await, EPERM);
    assert_eq!(answer(libc::SYS_clone3, "0, 0").await, ENOSYS, "which makes libraries fall back to clone");
}

async fn its_own_cgroup_cannot_be_written() {
    let spec = inside("find / -name cgroup.procs 2>/dev/null | wc -l; grep -c cgroup /proc/mounts");
    let (_, stdout, _) = run(spec).await;
    assert_eq!(stdout, b"0\n0\n");
    // With `limits` it is seen, and root's.
    let id = crate::bench::id();
    let own = cgroup_of(&id);
    let script = format!(
        "for file in cgroup.procs cgroup.kill cgroup.freeze memory.max pids.max; do \
         (echo max >{0}/$file) 2>/dev/null && echo $file; done; mkdir {0}/x 2>/dev/null && echo made; echo $$ >{0}/../supervisor/cgroup.procs 2>/dev/null && echo moved; echo done",
        own.display()
    );
    let spec = Spec::new(id, "sh").args(["-c", &script]).env("PATH", "/usr/bin:/bin");
    assert_eq!(stdout_of(crate::cell::limited(spec)).await, "done\n");
}

async fn a_pipe_held_open_does_not_keep_the_job_alive() {
    let dir = open_directory();
    let gate = dir.path().join("gate");
    mkfifoat(rustix::fs::CWD, &gate, Mode::from_raw_mode(0o666)).unwrap();
    crate::cell::open(&gate, 0o666);
    let (job, mut output) =
        spawn(inside("setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 600; done' & echo up; exit 0"))
            .await;
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
    assert_eq!(collect(&mut output).await.0, b"up\n");
    assert!(!bounded(job.drained()).await.unwrap().held);
    // One who passed its output on to a process outside, through a file that both see: that one the supervisor can't
    // kill, and it may not keep the job's end from being told.
    let outside = Command::new("sh")
        .args(["-c", "exec 3<\"$0\"; exec sleep 600", gate.to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _outside = Victim(outside);
    let script = format!("exec 4>{}; echo through >&4; echo end", gate.display());
    let (job, mut output) = spawn(inside(&script).sandbox(Sandbox::new().writable(dir.path()))).await;
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
    assert_eq!(collect(&mut output).await.0, b"end\n");
}

async fn a_line_of_a_gigabyte_costs_the_supervisor_no_memory() {
    const TOTAL: u64 = 1 << 30;
    let peak = || -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = peak();
    let (job, mut output) = spawn(inside(&format!("exec head -c {TOTAL} /dev/zero"))).await;
    let mut total = 0;
    while let Some(chunk) = bounded(output.next()).await {
        assert_eq!(chunk.offset, total);
        total += chunk.bytes.len() as u64;
    }
    assert_eq!((total, bounded(job.wait()).await.exit), (TOTAL, Exit::Code(0)));
    // Other tests share the process, hence the room.
    let grown = peak() - before;
    assert!(grown < 128 * 1024, "grew by {grown} KiB");
    assert!(!runs(job.pid()));
}

async fn what_is_not_known_does_not_exist() {
    assert_eq!(answer(4000, "0").await, ENOSYS);
    assert_eq!(answer(libc::SYS_io_uring_setup, "1, 0").await, EPERM);
    assert_eq!(answer(libc::SYS_bpf, "0, 0, 0").await, EPERM);
    assert_eq!(answer(libc::SYS_perf_event_open, "0, 0, 0, 0, 0").await, EPERM);
    assert_eq!(answer(libc::SYS_userfaultfd, "0").await, EPERM);
    // Putting input into a terminal.
    assert_eq!(answer(libc::SYS_ioctl, "0, 0x5412, 0").await, EPERM);
}
