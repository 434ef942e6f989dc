//! A job's workspace: a directory that belongs to whoever the job runs as, and goes with it.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
};

use airunner_core::{Error, Result};
use airunner_exec::RunAs;
use tokio::task::spawn_blocking;

use super::options::failed;

/// A workspace. Its owner removes it with [`Workspace::remove`].
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
            made.give(path)
        })
        .await
        .map_err(Error::internal)??;
        Ok(workspace)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file for the job, before anything of it ran here.
    pub(super) async fn write(&self, name: &str, text: String) -> Result<PathBuf> {
        let (path, workspace) = (self.path.join(name), self.clone());
        let written = path.clone();
        spawn_blocking(move || {
            fs::write(&path, text).map_err(failed("write", &path))?;
            workspace.give(&path)
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

    fn give(&self, path: &Path) -> Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        chown(path, Some(user.uid), Some(user.gid)).map_err(failed("give away", path))
    }
}
