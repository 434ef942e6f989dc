//! PEM (RFC 7468): which blocks a text has, strictly, and certificates in and out. Keys are opened in `key_file`.

use airunner_core::{Error, Result};
use data_encoding::BASE64;
use zeroize::Zeroizing;

/// Bytes of PEM at most: more than any trust bundle has.
const MAX_LEN: usize = 1 << 20;

/// The certificates of a PEM text, as DER, in their order. Text before a block is skipped (RFC 7468 section 5.2).
///
/// # Errors
/// `invalid-argument` (field `certificate`) if there is no certificate, a block of another type (which is named), an
/// unreadable block, anything but white space after the last, or more than 1 MiB.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>> {
    let refuse = |message: String| Error::invalid("certificate", message);
    let blocks = blocks(pem).map_err(refuse)?;
    let decode_certificate = |block: &Block<'_>| match block.label {
        "CERTIFICATE" => block.decode().map(|der| der.to_vec()).map_err(refuse),
        other => Err(refuse(format!("the PEM text has a block {other:?} where a CERTIFICATE is wanted"))),
    };
    blocks.iter().map(decode_certificate).collect()
}

/// The PEM form of a certificate: lines of 64 characters, with a newline at the end.
pub fn certificate_to_pem(der: &[u8]) -> String {
    encode("CERTIFICATE", der)
}

/// The PEM form of anything. The text is allocated once, so that a key leaves no copy behind.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let (begin, end) = (format!("-----BEGIN {label}-----\n"), format!("-----END {label}-----\n"));
    let body = der.len().div_ceil(3) * 4;
    let mut pem = String::with_capacity(begin.len() + body + body.div_ceil(64) + end.len());
    pem.push_str(&begin);
    // 48 bytes are the 64 characters of a line.
    for line in der.chunks(48) {
        BASE64.encode_append(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str(&end);
    pem
}

/// One PEM block, not yet decoded.
pub(crate) struct Block<'a> {
    /// The words after BEGIN.
    pub(crate) label: &'a str,
    /// From the BEGIN line to the END line.
    pub(crate) text: &'a str,
}

impl Block<'_> {
    /// The block's bytes; otherwise a sentence. Wiped when dropped, since they may be a key.
    pub(crate) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let frame = self.label.len() + "-----BEGIN -----".len();
        let body = &self.text[frame..self.text.len() - (self.label.len() + "-----END -----".len())];
        let base64: Zeroizing<Vec<u8>> =
            Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
        let decoded = BASE64.decode(&base64);
        decoded
            .map(Zeroizing::new)
            .map_err(|_| format!("the PEM block {:?} is not base64 between its lines", self.label))
    }
}

/// The blocks of a PEM text, at least one; otherwise a sentence that says what is wrong with it.
pub(crate) fn blocks(pem: &[u8]) -> Result<Vec<Block<'_>>, String> {
    if pem.len() > MAX_LEN {
        return Err(format!("the PEM text is longer than {MAX_LEN} bytes"));
    }
    let text = std::str::from_utf8(pem).map_err(|_| "this is not PEM text".to_owned())?;
    let (mut blocks, mut rest) = (Vec::new(), text);
    while let Some(start) = rest.find("-----BEGIN ") {
        let block = &rest[start..];
        let label = block["-----BEGIN ".len()..].split("-----").next().unwrap_or_default();
        let label_fits = label.len() <= 64 && label.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if !label_fits {
            return Err("a BEGIN line of the PEM text does not end".to_owned());
        }
        let end = format!("-----END {label}-----");
        let Some(at) = block.find(&end) else {
            return Err(format!("the PEM block {label:?} has no END line"));
        };
        let (block, tail) = block.split_at(at + end.len());
        if block["-----BEGIN ".len()..].contains("-----BEGIN ") {
            return Err(format!("the PEM block {label:?} has no END line before the next begins"));
        }
        blocks.push(Block { label, text: block });
        rest = tail;
    }
    match blocks.is_empty() {
        true => Err("there is no PEM block (no line -----BEGIN …-----)".to_owned()),
        false if !rest.trim().is_empty() => Err("there is something after the last PEM block".to_owned()),
        false => Ok(blocks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_survive_their_pem() {
        let der: Vec<u8> = (0..=255).collect();
        let pem = certificate_to_pem(&der);
        assert!(pem.lines().all(|line| line.len() <= 64));
        assert_eq!(certificates_from_pem(pem.as_bytes()).unwrap(), std::slice::from_ref(&der));
        assert_eq!(
            certificates_from_pem(format!("# root\n{pem}\r\n{pem}").as_bytes()).unwrap(),
            [der.clone(), der]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong_end = BLOCK.replace("END CERTIFICATE", "END X");
        let key = BLOCK.replace("CERTIFICATE", "PRIVATE KEY");
        let garbage = BLOCK.replace("AQID", "A*ID");
        for (text, said) in [
            (String::new(), "no PEM block"),
            ("hello".to_owned(), "no PEM block"),
            (format!("{BLOCK}x"), "after the last"),
            (wrong_end.clone(), "no END line"),
            (format!("{wrong_end}{BLOCK}"), "no END line"),
            (key, "\"PRIVATE KEY\""),
            (garbage, "not base64"),
            ("-----BEGIN A\nB-----".to_owned(), "does not end"),
        ] {
            let error = certificates_from_pem(text.as_bytes()).unwrap_err();
            assert!(error.message().contains(said), "{text:?}: {error}");
            assert_eq!(error.field(), Some("certificate"));
        }
        assert!(certificates_from_pem(&[0xff, 0xfe]).is_err());
        assert!(certificates_from_pem(&vec![b' '; MAX_LEN + 1]).is_err());
    }
}
