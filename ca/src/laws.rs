//! What holds for any certification request whatever. Tests and the fuzzer call it.

#![expect(clippy::panic, reason = "a broken law ends the test")]

use rcgen::PublicKeyData as _;

use crate::csr;

/// More than any message needs.
const LONGEST_MESSAGE: usize = 400;

/// A request is refused with a reason of one line, or is for a key that stands in it, which is readable again as it is.
pub fn any_request(der: &[u8]) {
    match csr::check(der) {
        Err(error) => {
            let message = error.to_string();
            let is_line = !message.is_empty() && !message.chars().any(char::is_control);
            if !is_line || message.len() > LONGEST_MESSAGE {
                panic!("a reason is one line: {message:?}");
            }
        }
        Ok(proved) => {
            let spki = proved.public_key().subject_public_key_info();
            if !der.windows(spki.len()).any(|window| window == spki) {
                panic!("the key to certify is not the one of the request");
            }
        }
    }
}
