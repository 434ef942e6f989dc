//! Questions on the terminal: secrets without echo, and yes or no. Ctrl-C at any of them leaves the terminal as it was.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::Path,
};

use airunner_core::{Label, Secret};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::{Result, context::block_on, failure::Failure};

/// Bytes of a secret that is read from standard input, at most.
const MAX_SECRET: u64 = 64 * 1024;

/// Asks for a secret on the terminal, without echo.
///
/// # Errors
/// Usage where there is no terminal, naming `otherwise`: how else the secret can be given. Interrupted by Ctrl-C.
pub(crate) fn secret(question: &str, otherwise: &str) -> Result<Secret> {
    let Some(terminal) = Terminal::open() else {
        return Err(Failure::Usage(format!("there is no terminal to ask for it on: {otherwise}")));
    };
    let question = format!("{question}: ");
    let answer = terminal.ask(move || rpassword::prompt_password(question))?;
    if answer.is_empty() {
        return Err(Failure::Usage(format!("nothing was entered: {otherwise}")));
    }
    Ok(Secret::new(answer.into_bytes()))
}

/// Reads a secret: from a file that is closed to others, or from standard input where `path` is `-`. White space at
/// both ends is not part of it.
pub(crate) fn secret_from(path: &Path) -> Result<Secret> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::with_capacity(4096);
        io::Read::read_to_end(&mut io::Read::take(io::stdin().lock(), MAX_SECRET), &mut bytes)?;
        return Ok(trimmed(&Secret::new(bytes)));
    }
    let found = airunner_host::files::read_secret(path)?;
    found
        .as_ref()
        .map(trimmed)
        .ok_or_else(|| Failure::new(Label::File, format!("there is no file {}", path.display())))
}

fn trimmed(secret: &Secret) -> Secret {
    Secret::new(secret.expose().trim_ascii().to_vec())
}

/// Makes sure that a destructive act is meant: asks on a terminal; where there is none, `--yes` must have been given.
///
/// # Errors
/// Usage without a terminal; `Interrupted` where the answer is no.
pub(crate) fn confirm(what: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let terminal = if io::stdin().is_terminal() { Terminal::open() } else { None };
    let Some(terminal) = terminal else {
        return Err(Failure::Usage(format!("this would {what}: add --yes to do it without being asked")));
    };
    let question = format!("This will {what}. Go on? [y/N] ");
    let answer = terminal.ask(move || {
        let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
        terminal.write_all(question.as_bytes())?;
        let mut line = String::new();
        BufReader::new(terminal).read_line(&mut line)?;
        Ok(line)
    })?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Label::InvalidArgument, "nothing was done")),
    }
}

/// The controlling terminal, as it was before anything was asked.
struct Terminal {
    file: File,
    before: Termios,
}

impl Terminal {
    fn open() -> Option<Self> {
        let file = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let before = tcgetattr(&file).ok()?;
        Some(Self { file, before })
    }

    /// Asks, while listening for Ctrl-C and TERM: by default they would end the process with the echo still off.
    fn ask(&self, question: impl FnOnce() -> io::Result<String> + Send + 'static) -> Result<String> {
        block_on(async {
            let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                biased;
                _ = interrupt.recv() => self.leave(130),
                _ = terminate.recv() => self.leave(143),
                answer = tokio::task::spawn_blocking(question) => {
                    match answer.map_err(airunner_core::Error::internal)? {
                        Ok(answer) => Ok(answer),
                        // What the prompt makes of Ctrl-C while the terminal's own handling of it is off.
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => self.leave(130),
                        Err(error) => Err(Failure::new(Label::File, format!("the terminal can't be read: {error}"))),
                    }
                }
            }
        })
    }

    /// The thread that waits for an answer can't be called off, so the process ends here.
    fn leave(&self, code: i32) -> ! {
        // Nothing can be done about a terminal that is gone.
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.before);
        let _ = (&self.file).write_all(b"\n");
        std::process::exit(code)
    }
}
