//! How far a worker on this machine, of this user, can keep jobs from it. One job is run for that, which does nothing.

use airunner_core::Isolation;
use airunner_exec::{CgroupError, Cgroups, Isolation as Level, Job, JobId, Measure, Spec, resolve_user};
use airunner_host::Config;
use tokio::task::spawn_blocking;

use super::Findings;

const CHECK: &str = "isolation of jobs";
const CONTROLLERS: &str = "boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1), and delegate its controllers \
                           to the worker (Delegate=yes in its unit)";
const OWN_CGROUP: &str = "start the worker in a cgroup of its own: as a service with Delegate=yes, or by hand with \
                          `systemd-run --scope -p Delegate=yes airunner-cli worker …`; what else runs there has to go";
const NAMESPACES: &str = "run the worker as root, or give its user namespaces (sysctl user.max_user_namespaces, and \
                          kernel.apparmor_restrict_unprivileged_userns=0 where there is that); in a container, allow \
                          clone3, mount and pivot_root";

/// What can be had here.
struct Seen {
    level: Isolation,
    /// Of that level, or why there is no more.
    lacks: Vec<String>,
    remedy: Option<&'static str>,
}

/// Looks at what can be had, and whether that is what the worker inside the server is set to give.
pub(crate) async fn examine(findings: &mut Findings, config: Option<&Config>) {
    let seen = look().await;
    let able = match seen.level {
        Isolation::None => "a worker here can run jobs at none only",
        Isolation::Limits => "a worker here can run jobs at none and limits",
        Isolation::Sandbox => "a worker here can run jobs at none, limits and sandbox",
    };
    let lacks = seen.lacks.join(", ");
    let finding = if lacks.is_empty() { able.to_owned() } else { format!("{able}, without {lacks}") };
    let worker = config.map(Config::worker).filter(|worker| worker.embedded());
    let remedy = seen.remedy.unwrap_or_default();
    match worker.filter(|worker| worker.isolation() > seen.level) {
        Some(worker) if worker.best_effort() => {
            let wanted = worker.isolation();
            findings.warning(
                CHECK,
                format!("{finding}; worker.isolation is {wanted}, as far as it goes"),
                remedy,
            );
        }
        Some(worker) => {
            let wanted = worker.isolation();
            findings.wrong(CHECK, format!("{finding}; worker.isolation is {wanted}: no job runs"), remedy);
        }
        None if lacks.is_empty() => findings.ok(CHECK, finding),
        None => findings.ok_with_remedy(CHECK, finding, remedy),
    }
}

async fn look() -> Seen {
    let survey = spawn_blocking(Cgroups::survey).await;
    let mut lacks: Vec<String> = match survey {
        Ok(Ok(missing)) => missing.iter().map(ToString::to_string).collect(),
        Ok(Err(error)) => {
            let remedy = if matches!(error, CgroupError::Occupied { .. }) { OWN_CGROUP } else { CONTROLLERS };
            return Seen {
                level: Isolation::None,
                lacks: vec![format!("cgroups: {error}")],
                remedy: Some(remedy),
            };
        }
        Err(error) => {
            return Seen { level: Isolation::None, lacks: vec![error.to_string()], remedy: None };
        }
    };
    let mut remedy = (!lacks.is_empty()).then_some(CONTROLLERS);
    let level = match sandbox().await {
        Ok(missing) if missing.is_empty() => Isolation::Sandbox,
        Ok(missing) => {
            lacks.extend(missing);
            remedy = Some(NAMESPACES);
            Isolation::Limits
        }
        Err(why) => {
            lacks.push(format!("a sandbox: {why}"));
            remedy = Some(NAMESPACES);
            Isolation::Limits
        }
    };
    Seen { level, lacks, remedy }
}

/// Runs a job in a sandbox without a cgroup, and says what else that had to do without.
async fn sandbox() -> Result<Vec<String>, String> {
    let id = JobId::new(format!("doctor-{}", std::process::id())).map_err(|error| error.to_string())?;
    let spec = Spec::new(id, "true").isolation(Level::Sandbox).best_effort();
    let spec = if rustix::process::geteuid().is_root() {
        spec.run_as(resolve_user("nobody").map_err(|error| error.to_string())?)
    } else {
        spec.same_user()
    };
    let job = Job::spawn(spec).await.map_err(|error| error.to_string())?;
    let left_out = job.left_out().iter().filter(|measure| **measure != Measure::Cgroup);
    let left_out = left_out.map(ToString::to_string).collect();
    job.wait().await;
    Ok(left_out)
}
