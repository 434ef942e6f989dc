//! `completion`: what has a shell ask this program to complete its lines. What is offered is `complete`'s business.

use airunner_core::Error;
use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use crate::{cli, complete, failure::Result, report::Report};

/// Print what makes a shell complete commands, options and what there is: principals, serial numbers, jobs.
///
/// For bash, in ~/.bashrc: source <(airunner-cli completion bash). For zsh, in ~/.zshrc behind compinit: source
/// <(airunner-cli completion zsh). For fish, in ~/.config/fish/config.fish: airunner-cli completion fish | source. The
/// server is asked as commands ask it, for less than a second, and not again within 30 s.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// GNU Bash
    Bash,
    /// Zsh
    Zsh,
    /// fish
    Fish,
    /// Elvish
    Elvish,
    /// Microsoft `PowerShell`
    #[value(name = "powershell")]
    Power,
}

impl CompletionArgs {
    pub(crate) fn run(&self) -> Result<Report> {
        let value = self.shell.to_possible_value();
        let name = value.as_ref().map_or("bash", |value| value.get_name());
        let shells = Shells::builtins();
        let shell = shells.completer(name).ok_or_else(|| Error::internal("a shell that is not there"))?;
        let mut script = Vec::new();
        shell
            .write_registration(complete::VARIABLE, cli::NAME, cli::NAME, &program(), &mut script)
            .map_err(Error::internal)?;
        Ok(Report::raw(String::from_utf8_lossy(&script)))
    }
}

/// How the shell finds this program again: as it was found now.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    match called.to_str() {
        Some(called) if !called.contains('/') => called.to_owned(),
        _ => std::env::current_exe()
            .ok()
            .and_then(|path| path.into_os_string().into_string().ok())
            .unwrap_or_else(|| cli::NAME.to_owned()),
    }
}
