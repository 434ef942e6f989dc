//! The jobs that run meanwhile: what each is to print and how it is to end, and what was seen of it.

use airunner_client::{Client, FollowOptions, Followed, follow_job};
use airunner_core::Sequence;
use airunner_proto::job::v1::{
    GetJobOutputRequest, GetJobRequest, Job, JobCertificate, JobEvent, JobSpec, JobState, OutputStream,
    exit::How, job_event::Kind,
};
use futures_util::StreamExt as _;
use tokio::task::JoinHandle;

use crate::world::{Dice, until_answered};

/// Attempts of a job: more than a worker can be lost.
const ATTEMPTS: u32 = 100;

/// What a job is to do.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    lines: u64,
    /// Seconds in which it does nothing.
    pause: u64,
    code: i32,
    /// Whether it is to have a certificate of its own.
    pub(crate) certified: bool,
}

impl Task {
    pub(crate) fn draw(dice: &Dice) -> Self {
        Self {
            lines: if dice.coin() { 1 + dice.up_to(20) } else { 2_000 + dice.up_to(20_000) },
            pause: dice.up_to(2),
            code: i32::try_from(dice.up_to(100)).unwrap(),
            certified: dice.coin(),
        }
    }

    pub(crate) fn spec(&self) -> JobSpec {
        let Self { lines, pause, code, certified } = self;
        let script = format!("echo begins; sleep {pause}; seq 1 {lines}; echo ends >&2; exit {code}");
        JobSpec {
            command: "sh".to_owned(),
            args: vec!["-c".to_owned(), script],
            max_attempts: ATTEMPTS,
            certificate: certified.then(JobCertificate::default),
            ..JobSpec::default()
        }
    }

    fn prints(&self) -> Printed {
        let mut stdout = "begins\n".to_owned();
        (1..=self.lines).for_each(|line| stdout.extend([line.to_string().as_str(), "\n"]));
        Printed { stdout, stderr: "ends\n".to_owned() }
    }
}

/// What came through either pipe. What comes through one has an order, between the two there is none.
#[derive(Default, PartialEq)]
struct Printed {
    stdout: String,
    stderr: String,
}

impl Printed {
    fn add(&mut self, stream: OutputStream, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).unwrap();
        if stream == OutputStream::Stderr { &mut self.stderr } else { &mut self.stdout }.push_str(text);
    }

    fn says(&self) -> String {
        format!("{} and {} bytes", self.stdout.len(), self.stderr.len())
    }
}

/// A job that was accepted, and who watches it from the start.
pub(crate) struct Running {
    id: String,
    pub(crate) task: Task,
    watcher: JoinHandle<Vec<JobEvent>>,
}

impl Running {
    pub(crate) fn watch(client: Client, id: String, task: Task) -> Self {
        let watched = id.clone();
        Self { id, task, watcher: tokio::spawn(async move { watch(&client, &watched).await }) }
    }

    /// What was seen of it, and what the server tells of it afterwards, is as it should be.
    pub(crate) async fn ended_well(self, client: &Client) {
        let Self { id, task, watcher } = self;
        let events = watcher.await.unwrap();
        let job = until_answered(async || {
            let request = GetJobRequest { job_id: id.clone() };
            client.jobs().get_job(request).await.map(|answer| answer.into_inner().job.unwrap())
        })
        .await;
        ended_as_it_should(&job, &task);
        each_event_once(&id, &events, job.attempt);
        let seen = printed(&events, job.attempt);
        let kept = output(client, &id, job.attempt).await;
        let all = task.prints();
        assert!(seen == all, "{id}: {} were seen of {}", seen.says(), all.says());
        assert!(kept == all, "{id}: {} were kept of {}", kept.says(), all.says());
    }
}

/// Follows a job from the start to its end, over whatever happens meanwhile. What the first stream fails with is told: a
/// follower that never began begins anew.
async fn watch(client: &Client, id: &str) -> Vec<JobEvent> {
    loop {
        let mut seen = Vec::new();
        let mut events = std::pin::pin!(follow_job(client, id, FollowOptions::default()));
        while let Some(followed) = events.next().await {
            match followed {
                Ok(Followed::Event(event)) => seen.push(event),
                Ok(Followed::Ended(_)) => return seen,
                Err(error) => {
                    assert!(seen.is_empty(), "{id}: it was followed and is no more: {error}");
                    assert!(error.is_transient(), "{id} can't be followed: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }
}

fn ended_as_it_should(job: &Job, task: &Task) {
    assert_eq!(job.state(), JobState::Completed, "{job:?}");
    assert_eq!(job.exit.and_then(|exit| exit.how), Some(How::Code(task.code)), "{job:?}");
}

/// No event came twice or out of order; each attempt began once at most and ended once; only the last was the last.
fn each_event_once(id: &str, events: &[JobEvent], attempts: u32) {
    assert!(events.is_sorted_by(|one, next| one.sequence < next.sequence), "{id}: {events:?}");
    let mut ends = Vec::new();
    let mut starts = Vec::new();
    for event in events {
        let attempt = Sequence::from_u64(event.sequence).attempt();
        match &event.kind {
            Some(Kind::Started(_)) => starts.push(attempt),
            Some(Kind::AttemptEnded(end)) => ends.push((attempt, end.last)),
            Some(Kind::Gap(_)) | None => panic!("{id}: {event:?}"),
            Some(Kind::Output(_) | Kind::Note(_)) => {}
        }
    }
    let expected: Vec<_> = (1..=attempts).map(|attempt| (attempt, attempt == attempts)).collect();
    assert_eq!(ends, expected, "{id}");
    assert!(starts.is_sorted_by(|one, next| one < next), "{id}: {starts:?}");
    assert_eq!(starts.last(), Some(&attempts), "{id}: what completed was started");
}

fn printed(events: &[JobEvent], attempt: u32) -> Printed {
    let mut printed = Printed::default();
    for event in events.iter().filter(|event| Sequence::from_u64(event.sequence).attempt() == attempt) {
        if let Some(Kind::Output(output)) = &event.kind {
            printed.add(output.stream(), &output.data);
        }
    }
    printed
}

/// What the server kept of the attempt's output.
async fn output(client: &Client, id: &str, attempt: u32) -> Printed {
    until_answered(async || {
        let request = GetJobOutputRequest { job_id: id.to_owned(), ..Default::default() };
        let mut chunks = client.events().get_job_output(request).await?.into_inner();
        let mut printed = Printed::default();
        while let Some(chunk) = chunks.message().await? {
            if Sequence::from_u64(chunk.sequence).attempt() == attempt {
                printed.add(chunk.stream(), &chunk.data);
            }
        }
        Ok(printed)
    })
    .await
}
