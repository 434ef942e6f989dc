//! One preparation, one signature.

use airunner_core::Signer;
use airunner_pki::{Prepared, SignedCertificate};

async fn twice(prepared: Prepared, signer: &dyn Signer) -> [SignedCertificate; 2] {
    [prepared.sign(signer).await.unwrap(), prepared.sign(signer).await.unwrap()]
}

fn main() {
    let _ = twice;
}
