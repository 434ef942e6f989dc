//! Task tokens: an opaque name of a lease (job, number, MAC), so that a bad batch is refused before the store is
//! asked. What counts is the row; the token is no authority by itself.

use std::fmt;

use airunner_core::{Error, JobId, Result, Secret};
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;

/// Bytes of the MAC that are kept: 128 bits.
const MAC_LEN: usize = 16;
const LEN: usize = 16 + 4 + MAC_LEN;

/// Makes and reads task tokens.
pub struct TaskTokens(hmac::Key);

impl fmt::Debug for TaskTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskTokens")
    }
}

impl TaskTokens {
    pub(crate) fn new(key: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The token of lease `attempt` of `job`.
    pub(crate) fn make(&self, job: JobId, attempt: u32) -> String {
        let mut bytes = body(job, attempt);
        let mac = hmac::sign(&self.0, &bytes);
        bytes.extend_from_slice(&mac.as_ref()[..MAC_LEN]);
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The lease that a token names.
    ///
    /// # Errors
    /// `invalid-argument` for what is not a token of this environment.
    pub(crate) fn read(&self, token: &str) -> Result<(JobId, u32)> {
        let bytes = (token.len() <= 2 * LEN).then(|| BASE64URL_NOPAD.decode(token.as_bytes()).ok()).flatten();
        let bytes = bytes.filter(|bytes| bytes.len() == LEN).ok_or_else(malformed)?;
        let (body, mac) = bytes.split_at(LEN - MAC_LEN);
        let expected = Secret::new(hmac::sign(&self.0, body).as_ref()[..MAC_LEN].to_vec());
        if !expected.matches(mac) {
            return Err(malformed());
        }
        let job: [u8; 16] = body[..16].try_into().map_err(|_| malformed())?;
        let attempt: [u8; 4] = body[16..].try_into().map_err(|_| malformed())?;
        Ok((JobId::from_bytes(job), u32::from_be_bytes(attempt)))
    }
}

fn body(job: JobId, attempt: u32) -> Vec<u8> {
    let mut bytes = job.as_bytes().to_vec();
    bytes.extend_from_slice(&attempt.to_be_bytes());
    bytes
}

fn malformed() -> Error {
    Error::invalid(
        "task_token",
        "this is no task token of this environment: use the one that came with the job",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_lease_and_nothing_else_does() {
        let tokens = TaskTokens::new(&Secret::new(vec![7; 32]));
        let job = JobId::from_bytes([3; 16]);
        let token = tokens.make(job, 2);
        assert_eq!(tokens.read(&token).unwrap(), (job, 2));
        let other = TaskTokens::new(&Secret::new(vec![8; 32]));
        assert!(other.read(&token).is_err());
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert!(tokens.read(std::str::from_utf8(&altered).unwrap()).is_err(), "byte {at}");
        }
    }
}
