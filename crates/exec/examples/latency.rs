//! How long it takes from the spawn to the first byte, without isolation and with all of it, as root:
//! `cargo run --release --example latency -- 200`. Prints the median and the slowest of a hundred, in milliseconds.
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::{env, error::Error, io, io::Write, time::Instant};

use airunner_exec::{Cgroups, Isolation, Job, JobId, Spec, resolve_user, stage_two};

fn main() -> Result<(), Box<dyn Error>> {
    stage_two();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let rounds = env::args().nth(1).map_or(Ok(200), |rounds| rounds.parse())?;
    let cgroups = Cgroups::delegated()?;
    let mut out = io::stdout();
    for level in [Isolation::None, Isolation::Limits, Isolation::Sandbox] {
        let mut times = Vec::new();
        for round in 0..rounds {
            let spec = Spec::new(JobId::new(format!("latency-{}-{round}", std::process::id()))?, "/bin/echo")
                .arg("first")
                .isolation(level)
                .cgroups(&cgroups)
                .run_as(resolve_user("nobody")?);
            let began = Instant::now();
            let mut job = Job::spawn(spec).await?;
            job.output().ok_or("taken")?.next().await.ok_or("it printed nothing")?;
            times.push(began.elapsed());
            job.wait().await;
        }
        times.sort_unstable();
        let at =
            |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
        writeln!(out, "{:<8} median {:6.2} ms   99 % {:6.2} ms", format!("{level:?}"), at(50), at(99))?;
    }
    Ok(())
}
