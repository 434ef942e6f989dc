//! What a bootstrap would do: the same looks, and no act.

use airunner_app::bootstrap::Step;
use airunner_core::Result;

use super::{ADMIN, ADMIN_CERTIFICATE, AUTHORITY, Ground, Outcome, Plan, SERVER, StepReport, UPLOAD, Work};
use crate::Home;

/// The steps of [`super::run`] as they would come out.
pub(crate) async fn foresee(ground: Ground<'_>, plan: &Plan) -> Result<Vec<StepReport>> {
    let there = ground.stores.issuers.list_issuers().await?;
    let mut work = Work { ground, plan, steps: Vec::new(), warnings: Vec::new() };
    work.check_there(&there)?;
    if there.is_empty() || plan.force_new_ca {
        let is_new = there.is_empty();
        let replaced = |is_there: bool| if is_there { Step::Replaced } else { Step::Made };
        work.report(AUTHORITY, replaced(!is_new), "")?;
        let home = work.ground.home;
        let has = |cert: Option<std::path::PathBuf>| replaced(cert.is_some_and(|cert| cert.exists()));
        let server = match work.parameters() {
            None => has(home.map(|home| home.server().cert)),
            Some(_) => work.read_parameters().await?.step(),
        };
        work.report(SERVER, server, "")?;
        work.foresee_admin().await?;
        work.report(ADMIN_CERTIFICATE, has(home.map(Home::admin).map(|admin| admin.cert)), "")?;
        work.foresee_upload(true)?;
        return Ok(work.steps);
    }
    let app = work.open_app().await?;
    work.report(AUTHORITY, Step::Found, "")?;
    let (server, _) = work.find_server(&app).await?;
    work.report(SERVER, server, "")?;
    work.foresee_admin().await?;
    let (step, _) = work.find_admin_certificate(&app).await?;
    work.report(ADMIN_CERTIFICATE, step, "")?;
    work.foresee_upload(server != Step::Found)?;
    Ok(work.steps)
}

impl Work<'_> {
    async fn foresee_admin(&mut self) -> Result<()> {
        let found = self.ground.stores.principals.get_principal(&self.plan.admin).await?;
        let step = if found.is_some() { Step::Found } else { Step::Made };
        self.report(ADMIN, step, self.plan.admin.to_string())
    }

    fn foresee_upload(&mut self, is_due: bool) -> Result<()> {
        let outcome = match self.parameters() {
            None => Outcome::NotNeeded,
            Some(_) if is_due => Outcome::Uploaded,
            Some(_) => Outcome::Found,
        };
        self.report(UPLOAD, outcome, "")
    }
}
