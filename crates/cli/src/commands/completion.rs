//! `completion` and `man`: made of the same definition as the parser.

use std::path::{Path, PathBuf};

use airunner_core::Error;
use airunner_host::files::{self, Access};
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use crate::{
    Result,
    context::Context,
    report::{Human, Report},
};

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print or write the manual pages.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for every command into this folder; without it, the main page is printed
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
}

impl CompletionArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "airunner-cli", &mut script);
        context.console().write(&script)?;
        Ok(Report::nothing())
    }
}

impl ManArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        let mut command = Cli::command();
        command.build();
        let Some(folder) = self.output_dir else {
            context.console().write(&page(&command)?)?;
            return Ok(Report::nothing());
        };
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|error| {
            Error::new(airunner_core::Label::File, format!("{}: {error}", folder.display()))
        })?;
        let mut written = Vec::new();
        write_pages(&folder, &command, "airunner-cli", &mut written)?;
        let text = written.join("\n");
        Ok(Report::new(serde_json::json!({ "pages": written }), Human::Text(text)))
    }
}

fn write_pages(folder: &Path, command: &Command, name: &str, written: &mut Vec<String>) -> Result<()> {
    let path = folder.join(format!("{name}.1"));
    files::write(&path, &page(command)?, Access::Public)?;
    written.push(path.display().to_string());
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_pages(folder, inner, &format!("{name}-{}", inner.get_name()), written)?;
    }
    Ok(())
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}
