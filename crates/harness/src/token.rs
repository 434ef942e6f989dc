//! The text of enrolment tokens.

use airunner_core::{EnrollmentId, EnrollmentTokenText, Fingerprint, Label};

use crate::refusal;

/// A token's text. There is one text for each token, what is refused is not repeated, and its `Debug` holds no secret.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = match EnrollmentTokenText::parse(text) {
        Ok(read) => read,
        Err(error) => {
            refusal::holds(&error, &[Label::TokenInvalid]);
            let sentence = EnrollmentTokenText::parse("").expect_err("no token").message().to_owned();
            assert_eq!(error.message(), sentence, "a refusal that depends on the text may repeat it");
            return;
        }
    };
    assert_eq!(read.expose(), text.trim(), "two texts of one token");
    EnrollmentTokenText::check_address(&read.address).expect("the address of a token that was read");
    let shown = format!("{read:?}");
    assert!(!shown.contains("aet1_") && shown.contains(&read.id.to_string()), "{shown}");
    let secret: &[u8; 32] = read.secret().expose().try_into().expect("a secret of 32 bytes");
    let again = EnrollmentTokenText::new(read.id, secret, &read.address, read.root);
    assert_eq!(again.expose(), read.expose());
}

/// Tokens for a name, an address and an IPv6 address.
pub fn seeds() -> Vec<Vec<u8>> {
    let token = |address: &str| {
        let (id, root) = (EnrollmentId::from_bytes([1; 16]), Fingerprint::from_bytes([3; 32]));
        EnrollmentTokenText::new(id, &[2; 32], address, root).expose().into_bytes()
    };
    ["localhost:8444", "192.0.2.1:1", "[2001:db8::1]:65535"].map(token).into()
}
