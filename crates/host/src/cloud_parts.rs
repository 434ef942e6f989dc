//! The words in which bootstrap speaks of what is in AWS, whether this build can open it or not.

use std::sync::Arc;

use airunner_core::{KeyAlgorithm, Secret, Signer};

/// A key that KMS holds.
pub(crate) struct HeldSigner {
    pub(crate) signer: Arc<dyn Signer>,
    /// Its ARN.
    pub(crate) name: String,
}

/// What is to become of a part that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// An error that names both ways to make it.
    Refuse,
    /// It is made.
    Make,
    /// It is only said that it would be made.
    Foresee,
}

/// What a key in KMS is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeldKey {
    /// Wrapping data keys.
    Master,
    /// Signing by this algorithm.
    Signing(KeyAlgorithm),
}

/// What was found of a parameter or a secret.
pub(crate) enum FoundParameter {
    /// There is none.
    Missing,
    /// It holds nothing of ours yet.
    Placeholder,
    /// This.
    Value(Secret),
}

/// What is to stand in a parameter.
pub(crate) enum UploadValue {
    /// For everyone.
    Plain(Secret),
    /// Encrypted.
    Secure(Secret),
}
