//! `man`: manual pages, generated from the definition of the command line.

use std::path::PathBuf;

use airunner_core::{Error, Label};
use airunner_host::files::{self, Access};
use clap::Args;
use clap_mangen::Man;

use crate::{cli, failure::Result, report::Report};

/// Print this program's manual page, or write one for each command.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write airunner-cli.1 and one page for each command into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl ManArgs {
    pub(crate) fn run(&self) -> Result<Report> {
        let mut definition = cli::definition().disable_help_subcommand(true);
        definition.build();
        let Some(folder) = &self.dir else {
            return Ok(Report::raw(String::from_utf8_lossy(&page(&definition)?)));
        };
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::new(Label::File, format!("can't make {}: {error}", folder.display())))?;
        let count = write_pages(&definition, cli::NAME, folder)?;
        Ok(Report::raw(format!("{count} pages written to {}\n", folder.display())))
    }
}

/// Writes the page of a command and of those below it; returns how many.
fn write_pages(command: &clap::Command, name: &str, folder: &std::path::Path) -> Result<usize> {
    let page = page(command)?;
    files::write(&folder.join(format!("{name}.1")), &page, Access::Public)?;
    let mut count = 1;
    for below in command.get_subcommands() {
        count += write_pages(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    Ok(count)
}

fn page(command: &clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page).map_err(Error::internal)?;
    Ok(page)
}
