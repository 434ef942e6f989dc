//! Only what was prepared, and so linted, is signed.

use airunner_pki::Prepared;

fn anything(tbs: Vec<u8>, linted: Prepared) -> Prepared {
    Prepared { tbs, ..linted }
}

fn main() {
    let _ = anything;
}
