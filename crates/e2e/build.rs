//! Generates, with the code generator of the Connect project, its own client of our principals: what the tests call the
//! server with.

use std::{env, error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto/descriptor.binpb");
    println!("cargo:rerun-if-changed={}", descriptors.display());
    connectrpc_build::Config::new()
        .descriptor_set(descriptors)
        .files(&["airunner/principal/v1/principal.proto"])
        .include_file("connect.rs")
        .compile()?;
    Ok(())
}
