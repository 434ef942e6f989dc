//! The floor: what one issuance can't cost less than, in CPU time. One CSR check, one signature, one echo call.

use airunner_core::{KeyAlgorithm, Result};
use airunner_pki::{AcceptedKeys, PrivateKey, create_csr, verify_csr};

use super::{
    BenchArgs, echo,
    load::{Measured, process_cpu},
};

/// Rounds of each measurement.
const ROUNDS: u32 = 5_000;

/// What was measured.
pub(super) struct Floor {
    /// Issuances a second that the machine's CPUs allow.
    pub(super) per_second: f64,
    /// The echo that it rests on.
    pub(super) echo: Measured,
}

/// Measures the floor.
pub(super) async fn run(args: &BenchArgs) -> airunner_client::Result<Floor> {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let csr = create_csr(&key)?;
    let accepted = AcceptedKeys::default();
    let verify = cpu_micros(|| verify_csr(&csr, &accepted).map(drop))?;
    let message = vec![7; 600];
    let sign = cpu_micros(|| key.sign_now(&message).map(drop))?;
    let echo = echo::run(args).await?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 cores")]
    let per_second = cores as f64 * 1e6 / (verify + sign + echo.cpu_micros);
    Ok(Floor { per_second, echo })
}

fn cpu_micros(mut act: impl FnMut() -> Result<()>) -> Result<f64> {
    let before = process_cpu();
    for _ in 0..ROUNDS {
        act()?;
    }
    Ok(process_cpu().saturating_sub(before).as_secs_f64() * 1e6 / f64::from(ROUNDS))
}
