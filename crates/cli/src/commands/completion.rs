//! `completion`: generated from the definition of the command line.

use clap::Args;
use clap_complete::{Shell, generate};

use crate::{cli, report::Report};

/// Print the completion for a shell, as for bash: airunner-cli completion bash > ~/.local/share/bash-completion/completions/airunner-cli
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

impl CompletionArgs {
    pub(crate) fn run(&self) -> Report {
        let mut script = Vec::new();
        generate(self.shell, &mut cli::definition(), cli::NAME, &mut script);
        Report::raw(String::from_utf8_lossy(&script))
    }
}
