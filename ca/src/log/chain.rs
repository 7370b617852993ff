//! The chain of hashes: each entry's hash covers its record and the hash of the entry before, and so all entries up to it.
//!
//! Version 1. With `||` for "followed by", numbers as 8 bytes, most significant first:
//! ```text
//! hash of nothing  = SHA-256("countersign-issuance-log/1 begin\n" || trust domain)
//! hash of an entry = SHA-256("countersign-issuance-log/1 entry\n" || number of the entry || hash of the entry before
//!                            || length of the record in bytes || record)
//! ```

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use countersign_identity::TrustDomain;

/// The bytes of a hash.
pub(crate) const HASH_BYTES: usize = 32;

/// Where a log ends: the number and the hash of its last entry. Written `NUMBER:HASH`, with the hash in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    sequence: u64,
    hash: [u8; HASH_BYTES],
}

impl Head {
    /// Of a log without entries.
    pub(crate) fn begin(trust_domain: &TrustDomain) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"countersign-issuance-log/1 begin\n");
        context.update(trust_domain.to_string().as_bytes());
        Self::of(0, context)
    }

    /// After one more entry.
    pub(crate) fn next(&self, record: &str) -> Self {
        let sequence = self.sequence.saturating_add(1);
        let mut context = Context::new(&SHA256);
        context.update(b"countersign-issuance-log/1 entry\n");
        context.update(&sequence.to_be_bytes());
        context.update(&self.hash);
        context.update(&(record.len() as u64).to_be_bytes());
        context.update(record.as_bytes());
        Self::of(sequence, context)
    }

    fn of(sequence: u64, context: Context) -> Self {
        let digest = context.finish();
        let mut hash = [0; HASH_BYTES];
        // A SHA-256 has this many bytes.
        for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self { sequence, hash }
    }

    /// What the database has; none if no log has such a head.
    pub(crate) fn from_parts(sequence: i64, hash: &[u8]) -> Option<Self> {
        Some(Self {
            sequence: sequence.try_into().ok()?,
            hash: hash.try_into().ok()?,
        })
    }

    /// The number of the last entry; 0 if there is none.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The same, as the database has it.
    pub(crate) fn row(&self) -> i64 {
        i64::try_from(self.sequence).unwrap_or(i64::MAX)
    }

    /// The hash of the last entry.
    pub(crate) fn hash(&self) -> &[u8; HASH_BYTES] {
        &self.hash
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, hex::encode(self.hash))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected NUMBER:HASH, with 64 hexadecimal digits, as `countersign-ca log verify` prints it"
)]
pub(crate) struct NoHead;

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let (sequence, hash) = text.trim().split_once(':').ok_or(NoHead)?;
        let mut bytes = [0; HASH_BYTES];
        hex::decode_to_slice(hash, &mut bytes).map_err(|_| NoHead)?;
        Ok(Self {
            sequence: sequence.parse().map_err(|_| NoHead)?,
            hash: bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn begin() -> Head {
        Head::begin(&TrustDomain::parse("shop.example").unwrap())
    }

    /// The encoding is a promise: who verifies a log later, with other tools, computes the same.
    #[test]
    fn version_1_is_as_documented() {
        let sha256 =
            |parts: &[&[u8]]| hex::encode(aws_lc_rs::digest::digest(&SHA256, &parts.concat()));
        let begin_hash = sha256(&[b"countersign-issuance-log/1 begin\nshop.example"]);
        assert_eq!(begin().to_string(), format!("0:{begin_hash}"));
        assert_eq!(
            begin_hash,
            "68f7285704eb3c28cd7f08b170050b306275b2805a2c2acf9f7aa6c5c27eeb03"
        );
        let entry = sha256(&[
            b"countersign-issuance-log/1 entry\n",
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &hex::decode(begin_hash).unwrap(),
            &[0, 0, 0, 0, 0, 0, 0, 2],
            b"{}",
        ]);
        assert_eq!(begin().next("{}").to_string(), format!("1:{entry}"));
    }

    #[test]
    fn every_part_counts() {
        let other = Head::begin(&TrustDomain::parse("other.example").unwrap());
        let heads = [
            begin(),
            other,
            begin().next("a"),
            begin().next("b"),
            other.next("a"),
            begin().next("").next("a"),
            begin().next("a").next(""),
            begin().next("a").next("a"),
        ];
        for (index, head) in heads.iter().enumerate() {
            let before = heads.get(..index).unwrap();
            assert!(
                before.iter().all(|other| other.hash() != head.hash()),
                "{index}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_head_is_read_as_it_is_written(records in proptest::collection::vec(".*", 0..4)) {
            let head = records.iter().fold(begin(), |head, record| head.next(record));
            prop_assert_eq!(head.to_string().parse(), Ok(head));
            prop_assert_eq!(Head::from_parts(head.row(), head.hash()), Some(head));
        }

        #[test]
        fn other_text_is_refused_without_panic(text in "\\PC*") {
            if let Ok(head) = text.parse::<Head>() {
                prop_assert_eq!(head.to_string().to_lowercase(), text.trim().to_lowercase());
            }
        }
    }
}
