//! What was offered a moment ago, in the user's cache folder. It holds ids and what is shown beside them, no secret.

use std::{path::PathBuf, time::Duration};

use airunner_client::ClientOptions;
use airunner_core::Timestamp;
use airunner_host::files::{self, Access};
use airunner_pki::sha256;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::Offer;
use crate::context::Context;

/// For how long what the server said is offered.
const FRESH: Duration = Duration::from_secs(30);
/// For how long a server that did not answer is left alone.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// One list of one connection.
pub(super) struct Cache {
    /// None where there is no home.
    path: Option<PathBuf>,
    now: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    until_millis: i64,
    offers: Vec<Offer>,
}

impl Cache {
    /// The place of `kind` for whoever connects with these options.
    pub(super) fn of(context: &Context, kind: &str, options: &ClientOptions) -> Self {
        let who = format!("{}\n{:?}", options.server, options.identity);
        let name = &HEXLOWER.encode(&sha256(who.as_bytes()))[..16];
        let folder = context.environment.folder("XDG_CACHE_HOME", ".cache");
        let path =
            folder.map(|folder| folder.join("airunner/completion").join(format!("{kind}-{name}.json")));
        Self { path, now: context.now() }
    }

    /// What was offered, where that is not long ago.
    pub(super) fn read(&self) -> Option<Vec<Offer>> {
        let bytes = files::read(self.path.as_ref()?).ok()??;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        let until = Timestamp::from_millis(kept.until_millis);
        // Of a clock that was set back, nothing is kept either.
        (self.now < until && until <= self.now.plus(FRESH)).then_some(kept.offers)
    }

    /// Keeps it for a while. That it can't be kept costs time only.
    pub(super) fn write(&self, offers: &[Offer], is_answer: bool) {
        let Some(path) = &self.path else { return };
        let until = self.now.plus(if is_answer { FRESH } else { AFTER_FAILURE });
        let kept = Kept { until_millis: until.as_millis(), offers: offers.to_vec() };
        let written = || -> Option<()> {
            files::create_private_folder(path.parent()?).ok()?;
            files::write(path, &serde_json::to_vec(&kept).ok()?, Access::Secret).ok()
        };
        let _ = written();
    }
}
