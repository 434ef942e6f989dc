//! JobService over the use cases of jobs.

use std::time::Duration;

use airunner_app::job::{
    AttemptEnd, DEFAULT_VISIBILITY,
    line::{LineMessage, LineRequest},
    secrets::SecretEnvironment,
    spec::NewJob,
};
use airunner_core::{
    AttemptOutcome, Error, Exit, Grants, InputWrite, InputWriter, Job, JobFilter, JobSpec, JobState, Labels,
    PageRequest, ProcessType, QueueOrder, Repository, RequestId, Result, TerminalSize, WriterId,
    check_metadata,
};
use airunner_proto::job::v1::{self as pb, job_service_server::JobService};
use tonic::{Request, Response, Status, async_trait};

use super::{Api, BoxStream, Call, call, certificate, convert, isolation};
use crate::error::status;

/// The grace period where none is said.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// SIGTERM.
const DEFAULT_SIGNAL: i32 = 15;

/// JobService.
pub struct JobApi(pub Api);

#[async_trait]
impl JobService for JobApi {
    type DequeueJobsStream = BoxStream<pb::DequeueJobsResponse>;

    async fn enqueue_jobs(
        &self,
        request: Request<pb::EnqueueJobsRequest>,
    ) -> Result<Response<pb::EnqueueJobsResponse>, Status> {
        let mut call = call(request)?;
        let jobs = std::mem::take(&mut call.message.jobs);
        let enqueued = async {
            let specs = jobs.into_iter().map(new_job).collect::<Result<Vec<_>>>()?;
            let request_id = request_id(&call.message.request_id)?;
            self.0.app.jobs.enqueue(&call.caller, specs, request_id).await
        };
        call.answer(
            enqueued.await.map(|ids| pb::EnqueueJobsResponse {
                job_ids: ids.iter().map(ToString::to_string).collect(),
            }),
        )
    }

    async fn start_job(
        &self,
        request: Request<pb::StartJobRequest>,
    ) -> Result<Response<pb::StartJobResponse>, Status> {
        let mut call = call(request)?;
        let job = call.message.job.take().unwrap_or_default();
        let started = async {
            let request_id = request_id(&call.message.request_id)?;
            self.0.app.jobs.start(&call.caller, new_job(job)?, request_id).await
        };
        call.answer(started.await.map(|job| pb::StartJobResponse {
            job_id: job.id.to_string(),
            process_id: job.process_id.unwrap_or_default(),
        }))
    }

    async fn dequeue_jobs(
        &self,
        request: Request<pb::DequeueJobsRequest>,
    ) -> Result<Response<Self::DequeueJobsStream>, Status> {
        let call = call(request)?;
        let opened = line_request(&call.message).and_then(|line| self.0.app.jobs.dequeue(&call.caller, line));
        let mut line = call.opened(opened)?;
        let visibility =
            convert::duration(visibility(call.message.visibility_timeout).unwrap_or(DEFAULT_VISIBILITY));
        let request_id = call.caller.request_id().to_owned();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(message) = line.next().await.map_err(|error| status(&error, &request_id))? {
                yield pb::DequeueJobsResponse { message: Some(line_message(message, visibility)) };
            }
        })))
    }

    async fn extend_lease(
        &self,
        request: Request<pb::ExtendLeaseRequest>,
    ) -> Result<Response<pb::ExtendLeaseResponse>, Status> {
        let call = call(request)?;
        let extended = async {
            let by = visibility(call.message.visibility_timeout)?;
            self.0.app.jobs.extend(&call.caller, &call.message.task_tokens, by).await
        };
        let result = |result: Result<airunner_core::Timestamp>| match result {
            Ok(deadline) => {
                pb::LeaseResult { deadline: Some(convert::time(deadline)), error_label: String::new() }
            }
            Err(error) => pb::LeaseResult { deadline: None, error_label: error.label().as_str().to_owned() },
        };
        call.answer(
            extended.await.map(|results| pb::ExtendLeaseResponse {
                results: results.into_iter().map(result).collect(),
            }),
        )
    }

    async fn issue_job_certificate(
        &self,
        request: Request<pb::IssueJobCertificateRequest>,
    ) -> Result<Response<pb::IssueJobCertificateResponse>, Status> {
        let call = call(request)?;
        let issued = async {
            let pb::IssueJobCertificateRequest { task_token, csr, request_id: id } = &call.message;
            self.0.app.jobs.issue_certificate(&call.caller, task_token, csr, request_id(id)?).await
        };
        call.answer(issued.await.map(|issued| pb::IssueJobCertificateResponse {
            certificate: Some(certificate::message(&issued.certificate)),
            chain_pem: issued.chain_pem,
        }))
    }

    async fn complete_jobs(
        &self,
        request: Request<pb::CompleteJobsRequest>,
    ) -> Result<Response<pb::CompleteJobsResponse>, Status> {
        let mut call = call(request)?;
        let completions = std::mem::take(&mut call.message.completions);
        let done = async {
            let completions = completions.into_iter().map(completion).collect::<Result<Vec<_>>>()?;
            self.0.app.jobs.complete(&call.caller, completions).await
        };
        let result = |result: Result<JobState>| match result {
            Ok(state) => pb::CompletionResult { state: job_state(state) as i32, error_label: String::new() },
            Err(error) => pb::CompletionResult { state: 0, error_label: error.label().as_str().to_owned() },
        };
        call.answer(
            done.await.map(|results| pb::CompleteJobsResponse {
                results: results.into_iter().map(result).collect(),
            }),
        )
    }

    async fn get_job(
        &self,
        request: Request<pb::GetJobRequest>,
    ) -> Result<Response<pb::GetJobResponse>, Status> {
        let call = call(request)?;
        let found = self.find(&call, &call.message.job_id).await;
        call.answer(found.map(|job| pb::GetJobResponse { job: Some(message(&job)) }))
    }

    async fn get_job_status(
        &self,
        request: Request<pb::GetJobStatusRequest>,
    ) -> Result<Response<pb::GetJobStatusResponse>, Status> {
        let call = call(request)?;
        let found = self.find(&call, &call.message.job_id).await;
        call.answer(found.map(|job| pb::GetJobStatusResponse {
            job_id: job.id.to_string(),
            state: job_state(job.state) as i32,
            process_id: job.process_id.unwrap_or_default(),
            exit: job.exit.map(exit),
            reason: job.reason,
        }))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let call = call(request)?;
        let listed = async {
            let page = PageRequest::parse(call.message.page_size, &call.message.page_token)?;
            let (owner, queue) = (&call.message.owner, &call.message.queue);
            let filter = JobFilter {
                owner: (!owner.is_empty()).then(|| owner.parse()).transpose()?,
                holder: None,
                state: from_job_state(call.message.state)?,
                queue: (!queue.is_empty()).then(|| queue.parse()).transpose()?,
                labels: label_filter(&call.message.labels)?,
            };
            self.0.app.jobs.list(&call.caller, filter, &page).await
        };
        call.answer(listed.await.map(|page| pb::ListJobsResponse {
            jobs: page.items.iter().map(message).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn cancel_job(
        &self,
        request: Request<pb::CancelJobRequest>,
    ) -> Result<Response<pb::CancelJobResponse>, Status> {
        let call = call(request)?;
        let cancelled = async {
            let id = call.message.job_id.parse()?;
            let grace = convert::from_duration("grace", call.message.grace)?.unwrap_or(DEFAULT_GRACE);
            let signal = if call.message.signal == 0 { DEFAULT_SIGNAL } else { call.message.signal };
            self.0.app.jobs.cancel(&call.caller, &id, signal, grace).await
        };
        call.answer(cancelled.await.map(|job| pb::CancelJobResponse { job: Some(message(&job)) }))
    }

    async fn write_job_input(
        &self,
        request: Request<pb::WriteJobInputRequest>,
    ) -> Result<Response<pb::WriteJobInputResponse>, Status> {
        let mut call = call(request)?;
        let bytes = std::mem::take(&mut call.message.data);
        let written = async {
            let pb::WriteJobInputRequest { job_id, end, writer_id, piece, take, .. } = &call.message;
            let (job_id, writer) = (job_id.parse()?, writer(writer_id, *piece)?);
            let write = InputWrite { job_id, writer, take: *take, bytes, end: *end, size: None };
            self.0.app.jobs.write_input(&call.caller, write).await
        };
        call.answer(written.await.map(|()| pb::WriteJobInputResponse {}))
    }

    async fn resize_job(
        &self,
        request: Request<pb::ResizeJobRequest>,
    ) -> Result<Response<pb::ResizeJobResponse>, Status> {
        let call = call(request)?;
        let resized = async {
            let pb::ResizeJobRequest { job_id, terminal, writer_id, piece, take } = &call.message;
            let size = Some(from_terminal(terminal.unwrap_or_default())?);
            let (job_id, writer) = (job_id.parse()?, writer(writer_id, *piece)?);
            let write = InputWrite { job_id, writer, take: *take, bytes: Vec::new(), end: false, size };
            self.0.app.jobs.write_input(&call.caller, write).await
        };
        call.answer(resized.await.map(|()| pb::ResizeJobResponse {}))
    }
}

impl JobApi {
    async fn find<T>(&self, call: &Call<T>, id: &str) -> Result<Job> {
        // Who may not see jobs at all is told so, whatever the id.
        call.caller.require(airunner_core::Permission::JobsList)?;
        self.0.app.jobs.get(&call.caller, &id.parse()?).await
    }
}

fn request_id(text: &str) -> Result<Option<RequestId>> {
    (!text.is_empty()).then(|| text.parse()).transpose()
}

fn visibility(wanted: Option<prost_types::Duration>) -> Result<Duration> {
    Ok(convert::from_duration("visibility_timeout", wanted)?.unwrap_or(DEFAULT_VISIBILITY))
}

fn new_job(job: pb::JobSpec) -> Result<NewJob> {
    let repository =
        job.repository.map(|repository| Repository { url: repository.url, revision: repository.revision });
    let process_type = match job.terminal {
        Some(terminal) => ProcessType::Terminal(from_terminal(terminal)?),
        None => ProcessType::Pipe,
    };
    let max_attempts = match job.max_attempts {
        0 if job.terminal.is_some() => 1,
        0 => JobSpec::DEFAULT_MAX_ATTEMPTS,
        some => some,
    };
    Ok(NewJob {
        queue: (!job.queue.is_empty()).then(|| job.queue.parse()).transpose()?,
        delay: convert::from_duration("delay", job.delay)?.unwrap_or_default(),
        secrets: SecretEnvironment::new(job.secret_environment),
        spec: JobSpec {
            command: job.command,
            args: job.args,
            environment: job.environment.into_iter().collect(),
            working_dir: job.working_dir,
            repository,
            process_type,
            stdin: job.stdin,
            shared_input: job.shared_input,
            timeout: convert::from_duration("timeout", job.timeout)?,
            max_attempts,
            retry_on_exit: job.retry_on_exit,
            unique: job.unique,
            labels: job.labels.into_iter().collect(),
            isolation: isolation::from_level(job.isolation)?,
            best_effort: job.best_effort,
            limits: isolation::from_limits(job.limits),
            host_network: job.host_network,
            priority: job.priority,
            requires: job.requires.into_iter().collect(),
            retry_delay: convert::from_duration("retry_delay", job.retry_delay)?.unwrap_or_default(),
            certificate: job.certificate.map(grants).transpose()?,
            secrets: None,
        },
    })
}

fn grants(certificate: pb::JobCertificate) -> Result<Grants> {
    let granted = certificate.grants.iter().map(|text| text.parse());
    granted.collect::<Result<_>>().map_err(|error| Error::invalid("certificate.grants", error.message()))
}

/// Labels as a list asks for them, each `name=value`.
fn label_filter(texts: &[String]) -> Result<Labels> {
    let mut labels = Labels::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Error::invalid("labels", format!("{text:?} is not name=value")))?;
        if labels.insert(name.to_owned(), value.to_owned()).is_some_and(|other| other != value) {
            return Err(Error::invalid(
                "labels",
                format!("a job has one value of {name}, and two are asked for"),
            ));
        }
    }
    check_metadata("labels", &labels)?;
    Ok(labels)
}

fn line_request(request: &pb::DequeueJobsRequest) -> Result<LineRequest> {
    Ok(LineRequest {
        queues: request.queues.iter().map(|queue| queue.parse()).collect::<Result<_>>()?,
        order: if request.strict_order { QueueOrder::Strict } else { QueueOrder::InTurn },
        labels: request.labels.clone().into_iter().collect(),
        max_jobs: request.max_jobs,
        visibility: visibility(request.visibility_timeout)?,
        held: request.task_tokens.clone(),
        worker: (!request.worker_id.is_empty()).then(|| request.worker_id.parse()).transpose()?,
    })
}

fn line_message(
    message: LineMessage,
    visibility: prost_types::Duration,
) -> pb::dequeue_jobs_response::Message {
    use pb::dequeue_jobs_response::Message;
    match message {
        LineMessage::Waiting => Message::Waiting(pb::Waiting {}),
        LineMessage::Drain => Message::Drain(pb::Drain {}),
        LineMessage::Claim { job, secrets, task_token, deadline } => Message::Claim(pb::Claim {
            job: Some(self::message(&job)),
            environment: job.spec.environment.into_iter().chain(secrets.expose()).collect(),
            task_token,
            deadline: Some(convert::time(deadline)),
            visibility_timeout: Some(visibility),
        }),
        LineMessage::Cancel { job_id, attempt, cancellation } => Message::Cancel(pb::Cancel {
            job_id: job_id.to_string(),
            attempt,
            signal: cancellation.signal,
            grace: Some(convert::duration(cancellation.grace)),
        }),
        LineMessage::Input { job_id, attempt, size: Some(size), .. } => Message::Resize(pb::Resize {
            job_id: job_id.to_string(),
            attempt,
            terminal: Some(terminal(size)),
        }),
        LineMessage::Input { job_id, attempt, bytes, end, size: None } => {
            Message::Input(pb::Input { job_id: job_id.to_string(), attempt, data: bytes, end })
        }
        LineMessage::LeaseLost { job_id, attempt } => {
            Message::LeaseLost(pb::LeaseLost { job_id: job_id.to_string(), attempt })
        }
    }
}

fn completion(completion: pb::Completion) -> Result<AttemptEnd> {
    use pb::completion::Outcome;
    let outcome =
        completion.outcome.ok_or_else(|| Error::invalid("completions.outcome", "say how it ended"))?;
    let from_optional = |exit: Option<pb::Exit>| exit.map(from_exit).transpose();
    let outcome = match outcome {
        Outcome::Exited(exit) => AttemptOutcome::Exited(from_exit(exit)?),
        Outcome::Failed(reason) => AttemptOutcome::Failed(reason.chars().take(1_024).collect()),
        Outcome::Cancelled(cancelled) => AttemptOutcome::Cancelled(from_optional(cancelled.exit)?),
        Outcome::TimedOut(timed_out) => AttemptOutcome::TimedOut(from_optional(timed_out.exit)?),
        Outcome::HandedBack(_) => AttemptOutcome::HandedBack,
    };
    let usage = completion.usage.map(isolation::from_usage).transpose()?;
    Ok(AttemptEnd { task_token: completion.task_token, outcome, usage })
}

/// The end of a process on the wire.
pub(super) fn exit(exit: Exit) -> pb::Exit {
    let how = match exit {
        Exit::Code(code) => pb::exit::How::Code(code),
        Exit::Signal(signal) => pb::exit::How::Signal(signal),
    };
    pb::Exit { how: Some(how) }
}

fn from_exit(exit: pb::Exit) -> Result<Exit> {
    match exit.how {
        Some(pb::exit::How::Code(code)) => Ok(Exit::Code(code)),
        Some(pb::exit::How::Signal(signal)) => Ok(Exit::Signal(signal)),
        None => Err(Error::invalid("completions.exit", "an exit is a code or a signal")),
    }
}

/// A job's state on the wire.
pub(super) const fn job_state(state: JobState) -> pb::JobState {
    match state {
        JobState::Scheduled => pb::JobState::Scheduled,
        JobState::Running => pb::JobState::Running,
        JobState::Completed => pb::JobState::Completed,
        JobState::Failed => pb::JobState::Failed,
        JobState::Cancelled => pb::JobState::Cancelled,
        JobState::TimedOut => pb::JobState::TimedOut,
    }
}

fn from_job_state(number: i32) -> Result<Option<JobState>> {
    let state = pb::JobState::try_from(number).map_err(|_| convert::unknown("state", number))?;
    Ok(match state {
        pb::JobState::Unspecified => None,
        pb::JobState::Scheduled => Some(JobState::Scheduled),
        pb::JobState::Running => Some(JobState::Running),
        pb::JobState::Completed => Some(JobState::Completed),
        pb::JobState::Failed => Some(JobState::Failed),
        pb::JobState::Cancelled => Some(JobState::Cancelled),
        pb::JobState::TimedOut => Some(JobState::TimedOut),
    })
}

fn message(job: &Job) -> pb::Job {
    pb::Job {
        job_id: job.id.to_string(),
        queue: job.queue.to_string(),
        command: job.spec.command.clone(),
        args: job.spec.args.clone(),
        environment_names: job.spec.environment.keys().cloned().collect(),
        secret_environment_names: job
            .spec
            .secrets
            .as_ref()
            .map(|secrets| secrets.names.clone())
            .unwrap_or_default(),
        working_dir: job.spec.working_dir.clone(),
        repository: job.spec.repository.as_ref().map(|repository| pb::Repository {
            url: repository.url.clone(),
            revision: repository.revision.clone(),
        }),
        owner: job.owner.to_string(),
        timeout: job.spec.timeout.map(convert::duration),
        max_attempts: job.spec.max_attempts,
        retry_on_exit: job.spec.retry_on_exit,
        unique: job.spec.unique,
        labels: job.spec.labels.clone().into_iter().collect(),
        state: job_state(job.state) as i32,
        attempt: job.attempt,
        holder: job.lease.as_ref().map(|lease| lease.holder.to_string()).unwrap_or_default(),
        lease_deadline: job.lease.as_ref().map(|lease| convert::time(lease.deadline)),
        process_id: job.process_id.unwrap_or_default(),
        exit: job.exit.map(exit),
        reason: job.reason.clone(),
        cancelling: job.cancellation.is_some() && !job.state.has_ended(),
        created_at: Some(convert::time(job.created_at)),
        visible_at: Some(convert::time(job.visible_at)),
        started_at: job.started_at.map(convert::time),
        finished_at: job.finished_at.map(convert::time),
        stdin: job.spec.stdin,
        isolation: isolation::level(job.spec.isolation) as i32,
        best_effort: job.spec.best_effort,
        limits: isolation::limits(&job.spec.limits),
        host_network: job.spec.host_network,
        usage: job.usage.as_ref().map(isolation::usage),
        priority: job.spec.priority,
        requires: job.spec.requires.clone().into_iter().collect(),
        retry_delay: Some(job.spec.retry_delay).filter(|delay| !delay.is_zero()).map(convert::duration),
        terminal: job.spec.terminal().map(terminal),
        shared_input: job.spec.shared_input,
        certificate: job
            .spec
            .certificate
            .as_ref()
            .map(|grants| pb::JobCertificate { grants: grants.iter().map(ToString::to_string).collect() }),
    }
}

fn terminal(size: TerminalSize) -> pb::Terminal {
    pb::Terminal { rows: size.rows.into(), columns: size.columns.into() }
}

fn from_terminal(terminal: pb::Terminal) -> Result<TerminalSize> {
    TerminalSize::new(terminal.rows, terminal.columns)
}

fn writer(id: &str, piece: u64) -> Result<Option<InputWriter>> {
    let writer = (!id.is_empty()).then(|| id.parse::<WriterId>()).transpose()?;
    if writer.is_some() && piece == 0 {
        return Err(Error::invalid("piece", "a writer counts its pieces from 1"));
    }
    Ok(writer.map(|id| InputWriter { id, piece }))
}
