//! What befalls the world in a round, and for how long.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::world::{Dice, World};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// SIGKILL of the server, which is started again.
    ServerKilled,
    /// SIGKILL of a worker, which is started again.
    WorkerKilled(usize),
    /// SIGSTOP of the server, then SIGCONT.
    ServerStopped(Duration),
    /// SIGSTOP of a worker, then SIGCONT.
    WorkerStopped(usize, Duration),
    /// The connections of a worker end, and none can be made.
    WorkerCutOff(usize, Duration),
    /// The connections of a worker stay, and nothing comes through.
    WorkerHangs(usize, Duration),
    /// The connections of those who watch end, and none can be made.
    WatchersCutOff(Duration),
    /// Every flush to the server's disk takes this long, for the other while.
    DiskSlow(Duration, Duration),
    /// No file of the server can grow.
    DiskFull(Duration),
    /// The server's wall clock is off by so many seconds.
    ClockJumps(i64, Duration),
}

impl Fault {
    const KINDS: u64 = 10;

    /// Each kind in its turn, beginning anywhere, so that a short run has met most of them.
    pub(crate) fn of_round(round: u64, dice: &Dice) -> Self {
        let worker = usize::from(dice.coin());
        let while_ = Duration::from_millis(dice.up_to(1_500));
        match (dice.start + round) % Self::KINDS {
            0 => Self::ServerKilled,
            1 => Self::WorkerKilled(worker),
            2 => Self::ServerStopped(while_),
            3 => Self::WorkerStopped(worker, while_),
            4 => Self::WorkerCutOff(worker, while_),
            5 => Self::WorkerHangs(worker, while_),
            6 => Self::WatchersCutOff(while_),
            7 => Self::DiskSlow(Duration::from_millis(20 + dice.up_to(100)), while_),
            8 => Self::DiskFull(while_),
            _ => {
                let seconds = i64::try_from(60 + dice.up_to(7_200)).unwrap();
                Self::ClockJumps(if dice.coin() { seconds } else { -seconds }, while_)
            }
        }
    }

    /// Does it, and undoes it.
    pub(crate) async fn befall(self, world: &mut World) {
        // A part of the jobs is under way by then.
        lasts(Duration::from_millis(world.dice.up_to(300))).await;
        match self {
            Self::ServerKilled => world.restart_server(),
            Self::WorkerKilled(worker) => world.restart_worker(worker),
            Self::ServerStopped(time) => stopped(world.server().id(), time).await,
            Self::WorkerStopped(worker, time) => stopped(world.worker(worker).id(), time).await,
            Self::WorkerCutOff(worker, time) => {
                world.line_of(worker).cut();
                lasts(time).await;
                world.line_of(worker).mend();
            }
            Self::WorkerHangs(worker, time) => {
                world.line_of(worker).hang();
                lasts(time).await;
                world.line_of(worker).mend();
            }
            Self::WatchersCutOff(time) => {
                world.watchers_line().cut();
                lasts(time).await;
                world.watchers_line().mend();
            }
            Self::DiskSlow(by, time) => {
                let slow = SlowDisk::of(world.server().id(), by);
                lasts(time).await;
                slow.end();
            }
            Self::DiskFull(time) => {
                world.server().limit_files(Some(0));
                lasts(time).await;
                world.server().limit_files(None);
            }
            Self::ClockJumps(seconds, time) => {
                world.set_clock(seconds);
                lasts(time).await;
                world.set_clock(0);
            }
        }
    }
}

/// A fault lasts for some time: this is no waiting for something to happen.
async fn lasts(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

async fn stopped(pid: u32, time: Duration) {
    signal(pid, "-STOP");
    lasts(time).await;
    signal(pid, "-CONT");
}

/// Flushes of a process that take longer.
struct SlowDisk(Child);

impl SlowDisk {
    fn of(pid: u32, by: Duration) -> Self {
        let delay = format!("inject=fsync,fdatasync:delay_enter={}", by.as_micros());
        let child = Command::new("strace")
            .args(["--follow-forks", "--trace=fsync,fdatasync", "--output=/dev/null", "-e", &delay])
            .args(["--attach", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("this test needs strace: run `make test-tools`"))
    }

    /// The process goes on by itself.
    fn end(mut self) {
        signal(self.0.id(), "-INT");
        self.0.wait().unwrap();
    }
}
