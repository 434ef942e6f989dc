//! Rotation: renews an identity in time, takes over what another process renewed, and runs the hook after either.

use std::{process::Stdio, sync::Arc, time::Duration};

use airunner_client::{Backoff, Client, IdentityFiles, IdentityVersion, LoadedIdentity, renew};
use airunner_core::{Clock, Result, SecureRandom, Timestamp};
use tokio::{process::Command, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a hook may run.
const HOOK_TIME: Duration = Duration::from_mins(5);
/// The longest time between two tries to renew.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What is rotated.
#[derive(Clone, Debug)]
pub struct RotationOptions {
    /// The identity that the client shows.
    pub files: IdentityFiles,
    /// A line for `sh -c`, run after each exchange with this process's own environment and rights. Its failure is logged.
    pub after: Option<String>,
}

/// Keeps an identity alive until `shutdown`: renews it at two thirds of its life plus up to a tenth by chance, tries
/// again while that fails, and exchanges it in `client`. What another process renews in the folder is taken over within
/// a second.
pub async fn rotate(
    client: Client,
    options: RotationOptions,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    shutdown: CancellationToken,
) {
    let mut rotation = Rotation { client, options, clock, random, version: None, due: None, failed: None };
    shutdown.run_until_cancelled(rotation.run()).await;
}

struct Rotation {
    client: Client,
    options: RotationOptions,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    /// What the folder held when it was last looked at.
    version: Option<IdentityVersion>,
    /// When the present identity is to be renewed.
    due: Option<Timestamp>,
    /// Since renewal failed: the pauses, and when it is tried next.
    failed: Option<(Backoff, Timestamp)>,
}

impl Rotation {
    async fn run(&mut self) {
        loop {
            self.take_over().await;
            if self.is_due() {
                self.renew().await;
            }
            self.clock.sleep(LOOK).await;
        }
    }

    /// Shows what the folder holds, if that is another identity than the client's.
    async fn take_over(&mut self) {
        let (files, known) = (self.options.files.clone(), self.version.clone());
        let looked = spawn_blocking(move || look(&files, known.as_ref()));
        let (version, identity) = match looked.await {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => return tracing::warn!(%error, "the identity can't be read"),
            Err(error) => return tracing::warn!(%error, "the identity can't be read"),
        };
        self.version = Some(version);
        let Some(identity) = identity else { return };
        self.plan(&identity);
        if self.client.identity().is_some_and(|shown| shown.serial() == identity.serial()) {
            return;
        }
        let serial = identity.serial();
        match self.client.replace_identity(identity) {
            Ok(()) => {
                tracing::info!(%serial, "took over an identity that was renewed elsewhere");
                self.run_hook().await;
            }
            Err(error) => tracing::warn!(%error, %serial, "the renewed identity can't be used"),
        }
    }

    fn is_due(&self) -> bool {
        let now = self.clock.now();
        let paused = self.failed.as_ref().is_some_and(|(_, next)| now < *next);
        !paused && self.due.is_some_and(|due| now >= due)
    }

    async fn renew(&mut self) {
        match renew(&self.options.files, &self.client).await {
            Ok(renewed) => {
                self.failed = None;
                self.plan(&renewed.identity);
                tracing::info!(serial = %renewed.identity.serial(), until = %renewed.identity.not_after(), "renewed");
                // The next look must not take it for someone else's.
                let files = self.options.files.clone();
                self.version = spawn_blocking(move || files.version().ok()).await.ok().flatten();
                self.run_hook().await;
            }
            Err(error) => {
                let identity = self.client.identity();
                let life = identity.map(|identity| identity.not_after().since(identity.not_before()));
                let longest = (life.unwrap_or_default() / 20).clamp(LOOK, LONGEST_PAUSE);
                let (mut backoff, _) =
                    self.failed.take().unwrap_or((Backoff::new(LOOK, longest), Timestamp::default()));
                let pause = backoff.next(&*self.random).max(error.retry_after().unwrap_or_default());
                tracing::error!(?error, ?pause, "the certificate can't be renewed; trying again");
                self.failed = Some((backoff, self.clock.now().plus(pause)));
            }
        }
    }

    /// Decides when this identity is to be renewed.
    fn plan(&mut self, identity: &LoadedIdentity) {
        let [chance] = self.random.array::<1>();
        let at = due(identity.not_before(), identity.not_after(), f64::from(chance) / 256.0);
        tracing::debug!(serial = %identity.serial(), %at, "the next renewal is planned");
        self.due = Some(at);
    }

    async fn run_hook(&self) {
        let Some(line) = &self.options.after else { return };
        let spawned = Command::new("sh").arg("-c").arg(line).stdin(Stdio::null()).kill_on_drop(true).spawn();
        let ended = async { spawned?.wait().await };
        let outcome = tokio::select! {
            ended = ended => ended,
            () = self.clock.sleep(HOOK_TIME) => return tracing::error!(line, "the hook was stopped after five minutes"),
        };
        match outcome {
            Ok(status) if status.success() => tracing::info!(line, "the hook ran"),
            Ok(status) => tracing::error!(line, %status, "the hook failed"),
            Err(error) => tracing::error!(line, %error, "the hook can't be run"),
        }
    }
}

/// Which identity the folder holds, and the identity itself unless it is the known one.
fn look(
    files: &IdentityFiles,
    known: Option<&IdentityVersion>,
) -> Result<(IdentityVersion, Option<LoadedIdentity>)> {
    let version = files.version()?;
    let identity = if known == Some(&version) { None } else { Some(files.load()?) };
    Ok((version, identity))
}

/// Two thirds of the life, and `chance` (0 to 1) of a further tenth: so that a crowd that was enrolled together does not
/// renew together.
fn due(not_before: Timestamp, not_after: Timestamp, chance: f64) -> Timestamp {
    let life = not_after.since(not_before);
    not_before.plus(life.mul_f64(2.0 / 3.0 + chance / 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_between_two_thirds_and_two_thirds_and_a_tenth() {
        let hours = |hours: i64| Timestamp::from_millis(hours * 3_600_000);
        assert_eq!(due(hours(0), hours(300), 0.0), hours(200));
        assert_eq!(due(hours(0), hours(300), 1.0), hours(230));
        assert_eq!(due(hours(30), hours(30), 0.5), hours(30));
    }
}
