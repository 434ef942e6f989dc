//! Key exchange over secp521r1 (RFC 8446 section 4.2.8.2), which rustls's provider lacks. No other curve stands here.

use aws_lc_rs::{
    agreement::{ECDH_P521, EphemeralPrivateKey, PublicKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
};
use rustls::{
    Error, NamedGroup, PeerMisbehaved,
    crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup},
};

/// First byte of an uncompressed point (SEC 1 section 2.3.3), the one form that TLS 1.3 allows.
const UNCOMPRESSED: u8 = 0x04;

/// Ephemeral Diffie-Hellman on secp521r1.
pub(crate) static SECP521R1: &dyn SupportedKxGroup = &Secp521r1;

#[derive(Debug)]
struct Secp521r1;

impl SupportedKxGroup for Secp521r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private =
            EphemeralPrivateKey::generate(&ECDH_P521, &SystemRandom::new()).map_err(|_| GetRandomFailed)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct Exchange {
    private: EphemeralPrivateKey,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // aws-lc would take a compressed point too.
        if peer.first() != Some(&UNCOMPRESSED) {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let peer = UnparsedPublicKey::new(&ECDH_P521, peer);
        agree_ephemeral(self.private, peer, PeerMisbehaved::InvalidKeyShare.into(), |secret| {
            Ok(SharedSecret::from(secret))
        })
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sides_agree() {
        let (ours, theirs) = (SECP521R1.start().unwrap(), SECP521R1.start().unwrap());
        let (our_share, their_share) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
        let our_secret = ours.complete(&their_share).unwrap();
        let their_secret = theirs.complete(&our_share).unwrap();
        assert_eq!(our_secret.secret_bytes(), their_secret.secret_bytes());
        assert_eq!(our_secret.secret_bytes().len(), 66);
    }

    #[test]
    fn shares_that_are_no_uncompressed_point_on_the_curve_are_refused() {
        let point = SECP521R1.start().unwrap().pub_key().to_vec();
        let mut compressed = point[..67].to_vec();
        compressed[0] = 0x02 | (point[132] & 1);
        let mut off_curve = point.clone();
        off_curve[132] ^= 1;
        for bad in [&[][..], &[UNCOMPRESSED], &compressed, &off_curve, &point[..132]] {
            let outcome = SECP521R1.start().unwrap().complete(bad);
            assert!(outcome.is_err(), "a share of {} bytes was taken", bad.len());
        }
    }
}
