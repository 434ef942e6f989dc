//! `airunner-server db`: what is done to a store by hand, past every server, by whoever may read and write it. What
//! each does is `airunner-app`'s; here a person is told and asked.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    sync::Arc,
};

use airunner_app::clock_reset::{ClockReset, Excerpt};
use airunner_core::{Clock, Error, Label, Result, Stores};
use airunner_host::{Cloud, Config, config::Backend, open_stores};
use airunner_net::system::SystemRandom;
use clap::Subcommand;
use tokio::task::spawn_blocking;

/// What can be done to a store.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Set the newest time in the store to this machine's clock, where a wrong one was written
    ClockReset {
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

/// Does it, over the store that `config` names. Servers may run meanwhile.
///
/// # Errors
/// `config` for a memory store; `invalid-argument` where nobody can be asked and `--yes` is not given; what the store
/// says.
pub async fn run(command: &DbCommand, config: &Config, clock: Arc<dyn Clock>) -> Result<()> {
    if config.store().backend() == Backend::Memory {
        return Err(Error::new(Label::Config, "a memory store is its server's own: start that anew instead"));
    }
    if config.store().backend() == Backend::Sqlite && !config.store().path().exists() {
        let path = config.store().path().display();
        return Err(Error::new(Label::File, format!("there is no store {path}: bootstrap makes it")));
    }
    let cloud = Cloud::of(config).await?;
    let stores = open_stores(config, cloud.as_ref(), Arc::new(SystemRandom::new())).await?;
    let done = match command {
        DbCommand::ClockReset { yes } => clock_reset(stores.stores(), &*clock, *yes).await,
    };
    blocking(move || {
        stores.close();
        Ok(())
    })
    .await?;
    done
}

async fn clock_reset(stores: &Stores, clock: &dyn Clock, yes: bool) -> Result<()> {
    let Some(reset) = ClockReset::foresee(stores, clock).await? else {
        return say(
            "The newest time in the store is not ahead of this machine's clock: there is nothing to set.",
        );
    };
    say(&described(&reset))?;
    confirm("Set the newest time in the store to this machine's clock?", yes).await?;
    let set = reset.carry_out(stores, clock).await?;
    say(&format!(
        "The newest time in the store is {set} now. Servers that run go on within a few seconds; one that ran while its \
         own clock was wrong keeps its time until it is started anew."
    ))
}

fn described(reset: &ClockReset) -> String {
    let mut text = format!(
        "The newest time in the store: {}\nThis machine's clock:         {}\n",
        reset.highest, reset.now
    );
    let total = reset.certificates.total + reset.tokens.total;
    if total == 0 {
        text.push_str("Nothing that expired in between would count again.");
        return text;
    }
    text.push_str("What expired in between would count again:");
    list(&mut text, &reset.certificates, "certificates", |one| {
        format!("certificate {} of {}, until {}", one.serial, one.principal_id, one.expires_at)
    });
    list(&mut text, &reset.tokens, "enrolment tokens", |one| {
        format!("enrolment token {} for {}, until {}", one.id, one.principal_id, one.expires_at)
    });
    text
}

fn list<T>(text: &mut String, excerpt: &Excerpt<T>, plural: &str, line: impl Fn(&T) -> String) {
    for one in &excerpt.named {
        text.push_str("\n  ");
        text.push_str(&line(one));
    }
    let more = excerpt.total - excerpt.named.len();
    if more > 0 {
        // Writing to a string can't fail.
        let _ = write!(text, "\n  and {more} more {plural}");
    }
}

/// Lets a person look once more at what is about to be done. `assumed` is the option `--yes`.
async fn confirm(question: &'static str, assumed: bool) -> Result<()> {
    if assumed {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Error::invalid(
            "--yes",
            format!(
                "{question} There is no terminal to ask at: repeat it with --yes if that is what you want"
            ),
        ));
    }
    let answer = blocking(move || {
        let _closed = write!(io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(Error::internal)?;
        Ok(answer)
    });
    match answer.await?.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::new(Label::ClockSkew, "nothing was done: the newest time in the store is as it was")),
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(act).await.map_err(Error::internal)?
}

fn say(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").map_err(Error::internal)
}
