//! Step 2: the server's certificate, in two files or, where servers look for it there, in two parameters of SSM.

use airunner_app::{App, Settings, bootstrap::Step};
use airunner_core::Result;
use airunner_pki::PrivateKey;

use super::{
    Credentials, Work, margin,
    pair::{self, Found},
};
use crate::{
    Home, PairFiles,
    open::{server_addresses, server_names},
};

impl Work<'_> {
    pub(super) async fn server(&mut self, app: &App) -> Result<Credentials> {
        let (step, found) = self.find_server(app).await?;
        let paths = self.server_files();
        if let Some(found) = found {
            paths.as_ref().map(pair::forget_pending).transpose()?;
            self.report_server(step, &found)?;
            return Ok(found);
        }
        let config = self.ground.config;
        let key = match self.parameters() {
            // It is on no disk: an interrupted run makes another.
            Some(_) => PrivateKey::generate(self.algorithm())?,
            None => pair::pending_key(paths.as_ref(), self.passphrase(), self.algorithm())?,
        };
        let issued = app.issue_server(&key, &server_names(config), &server_addresses(config)).await?;
        if let Some(paths) = &paths {
            pair::settle(paths, &issued.chain)?;
        }
        let made = Credentials { chain: issued.chain, key, not_after: issued.not_after };
        self.report_server(step, &made)?;
        Ok(made)
    }

    /// The certificate, if it is to stay; else whether another one is in the way.
    pub(super) async fn find_server(&self, app: &App) -> Result<(Step, Option<Credentials>)> {
        let found = match (self.parameters(), self.server_files()) {
            (Some(_), _) => self.read_parameters().await?,
            (None, Some(paths)) => pair::read(&paths, self.passphrase(), self.ground.config.ca().oid_arc())?,
            (None, None) => return Ok((Step::Made, None)),
        };
        let config = self.ground.config;
        match found {
            Found::Pair(found)
                if !self.plan.force
                    && found.key.algorithm() == self.algorithm()
                    && app.is_server_good_for(
                        &found.chain[0],
                        &server_names(config),
                        &server_addresses(config),
                        margin(Settings::MAX_VALIDITY),
                    ) =>
            {
                Ok((Step::Found, Some(found)))
            }
            other => Ok((other.step(), None)),
        }
    }

    fn server_files(&self) -> Option<PairFiles> {
        if self.parameters().is_some() { None } else { self.ground.home.map(Home::server) }
    }

    fn report_server(&mut self, step: Step, server: &Credentials) -> Result<()> {
        let config = self.ground.config;
        let names = server_names(config).into_iter().map(|name| name.to_string());
        let addresses = server_addresses(config).into_iter().map(|address| address.to_string());
        let all: Vec<String> = names.chain(addresses).collect();
        let detail = format!("{}, {}", all.join(", "), pair::until(server.not_after));
        self.report(super::SERVER, step, detail)
    }
}
