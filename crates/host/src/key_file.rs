//! placeholder
use airunner_core::{Result, Secret};
/// x
pub fn read(path: &std::path::Path) -> Result<Secret> {
    Ok(Secret::new(std::fs::read(path).map_err(airunner_core::Error::internal)?))
}
