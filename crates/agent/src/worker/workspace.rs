//! A directory of one job that belongs to whoever works in it, and goes with the job: its workspace, above all.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, fchown},
    path::{Path, PathBuf},
};

use airunner_core::{Error, Result};
use airunner_exec::RunAs;
use tokio::task::spawn_blocking;

use super::options::failed;

/// A workspace. Whoever made it removes it with [`Workspace::remove`].
#[derive(Clone, Debug)]
pub(super) struct Workspace {
    path: PathBuf,
    user: Option<RunAs>,
}

impl Workspace {
    /// Makes an empty one, which none but `user` can look into.
    pub(super) async fn make(work: &Path, name: String, user: Option<RunAs>) -> Result<Self> {
        let workspace = Self { path: work.join(name), user };
        let made = workspace.clone();
        spawn_blocking(move || {
            let path = &made.path;
            fs::DirBuilder::new().mode(0o700).create(path).map_err(failed("make", path))?;
            let Some(user) = made.user else { return Ok(()) };
            chown(path, Some(user.uid), Some(user.gid)).map_err(failed("give away", path))
        })
        .await
        .map_err(Error::internal)??;
        Ok(workspace)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new file into it, which none but its user reads. What is there already, a link that another process of
    /// that user has put there among it, is an error: this process may be root.
    pub(super) async fn write(&self, name: &str, content: impl Into<Vec<u8>>) -> Result<PathBuf> {
        let (path, user, content) = (self.path.join(name), self.user, content.into());
        let written = path.clone();
        spawn_blocking(move || {
            let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut file = opened.map_err(failed("write", &path))?;
            file.write_all(&content).map_err(failed("write", &path))?;
            let Some(user) = user else { return Ok(()) };
            fchown(&file, Some(user.uid), Some(user.gid)).map_err(failed("give away", &path))
        })
        .await
        .map_err(Error::internal)??;
        Ok(written)
    }

    /// Removes it with all that is in it.
    pub(super) async fn remove(self) {
        let path = self.path.clone();
        let removed = spawn_blocking(move || fs::remove_dir_all(&path)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, workspace = %self.path.display(), "a workspace can't be removed; the next start does it");
        }
    }
}
