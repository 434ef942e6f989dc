//! How far a job's processes are kept from this machine: what the job asks for, and no less than the worker's own.
//! How that is done is `airunner-exec`'s business.

use std::path::Path;

use airunner_core::Isolation;
use airunner_exec::{Isolation as Level, Limits, Network, RunAs, Sandbox, SpawnError, Spec};
use airunner_proto::job::v1::{self as pb, Job};

use super::{options::Site, options::WorkerOptions, task::Failed, workspace::Workspace};

/// How far the processes of one job are kept from this machine.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Confinement {
    level: Level,
    best_effort: bool,
    limits: Limits,
    network: Network,
    /// The job asks for best effort, and the worker does not allow it.
    denied_best_effort: bool,
}

impl Confinement {
    /// Of this job, by a worker of these options.
    ///
    /// The operator's best effort is for the operator's own level: a job that asks for something itself gets that or
    /// fails, unless it says that it can do without.
    pub(super) fn of(job: &Job, options: &WorkerOptions) -> Result<Self, Failed> {
        let asked = asked(job)?;
        let level = asked.unwrap_or_default().max(options.isolation);
        let limits = job.limits.unwrap_or_default();
        let is_limited = limits != pb::ResourceLimits::default();
        if is_limited && level < Isolation::Limits {
            return Err(Failed(
                "the job asks for limits, and this worker runs jobs at the isolation none, where nothing keeps them: \
                 ask for the isolation limits or sandbox"
                    .to_owned(),
            ));
        }
        if job.host_network && options.isolation == Isolation::Sandbox && !options.host_network {
            return Err(Failed(
                "the job asks for the machine's network, and this worker keeps all jobs from it: have the operator set \
                 worker.host_network, or leave host_network out"
                    .to_owned(),
            ));
        }
        let asks_for_nothing = asked.is_none() && !is_limited;
        Ok(Self {
            level: exec_level(level),
            best_effort: options.best_effort && (job.best_effort || asks_for_nothing),
            limits: exec_limits(&limits),
            network: if job.host_network { Network::Host } else { Network::None },
            denied_best_effort: job.best_effort && !options.best_effort,
        })
    }

    /// The level on the wire.
    pub(super) fn wire(&self) -> pb::Isolation {
        match self.level {
            Level::Limits => pb::Isolation::Limits,
            Level::Sandbox => pb::Isolation::Sandbox,
            _ => pb::Isolation::None,
        }
    }

    /// Confines the job's command, which sees its workspace, the files of its identity where it has one, and nothing else
    /// that is the worker's.
    pub(super) fn confine(
        &self,
        spec: Spec,
        site: &Site,
        workspace: &Workspace,
        identity: Option<&Path>,
    ) -> Result<Spec, Failed> {
        let sandbox = Sandbox::new().network(self.network).writable(workspace.path());
        let sandbox = match identity {
            Some(directory) => sandbox.read_only(directory),
            None => sandbox,
        };
        self.at(self.level, spec.sandbox(sandbox), site, site.user)
    }

    /// Confines what fetches the job's repository, as this user; none is the worker's own. It needs the machine's network
    /// and names, and so gets no sandbox; but a cgroup and the job's limits wherever the job does.
    pub(super) fn confine_fetch(&self, spec: Spec, site: &Site, user: Option<RunAs>) -> Result<Spec, Failed> {
        self.at(self.level.min(Level::Limits), spec, site, user)
    }

    fn at(&self, level: Level, spec: Spec, site: &Site, user: Option<RunAs>) -> Result<Spec, Failed> {
        let spec = match user {
            Some(user) => spec.run_as(user),
            None if level > Level::None => spec.same_user(),
            None => spec,
        };
        if level == Level::None {
            return Ok(spec);
        }
        let spec = spec.isolation(level).limits(self.limits.clone());
        let spec = if self.best_effort { spec.best_effort() } else { spec };
        match &site.cgroups {
            Ok(cgroups) => Ok(spec.cgroups(cgroups)),
            Err(_) if self.best_effort => Ok(spec),
            Err(why) => Err(Failed(format!(
                "the job needs a cgroup, and its worker can make none: {why}{}",
                self.remark()
            ))),
        }
    }

    /// Why a process of the job did not start, for people.
    pub(super) fn explain(&self, error: &SpawnError) -> Failed {
        let remark = match error {
            SpawnError::Unavailable { .. } | SpawnError::Cgroup(_) | SpawnError::NoCgroups => self.remark(),
            _ => "",
        };
        Failed(format!("{error}{remark}"))
    }

    fn remark(&self) -> &'static str {
        if self.denied_best_effort {
            " (the job asks for best effort, which this worker does not allow: worker.best_effort)"
        } else {
            ""
        }
    }
}

/// The level that a job asks for. One that is not known here could be more than any that is.
fn asked(job: &Job) -> Result<Option<Isolation>, Failed> {
    match pb::Isolation::try_from(job.isolation) {
        Ok(pb::Isolation::Unspecified) => Ok(None),
        Ok(pb::Isolation::None) => Ok(Some(Isolation::None)),
        Ok(pb::Isolation::Limits) => Ok(Some(Isolation::Limits)),
        Ok(pb::Isolation::Sandbox) => Ok(Some(Isolation::Sandbox)),
        Err(_) => Err(Failed(format!(
            "the job asks for an isolation (number {}) that this worker does not know: install a newer one",
            job.isolation
        ))),
    }
}

fn exec_level(level: Isolation) -> Level {
    match level {
        Isolation::None => Level::None,
        Isolation::Limits => Level::Limits,
        Isolation::Sandbox => Level::Sandbox,
    }
}

fn exec_limits(limits: &pb::ResourceLimits) -> Limits {
    let mut made = Limits::new();
    if limits.cpu_millis > 0 {
        made = made.cpus(f64::from(limits.cpu_millis) / 1_000.0);
    }
    if limits.memory_bytes > 0 {
        made = made.memory(limits.memory_bytes);
    }
    if limits.processes > 0 {
        made = made.processes(limits.processes.into());
    }
    if limits.open_files > 0 {
        made = made.open_files(limits.open_files);
    }
    if limits.file_size_bytes > 0 {
        made = made.file_size(limits.file_size_bytes);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(isolation: Isolation, best_effort: bool) -> WorkerOptions {
        WorkerOptions { isolation, best_effort, ..WorkerOptions::new("/tmp/unused") }
    }

    fn asking(isolation: pb::Isolation) -> Job {
        Job { isolation: isolation as i32, ..Job::default() }
    }

    #[test]
    fn a_job_gets_more_than_the_workers_level_where_it_asks_and_never_less() {
        use airunner_core::Isolation::{Limits as L, None as N, Sandbox as S};
        for (own, asked, got) in [
            (N, pb::Isolation::Unspecified, pb::Isolation::None),
            (L, pb::Isolation::Unspecified, pb::Isolation::Limits),
            (L, pb::Isolation::None, pb::Isolation::Limits),
            (S, pb::Isolation::Limits, pb::Isolation::Sandbox),
            (N, pb::Isolation::Sandbox, pb::Isolation::Sandbox),
        ] {
            let confinement = Confinement::of(&asking(asked), &options(own, false)).unwrap();
            assert_eq!(confinement.wire(), got, "{own} and {asked:?}");
        }
    }

    #[test]
    fn best_effort_takes_the_job_and_the_worker_or_a_job_that_asks_for_nothing() {
        let best_effort = |job: &Job, allowed| {
            Confinement::of(job, &options(Isolation::Sandbox, allowed)).unwrap().best_effort
        };
        let strict = asking(pb::Isolation::Sandbox);
        let easy = Job { best_effort: true, ..strict.clone() };
        assert!(best_effort(&easy, true) && !best_effort(&easy, false) && !best_effort(&strict, true));
        let silent = Job::default();
        assert!(best_effort(&silent, true) && !best_effort(&silent, false));
        let limits = Some(pb::ResourceLimits { memory_bytes: 1 << 30, ..Default::default() });
        assert!(!best_effort(&Job { limits, ..silent }, true));
    }

    #[test]
    fn a_level_from_the_future_is_not_taken_for_none() {
        let job = Job { isolation: 9, ..Job::default() };
        let Failed(why) = Confinement::of(&job, &options(Isolation::None, false)).unwrap_err();
        assert!(why.contains("newer"), "{why}");
    }

    #[test]
    fn a_sandbox_that_the_operator_set_is_opened_to_the_network_by_the_operator_alone() {
        let job = Job { host_network: true, ..asking(pb::Isolation::Sandbox) };
        let Failed(why) = Confinement::of(&job, &options(Isolation::Sandbox, true)).unwrap_err();
        assert!(why.contains("worker.host_network"), "{why}");
        let willing = WorkerOptions { host_network: true, ..options(Isolation::Sandbox, false) };
        assert_eq!(Confinement::of(&job, &willing).unwrap().network, Network::Host);
        assert_eq!(Confinement::of(&job, &options(Isolation::Limits, false)).unwrap().network, Network::Host);
    }

    #[test]
    fn limits_at_a_worker_of_no_isolation_are_refused_with_what_to_do() {
        let limits = Some(pb::ResourceLimits { processes: 4, ..Default::default() });
        let job = Job { limits, ..Job::default() };
        let Failed(why) = Confinement::of(&job, &options(Isolation::None, true)).unwrap_err();
        assert!(why.contains("limits or sandbox"), "{why}");
        Confinement::of(&job, &options(Isolation::Limits, false)).unwrap();
    }
}
