//! What a sandboxed job sees.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use airunner_exec::{Exit, Job, MemoryFile, Network, Root, Sandbox, SpawnError};

use crate::bench::{command, run, shell, stdout_of};
use crate::cell::{LEVELS, at, inside, nobody, open, open_directory, sandboxed};
use crate::trials;

trials![
    it_is_alone_with_its_init,
    its_files_are_the_systems_and_nothing_else,
    everything_is_read_only_but_its_own,
    tmp_holds_no_more_than_its_size,
    what_is_shown_to_it_is_where_it_is_on_the_host,
    a_directory_can_be_its_root,
    the_hosts_root_can_be_read_only,
    its_network_is_a_loopback_that_is_up,
    it_may_have_the_hosts_network,
    its_names_are_its_own,
    a_file_in_memory_is_for_its_user_and_for_nobody_to_change,
    its_children_find_its_files_in_memory,
    more_files_in_memory_than_there_may_be_are_refused,
    it_has_no_capability_and_gets_none,
    its_user_is_the_only_one_there_is,
    proc_does_not_reach_the_machine,
];

async fn it_is_alone_with_its_init() {
    let seen = stdout_of(inside("echo /proc/[0-9]*; echo $$")).await;
    assert_eq!(seen, "/proc/1 /proc/2\n2\n");
    let zombies = stdout_of(inside("tr '\\0' ' ' </proc/1/cmdline")).await;
    assert_eq!(zombies.trim(), "airunner-exec: init");
}

async fn its_files_are_the_systems_and_nothing_else() {
    let listed =
        stdout_of(inside("ls -A /; echo; ls -A /home /run /tmp /dev/shm; ls -A /dev; test ! -e /sys")).await;
    let (root, rest) = listed.split_once("\n\n").unwrap();
    for name in root.lines() {
        let known =
            ["bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "tmp"];
        assert!(known.contains(&name) || ["usr", "var"].contains(&name), "{name}");
    }
    assert!(rest.starts_with("/dev/shm:\n\n/home:\n\n/run:\n\n/tmp:\n"), "{rest}");
    let devices: Vec<&str> = rest.lines().skip(7).collect();
    let wanted = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(devices.join(" "), wanted);
    let etc = stdout_of(inside("ls -A /etc")).await;
    assert!(etc.contains("passwd") && !etc.contains("shadow") && !etc.contains("ssh"), "{etc}");
}

async fn everything_is_read_only_but_its_own() {
    let script = "for place in / /usr /etc /dev /home /run /var /proc/sys; do touch $place/x 2>/dev/null && echo $place; done; \
        touch /tmp/x /dev/shm/x && echo own; \
        grep -vE ' (/tmp|/dev/shm|/dev/pts|/proc|/proc/[a-z_]*) ' /proc/mounts | grep -v ' ro,' | wc -l; \
        grep -v nosuid /proc/mounts | wc -l";
    assert_eq!(stdout_of(inside(script)).await, "own\n0\n0\n");
}

async fn tmp_holds_no_more_than_its_size() {
    let fill = "head -c 5000000 /dev/zero >/tmp/a 2>/dev/null && exit 1; wc -c </tmp/a";
    let spec = inside(fill).sandbox(Sandbox::new().tmp_size(1 << 20));
    assert_eq!(stdout_of(spec).await.trim(), (1 << 20).to_string());
}

async fn what_is_shown_to_it_is_where_it_is_on_the_host() {
    let dir = open_directory();
    let (work, tools) = (dir.path().join("work"), dir.path().join("tools"));
    for path in [&work, &tools] {
        fs::create_dir(path).unwrap();
        chown(path, Some(nobody().uid), None).unwrap();
    }
    fs::write(tools.join("data"), "seen").unwrap();
    fs::write(dir.path().join("other"), "hidden").unwrap();
    let script = format!(
        "cat {0}/tools/data; echo; echo made >made; rm {0}/tools/data 2>/dev/null || echo kept; \
         touch {0}/tools/x 2>/dev/null || echo closed; ls {0}",
        dir.path().display()
    );
    let sandbox = Sandbox::new().writable(&work).read_only(&tools);
    let seen = stdout_of(inside(&script).directory(&work).sandbox(sandbox)).await;
    assert_eq!(seen, "seen\nkept\nclosed\ntools\nwork\n");
    assert_eq!(fs::read_to_string(work.join("made")).unwrap(), "made\n");
    // Inside of one that is writable, another can be closed.
    let inner = work.join("inner");
    fs::create_dir(&inner).unwrap();
    chown(&inner, Some(nobody().uid), None).unwrap();
    let sandbox = Sandbox::new().read_only(&inner).writable(&work);
    let script = "touch inner/x 2>/dev/null || echo closed; touch x && echo open";
    assert_eq!(stdout_of(inside(script).directory(&work).sandbox(sandbox)).await, "closed\nopen\n");
}

async fn a_directory_can_be_its_root() {
    let dir = open_directory();
    for name in ["bin", "proc", "dev", "tmp"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        open(&dir.path().join(name), 0o755);
    }
    // Its own libraries: of the host it sees none.
    let libraries = std::process::Command::new("ldd").arg("/bin/ls").output().unwrap();
    let listed = String::from_utf8(libraries.stdout).unwrap();
    let files = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in files.chain(["/bin/ls"]) {
        let copy = dir.path().join(file.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
    let spec = sandboxed(command("ls").args(["/", "/tmp"]))
        .sandbox(Sandbox::new().root(Root::Directory(dir.path().into())));
    let listed = stdout_of(spec.clone()).await;
    assert!(listed.contains("bin\ndev\n") && !listed.contains("etc") && !listed.contains("home"), "{listed}");
    let (completion, ..) = run(spec.arg("/usr/bin/env")).await;
    assert_eq!(completion.exit, Exit::Code(2));
}

async fn the_hosts_root_can_be_read_only() {
    let dir = open_directory();
    open(dir.path(), 0o777);
    fs::write(dir.path().join("there"), "").unwrap();
    let root = Sandbox::new().root(Root::Host);
    let seen = stdout_of(
        inside("touch /usr/x /etc/x 2>/dev/null || echo closed; ls -A /tmp; ls /proc | head -1")
            .sandbox(root),
    )
    .await;
    assert_eq!(seen, "closed\n1\n", "its own /tmp and /proc");
}

async fn its_network_is_a_loopback_that_is_up() {
    let devices =
        stdout_of(inside("tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/net/route | wc -l")).await;
    assert_eq!(devices.split_whitespace().collect::<Vec<_>>(), ["lo", "1"]);
    // Binds and connects: 127.0.0.1 answers.
    let script = "socket(S,2,1,0); bind(S,pack('SnCCCCx8',2,0,127,0,0,1)) or die; listen(S,1); \
        socket(C,2,1,0); connect(C,getsockname(S)) or die; print 'connected'";
    assert_eq!(stdout_of(sandboxed(command("perl").args(["-e", script]))).await, "connected");
}

async fn it_may_have_the_hosts_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script =
        format!("socket(C,2,1,0); print connect(C,pack('SnCCCCx8',2,{port},127,0,0,1)) ? 'in' : 'out'");
    let spec = || sandboxed(command("perl").args(["-e", &script]));
    assert_eq!(stdout_of(spec()).await, "out");
    assert_eq!(stdout_of(spec().sandbox(Sandbox::new().network(Network::Host))).await, "in");
}

async fn its_names_are_its_own() {
    let own =
        |name: &str| fs::read_link(Path::new("/proc/self/ns").join(name)).unwrap().display().to_string();
    let seen = stdout_of(inside(
        "uname -n; cd /proc/self/ns && readlink cgroup ipc mnt net pid user uts; cat /proc/self/cgroup",
    ))
    .await;
    let mut lines = seen.lines();
    assert_eq!(lines.next(), Some("sandbox"));
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let inside = lines.next().unwrap();
        assert!(inside.starts_with(name) && inside != own(name), "{inside}");
    }
    let cgroup = lines.find_map(|line| line.strip_prefix("0::")).unwrap();
    assert_eq!(cgroup, "/", "of the tree it sees its own alone");
}

async fn it_has_no_capability_and_gets_none() {
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t' | tr '\\n' ' '";
    let none = "0000000000000000";
    let wanted = format!(
        "CapInh:{none} CapPrm:{none} CapEff:{none} CapBnd:{none} CapAmb:{none} NoNewPrivs:1 Seccomp:2 "
    );
    assert_eq!(stdout_of(inside(script)).await, wanted);
    // Not even root's, where root is asked for.
    let root = shell(script)
        .isolation(airunner_exec::Isolation::Sandbox)
        .cgroups(crate::cell::cgroups())
        .same_user();
    assert_eq!(stdout_of(root).await, wanted);
    let init = stdout_of(inside(
        "grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs)' /proc/1/status | tr -d '\\t' | tr '\\n' ' '",
    ))
    .await;
    assert_eq!(init, format!("CapPrm:{none} CapEff:{none} CapBnd:{none} NoNewPrivs:1 "));
}

async fn its_user_is_the_only_one_there_is() {
    let nobody = nobody();
    let map = stdout_of(inside("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups")).await;
    let words: Vec<&str> = map.split_whitespace().collect();
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    assert_eq!(words, [&uid, &uid, "1", &gid, &gid, "1", "deny"]);
}

async fn proc_does_not_reach_the_machine() {
    // As root outside, who could otherwise: the right of the files' owner is no capability.
    let script = "for file in sys/kernel/hostname sys/kernel/core_pattern sysrq-trigger; do \
        (echo x >/proc/$file) 2>/dev/null && echo $file; done; head -c 1 /proc/kcore /proc/keys 2>/dev/null | wc -c";
    let spec = shell(script)
        .isolation(airunner_exec::Isolation::Sandbox)
        .cgroups(crate::cell::cgroups())
        .same_user();
    let seen = stdout_of(spec).await;
    let bytes = seen.trim();
    // Only the names that head prints.
    assert!(!seen.contains("sys") && bytes.parse::<u32>().unwrap() < 64, "{seen}");
}

async fn a_file_in_memory_is_for_its_user_and_for_nobody_to_change() {
    for level in LEVELS {
        let script = "cat \"$SECRET\"; stat -L -c '%a %u' \"$SECRET\"; \
            (echo x >\"$SECRET\") 2>/dev/null || echo sealed; \
            grep -c hidden /proc/self/environ; true";
        let file = MemoryFile::new(b"hidden word\n").unwrap();
        let seen = stdout_of(at(level, shell(script)).memory_file("SECRET", &file)).await;
        assert_eq!(seen, format!("hidden word\n400 {}\nsealed\n0\n", nobody().uid), "{level:?}");
    }
}

async fn its_children_find_its_files_in_memory() {
    for level in LEVELS {
        // Nothing but the standard streams is left open in the child.
        let script =
            "perl -e 'use POSIX; POSIX::close($_) for 3..255; exec \"cat\", @ARGV' \"$ONE\" \"$TWO\"; echo .";
        let spec = at(level, shell(script).env("PATH", "/usr/bin:/bin"))
            .memory_file("ONE", &MemoryFile::new(b"1").unwrap())
            .memory_file("TWO", &MemoryFile::new(b"2").unwrap());
        assert_eq!(stdout_of(spec).await, "12.\n", "{level:?}");
    }
}

async fn more_files_in_memory_than_there_may_be_are_refused() {
    let file = MemoryFile::new(b"").unwrap();
    let most =
        |count: usize| (0..count).fold(inside("true"), |spec, n| spec.memory_file(format!("F{n}"), &file));
    assert_eq!(run(most(MemoryFile::MAX)).await.0.exit, Exit::Code(0));
    let refused = Job::spawn(most(MemoryFile::MAX + 1)).await;
    assert!(matches!(refused, Err(SpawnError::TooManyFiles)), "{refused:?}");
}
