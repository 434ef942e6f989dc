//! Submits a job, prints what it prints, and ends with its exit code.
//!
//! `cargo run -p airunner-client --example run_job -- https://localhost:8443 IDENTITY_FOLDER COMMAND [ARG…]`

use std::{
    error::Error,
    io::{Write as _, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use airunner_client::{
    Client, ClientOptions, FollowOptions, Followed, IdentityFiles, IdentitySource, follow_job,
};
use airunner_proto::job::v1::{EnqueueJobsRequest, JobSpec, OutputStream, exit::How, job_event::Kind};
use futures_util::StreamExt as _;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().ok_or(format!("{what} is missing"));
    let (server, folder) = (next("the server")?.parse()?, PathBuf::from(next("the identity's folder")?));
    let command = next("the command")?;
    let files = IdentityFiles::open(&folder, None)?;
    // The roots come with the identity.
    let client = Client::connect(ClientOptions::new(server, "", Some(IdentitySource::Folder(files)))).await?;

    let spec = JobSpec { command, args: args.collect(), ..Default::default() };
    let request = EnqueueJobsRequest { jobs: vec![spec], ..Default::default() };
    let ids =
        client.jobs().enqueue_jobs(request).await.map_err(airunner_client::Error::from)?.into_inner().job_ids;
    let mut events = Box::pin(follow_job(&client, &ids[0], FollowOptions::default()));
    while let Some(followed) = events.next().await {
        match followed? {
            Followed::Event(event) => {
                if let Some(Kind::Output(output)) = event.kind {
                    match output.stream() {
                        OutputStream::Stderr => stderr().write_all(&output.data)?,
                        _ => stdout().write_all(&output.data)?,
                    }
                }
            }
            Followed::Ended(ended) => {
                return Ok(match ended.exit.and_then(|exit| exit.how) {
                    Some(How::Code(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
                    Some(How::Signal(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(255)),
                    None => Err(ended.reason)?,
                });
            }
        }
    }
    Err("the job's events ended without its end".into())
}
