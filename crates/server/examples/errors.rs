//! Writes docs/errors.md to standard output: `make docs-generate`.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(airunner_server::error_catalogue::markdown().as_bytes())
}
