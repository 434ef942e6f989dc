//! Compiles `proto/` without protoc. The committed descriptor set is made from the same files by
//! `make proto-generate`, and a test compares the two.

use std::{env, error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    // Asked for when it runs: a build that was moved, or is shared by two checkouts, reads its own files.
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true);
    for file in FILES {
        compiler.open_file(file)?;
    }
    // Built from bytes: custom options must survive, and prost's own types would drop them.
    let set = compiler.encode_file_descriptor_set();
    std::fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptor.binpb"), set)?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::BoundedCodec")
        .bytes(".airunner.job.v1.Output.data")
        .bytes(".airunner.job.v1.GetJobOutputResponse.data")
        // Messages with a secret in them: their Debug is written by hand, in redacted.rs.
        .skip_debug([".airunner.ca.v1.EnrollRequest", ".airunner.ca.v1.CreateEnrollmentTokenResponse"])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

include!("src/files.rs");
