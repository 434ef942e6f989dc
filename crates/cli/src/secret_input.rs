//! Where secrets come from: a file, standard input, a variable or a prompt; never an argument. What they are for is not
//! known here.

use std::{
    io::{self, Read},
    path::Path,
};

use airunner_core::{Error, Label, Secret};
use airunner_host::files;

use crate::{
    context::Environment,
    failure::{Failure, Result},
    prompt,
};

/// Bytes of a secret at most.
const MAX_LEN: u64 = 64 * 1024;

/// The first line of a file that is closed to others.
///
/// # Errors
/// `file`.
pub(crate) fn first_line(path: &Path) -> Result<Secret> {
    Ok(files::read_passphrase(path)?)
}

/// An enrolment token: from the file (`-` is standard input), else the variable, else the prompt.
///
/// # Errors
/// `file`; usage where none of them has one.
pub(crate) async fn enrollment(file: Option<&Path>, environment: &Environment) -> Result<Secret> {
    const VARIABLE: &str = "AIRUNNER_ENROLL_TOKEN";
    let text = match file {
        Some(path) if path == Path::new("-") => whole(&mut io::stdin().lock(), "standard input")?,
        Some(path) => {
            let name = path.display().to_string();
            let unreadable = |error| Error::new(Label::File, format!("can't read {name}: {error}"));
            whole(&mut std::fs::File::open(path).map_err(unreadable)?, &name)?
        }
        None => match environment.variable(VARIABLE) {
            Some(text) => Secret::new(text.into_bytes()),
            None if prompt::is_possible() => prompt::secret("Enrolment token").await?,
            None => {
                return Err(Failure::Usage(format!(
                    "there is no terminal to ask at: give the token with --token-file FILE (- is standard input) or in \
                     {VARIABLE}"
                )));
            }
        },
    };
    let trimmed = text.expose().trim_ascii();
    if trimmed.is_empty() {
        return Err(Failure::Usage("the token is empty".to_owned()));
    }
    Ok(Secret::new(trimmed.to_vec()))
}

fn whole(from: &mut impl Read, name: &str) -> Result<Secret> {
    let mut bytes = Vec::with_capacity(4_096);
    let read = from.take(MAX_LEN).read_to_end(&mut bytes);
    let secret = Secret::new(bytes);
    read.map_err(|error| Error::new(Label::File, format!("can't read {name}: {error}")))?;
    Ok(secret)
}
