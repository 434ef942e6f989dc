//! `job exec --tty` and `job attach --input`, at a terminal that a test holds the other end of.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use airunner_core::PrincipalType;
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

use crate::{bed::Bed, live::Live};

/// How long anything may take that is shown in the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with a command at it.
struct Terminal {
    master: File,
    child: Child,
    pieces: Receiver<Vec<u8>>,
    shown: String,
    /// What of it was looked at.
    seen: usize,
}

impl Terminal {
    /// Runs the command line at a terminal of this size, as its controlling one.
    fn run(bed: &Bed, size: (u16, u16), args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::from(open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
        resize(&master, size);
        let line = bed.command(args);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(line.get_program()).args(line.get_args());
        command.env_clear().envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("TERM", "xterm").current_dir("/");
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = File::from(master);
        let (sender, pieces) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // The other end fails with EIO once nobody has it open.
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { master, child, pieces, shown: String::new(), seen: 0 }
    }

    fn press(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Waits until this is shown, after what was waited for before.
    fn until(&mut self, text: &str) -> &mut Self {
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return self;
            }
            let piece = self.pieces.recv_timeout(PATIENCE);
            let piece = piece.unwrap_or_else(|_| panic!("{text:?} was never shown in {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    fn resize(&self, size: (u16, u16)) {
        resize(&self.master, size);
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Whether keys are shown and make lines again, as at the start.
    fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        let modes = tcgetattr(&self.master).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

fn resize(master: impl std::os::fd::AsFd, (rows, columns): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

impl Drop for Terminal {
    fn drop(&mut self) {
        match self.child.kill() {
            Err(error) if error.kind() != ErrorKind::InvalidInput => panic!("{error}"),
            _ => drop(self.child.wait()),
        }
    }
}

/// A shell whose prompt is the same for everyone.
const SHELL: [&str; 7] = ["job", "exec", "--tty", "--env", "PS1=>> ", "--", "sh"];

fn live() -> (Live, crate::live::Worker) {
    let live = Live::new();
    let worker = live.worker();
    (live, worker)
}

#[test]
fn a_shell_at_a_terminal_has_its_size_its_keys_and_its_exit_code() {
    let (live, _worker) = live();
    let mut terminal = Terminal::run(&live.bed, (33, 101), &SHELL);
    terminal.until("runs").until(">> ");
    terminal.press(b"stty size; tty; echo TERM=$TERM\r");
    terminal.until("33 101").until("/dev/pts/").until("TERM=xterm").until(">> ");
    // Control-C is the job's: it ends what runs there, not us.
    terminal.press(b"cat\r");
    terminal.until("cat\r\n");
    terminal.press(b"hello\r");
    terminal.until("hello\r\nhello\r\n");
    terminal.press(b"\x03");
    terminal.until("^C").until(">> ");
    terminal.press(b"echo still $((1 + 1)) here\r");
    terminal.until("still 2 here").until(">> ");
    terminal.press(b"exit 7\r");
    assert_eq!(terminal.end().code(), Some(7));
    assert!(terminal.is_cooked(), "the terminal was not given back");
}

#[test]
fn the_job_follows_the_size_of_the_terminal_here() {
    let (live, _worker) = live();
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 600 & wait $!; done";
    let args = ["job", "exec", "--tty", "--", "sh", "-c", script];
    let mut terminal = Terminal::run(&live.bed, (24, 80), &args);
    terminal.until("ready");
    terminal.resize((50, 132));
    terminal.until("50 132");
    terminal.resize((10, 20));
    terminal.until("10 20");
    terminal.press(b"\x1c");
    assert_eq!(terminal.end().code(), Some(128 + 3), "control-\\ is the job's too");
}

#[test]
fn a_tilde_and_a_dot_leave_the_job_alone_and_attaching_takes_it_up_again() {
    let (live, _worker) = live();
    let user = live.principal("ann", PrincipalType::User);
    let mut terminal = Terminal::run(&user, (24, 80), &SHELL);
    terminal.until(">> ");
    terminal.press(b"x=kept\r");
    terminal.until(">> ");
    terminal.press(b"~?");
    terminal.until("leave the job alone");
    terminal.press(b"~.");
    terminal.until("detached at sequence");
    assert_eq!(terminal.end().code(), Some(255));
    assert!(terminal.is_cooked());
    let id = user.json(&["job", "list"])["jobs"][0]["job_id"].as_str().unwrap().to_owned();

    // Who was there last has the keys until somebody takes them.
    let mut other = Terminal::run(&user, (30, 90), &["job", "attach", "--input", "--from", "now", &id]);
    other.until("someone else writes").until("--input --take");
    other.press(b"~.");
    assert_eq!(other.end().code(), Some(255));
    let args = ["job", "attach", "--input", "--take", "--from", "now", &id];
    let mut taken = Terminal::run(&user, (40, 100), &args);
    taken.press(b"echo $x; stty size\r");
    taken.until("kept").until("40 100");
    // A watcher sees what is typed and printed, from the start.
    let mut watcher = Terminal::run(&user, (24, 80), &["job", "attach", &id]);
    watcher.until("x=kept").until("40 100");
    taken.press(b"exit\r");
    assert_eq!(taken.end().code(), Some(0));
    assert_eq!(watcher.end().code(), Some(0));
}

#[test]
fn a_signal_gives_the_terminal_back_and_the_job_goes_on() {
    let (live, _worker) = live();
    let mut terminal = Terminal::run(&live.bed, (24, 80), &SHELL);
    terminal.until(">> ");
    let pid = terminal.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    terminal.until("the job goes on");
    assert_eq!(terminal.end().code(), Some(143));
    assert!(terminal.is_cooked());
    let running = live.run(&["job"]).succeeded().stdout;
    live.run(&["job", "stop", running.split(' ').next().unwrap(), "--grace", "0"]).succeeded();
}

#[test]
fn without_a_terminal_here_standard_input_is_piped() {
    let (live, _worker) = live();
    let mut command = live.bed.command(&["job", "exec", "--tty", "--", "sh", "-c", "tty; cat"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "not a tty\npiped");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no terminal"));
    live.run(&["job", "exec", "--tty", "--output", "json", "--", "true"]).failed(2, "--tty");
}

#[test]
fn input_that_is_shared_is_everyones() {
    let (live, _worker) = live();
    let args = ["job", "exec", "--tty", "--shared-input", "--", "cat"];
    let mut one = Terminal::run(&live.bed, (24, 80), &args);
    one.until("runs");
    one.press(b"one\r");
    one.until("one\r\none\r\n");
    let id = live.run(&["job"]).succeeded().stdout.split(' ').next().unwrap().to_owned();
    let mut two = Terminal::run(&live.bed, (24, 80), &["job", "attach", "--input", &id]);
    two.until("one\r\none\r\n");
    two.press(b"two\r");
    one.until("two\r\ntwo\r\n");
    one.press(b"three\r");
    two.until("three\r\nthree\r\n");
    one.press(b"\x04");
    assert_eq!(one.end().code(), Some(0));
    assert_eq!(two.end().code(), Some(0));
}
