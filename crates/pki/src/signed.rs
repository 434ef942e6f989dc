//! The frame around what is signed, which certificates and requests share: SEQUENCE { signed, algorithm, signature }
//! (RFC 5280 section 4.1.1, RFC 2986 section 4.2). Nothing here looks into what is signed.

/// The DER of the frame around `signed`, with `algorithm` as DER and `signature` as the BIT STRING's bits.
pub(crate) fn assemble(signed: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut bit_string = Vec::with_capacity(8);
    push_header(&mut bit_string, 0x03, signature.len() + 1);
    bit_string.push(0);
    let len = signed.len() + algorithm.len() + bit_string.len() + signature.len();
    let mut der = Vec::with_capacity(len + 8);
    push_header(&mut der, 0x30, len);
    for part in [signed, algorithm, &bit_string, signature] {
        der.extend_from_slice(part);
    }
    der
}

/// Tag and definite length of the shortest form (X.690 section 10.1).
fn push_header(der: &mut Vec<u8>, tag: u8, len: usize) {
    der.push(tag);
    let bytes = len.to_be_bytes();
    let significant = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1)..];
    if len >= 0x80 {
        // A length has 8 bytes at most.
        der.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
    }
    der.extend_from_slice(significant);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_der() {
        for (len, expected) in [
            (0, &[0x30, 0][..]),
            (0x7f, &[0x30, 0x7f]),
            (0x80, &[0x30, 0x81, 0x80]),
            (0x1234, &[0x30, 0x82, 0x12, 0x34]),
        ] {
            let mut der = Vec::new();
            push_header(&mut der, 0x30, len);
            assert_eq!(der, expected);
        }
    }

    #[test]
    fn the_parts_stand_in_their_order() {
        assert_eq!(assemble(&[0x30, 0], &[5, 0], &[9]), [0x30, 8, 0x30, 0, 5, 0, 3, 2, 0, 9]);
    }
}
