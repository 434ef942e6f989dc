//! Writes docs/openapi.json to standard output: `make docs-generate`.

use std::io::{self, Write as _};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = airunner_server::openapi::text()?;
    Ok(io::stdout().write_all(text.as_bytes())?)
}
