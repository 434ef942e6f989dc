//! A limited process without a network, as root: `cargo run --example sandbox -- sh -c 'id; ls /; ip addr'`.
//!
//! Where the machine's cgroups are not this process's to divide, it says what the job ran without.

use std::{env, error::Error, io, io::Write};

use airunner_exec::{Cgroups, Isolation, Job, JobId, Limits, Spec, resolve_user, stage_two};

fn main() -> Result<(), Box<dyn Error>> {
    stage_two();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut line = env::args_os().skip(1);
    let spec = Spec::new(JobId::new("example")?, line.next().unwrap_or("id".into()))
        .args(line)
        .isolation(Isolation::Sandbox)
        .cgroups(&Cgroups::delegated()?)
        .limits(Limits::new().cpus(0.5).memory(64 << 20).processes(32))
        .run_as(resolve_user("nobody")?)
        .best_effort();
    let mut job = Job::spawn(spec).await?;
    let mut output = job.output().ok_or("taken")?;
    while let Some(chunk) = output.next().await {
        io::stdout().write_all(&chunk.bytes)?;
    }
    let completion = job.wait().await;
    writeln!(io::stderr(), "{:?}, {:?}, without {:?}", completion.exit, completion.usage, job.left_out())?;
    Ok(())
}
