//! Writes the descriptor set to standard output: `make proto-generate`.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(airunner_proto::DESCRIPTOR_SET)
}
