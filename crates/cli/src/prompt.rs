//! Questions to whoever sits at the terminal. What is asked, and what a no means, is the commands' business.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
};

use airunner_core::{Error, Label, Secret};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::task::spawn_blocking;

use crate::{
    failure::{Failure, Result},
    report::visible,
};

/// Whether there is someone to ask.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a secret at the terminal, without showing what is typed.
///
/// # Errors
/// `file` where there is no terminal; usage where nothing was typed.
pub(crate) async fn secret(question: &str) -> Result<Secret> {
    let terminal = Terminal::open()?;
    // Before the question is there: who answers fast must not be shown either.
    terminal.hide()?;
    let question = format!("{question}: ");
    let (from, to) = (terminal.file.try_clone(), terminal.file.try_clone());
    // Nothing that goes on when this is given up in the middle may touch the settings: they would be the last ones.
    let typed = blocking(move || {
        to?.write_all(question.as_bytes())?;
        let mut typed = String::new();
        match BufReader::new(from?).read_line(&mut typed)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(typed),
        }
    });
    let typed = typed.await?;
    match typed.trim() {
        "" => Err(Failure::Usage("nothing was typed".to_owned())),
        trimmed if trimmed.len() == typed.len() => Ok(Secret::new(typed.into_bytes())),
        trimmed => {
            let secret = Secret::new(trimmed.as_bytes().to_vec());
            // Wipes what was typed around it.
            drop(Secret::new(typed.into_bytes()));
            Ok(secret)
        }
    }
}

/// Lets a person look once more at what is about to be hit. `assumed` is the option `--yes`.
///
/// # Errors
/// [`Failure::Declined`]; usage where nobody can be asked and `assumed` is not set.
pub(crate) async fn confirm(question: &str, assumed: bool) -> Result<()> {
    if assumed {
        return Ok(());
    }
    if !is_possible() {
        return Err(Failure::Usage(format!(
            "{question} There is no terminal to ask at: repeat it with --yes if that is what you want"
        )));
    }
    let _terminal = Terminal::open()?;
    let mut line = io::stderr().lock();
    let _ = write!(line, "{} [y/N] ", visible(question));
    drop(line);
    let answer = blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    })
    .await?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Declined),
    }
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let read = spawn_blocking(read).await.map_err(Error::internal)?;
    read.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => Failure::Interrupted,
        _ => unusable(&error),
    })
}

/// The terminal, which gets its settings back when this is dropped: also where the prompt is given up in the middle.
struct Terminal {
    file: File,
    settings: Termios,
}

impl Terminal {
    fn open() -> Result<Self> {
        let file =
            File::options().read(true).write(true).open("/dev/tty").map_err(|error| unusable(&error))?;
        let settings = tcgetattr(&file).map_err(|error| unusable(&error.into()))?;
        Ok(Self { file, settings })
    }

    /// Shows no more what is typed, but for the end of the line.
    fn hide(&self) -> Result<()> {
        let mut hidden = self.settings.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&self.file, OptionalActions::Now, &hidden).map_err(|error| unusable(&error.into()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no settings.
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.settings);
    }
}

fn unusable(error: &io::Error) -> Failure {
    let message = format!(
        "there is no terminal to ask at ({error}): give the answer in a file or a variable, see --help of the command"
    );
    Error::new(Label::File, message).into()
}
