//! Runs a command line with this process's environment: `cargo run --example run -- ls -l /`.

use std::{env, error::Error, io, io::Write};

use airunner_exec::{Exit, Job, JobId, Spec, Stream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut line = env::args_os().skip(1);
    let spec =
        Spec::new(JobId::new("example")?, line.next().unwrap_or("id".into())).args(line).directory("/");
    let mut job = Job::spawn(env::vars_os().fold(spec, |spec, (name, value)| spec.env(name, value))).await?;
    let mut output = job.output().ok_or("taken")?;
    while let Some(chunk) = output.next().await {
        match chunk.stream {
            Stream::Stdout => io::stdout().write_all(&chunk.bytes)?,
            Stream::Stderr => io::stderr().write_all(&chunk.bytes)?,
        }
    }
    if let Exit::Code(0) = job.wait().await.exit { Ok(()) } else { Err("it failed".into()) }
}
