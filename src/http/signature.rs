//! Standard Webhooks signatures: who sent exactly these bytes, and when.
//!
//! <https://www.standardwebhooks.com>: HMAC-SHA256 over `id.timestamp.body`, keys written as
//! `whsec_<base64>`, signatures as `v1,<base64>`, several of them apart by spaces while a key is
//! being rotated. What is signed are the bytes as they came.

use std::fmt;

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

use super::problem::{Kind, Problem};
use crate::saga::{Millis, Time};

pub const ID: &str = "webhook-id";
pub const TIMESTAMP: &str = "webhook-timestamp";
pub const SIGNATURE: &str = "webhook-signature";
/// How far the sender's clock may be from ours. What is older could be a replay.
pub const TOLERANCE: Millis = Millis(300_000);
/// How a key begins in a file.
const PREFIX: &str = "whsec_";
/// The bytes of a key: what the specification allows.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The longest id, in bytes: it is stored with a scan.
const MAX_ID_BYTES: usize = 255;
/// The most signatures of one request that are looked at: a rotation has two.
const MAX_SIGNATURES: usize = 4;

/// A signing key. Never printed.
#[derive(Clone)]
pub struct Key(SecretSlice<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(whsec_…)")
    }
}

impl Default for Key {
    /// A key that nobody has, for work whose result does not count.
    fn default() -> Key {
        Key(vec![0; *KEY_BYTES.start()].into())
    }
}

impl Key {
    /// Reads a key as it is written in files. `None`: it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Key> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        KEY_BYTES.contains(&bytes.len()).then(|| Key(bytes.into()))
    }

    /// The signature of a body, as the header has it.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signature = self.mac(id, timestamp, body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(signature))
    }

    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret())
            .expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac
    }
}

/// What a request says about its signature.
#[derive(Debug)]
pub struct Claim {
    pub id: String,
    /// When it was signed, in seconds since 1970.
    pub timestamp: i64,
    signatures: Vec<Vec<u8>>,
}

impl Claim {
    /// Reads the headers. The body is not looked at yet: what is stale is not even read.
    ///
    /// # Errors
    /// 401, with what is missing or wrong.
    pub fn read(headers: &HeaderMap, now: Time) -> Result<Claim, Problem> {
        let id = one(headers, ID)?;
        // With a dot in it, the same signed bytes could be read as another id and another time.
        let is_id = (1..=MAX_ID_BYTES).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_graphic() && b != b'.');
        if !is_id {
            let expected = format!("{ID} must have 1 to {MAX_ID_BYTES} visible characters, no dot");
            return Err(Kind::MissingSignature.because(expected));
        }
        let digits = one(headers, TIMESTAMP)?;
        let timestamp: i64 =
            digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit())).ok_or_else(
                || {
                    let expected = format!("{TIMESTAMP} must be whole seconds since 1970");
                    Kind::MissingSignature.because(expected)
                },
            )?;
        let apart = (i128::from(now.0) - i128::from(timestamp) * 1_000).unsigned_abs();
        if apart > u128::from(TOLERANCE.0) {
            let seconds = TOLERANCE.0 / 1_000;
            let detail = format!(
                "{TIMESTAMP} is more than {seconds} seconds from this server's time: sign anew \
                 with each attempt, and look at the clock"
            );
            return Err(Kind::StaleTimestamp.because(detail));
        }
        let signatures: Vec<Vec<u8>> = one(headers, SIGNATURE)?
            .split(' ')
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .take(MAX_SIGNATURES)
            .collect();
        if signatures.is_empty() {
            let expected = format!("{SIGNATURE} must be v1,<base64>");
            return Err(Kind::MissingSignature.because(expected));
        }
        Ok(Claim { id: id.to_owned(), timestamp, signatures })
    }

    /// Whether one of the signatures was made with one of the keys. How long that takes tells
    /// nothing about a signature that is wrong.
    #[must_use]
    pub fn is_by<'a>(&self, keys: impl IntoIterator<Item = &'a Key>, body: &[u8]) -> bool {
        keys.into_iter().any(|key| {
            let mac = key.mac(&self.id, self.timestamp, body);
            self.signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        })
    }
}

/// A header that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Problem> {
    let mut values = headers.get_all(name).iter();
    let wrong = || Kind::MissingSignature.because(format!("the header {name} must be there once"));
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_614_265_330_000);

    fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
        let pairs = [(ID, id), (TIMESTAMP, timestamp), (SIGNATURE, signature)];
        let header = |(name, value): (&'static str, &str)| {
            (axum::http::HeaderName::from_static(name), value.parse().expect("a value"))
        };
        pairs.into_iter().map(header).collect()
    }

    /// The example of the specification's reference implementations.
    #[test]
    fn it_agrees_with_the_reference_implementations() {
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(key.sign(id, 1_614_265_330, body), signature);
        let claim = Claim::read(&headers(id, "1614265330", signature), NOW).expect("a claim");
        assert!(claim.is_by([&key], body));
        assert!(!claim.is_by([&key], br#"{"test": 2432232315}"#));
        let other = Key::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").expect("a key");
        assert!(!claim.is_by([&other], body) && claim.is_by([&other, &key], body));
    }

    #[test]
    fn one_good_signature_among_several_is_enough() {
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let good = key.sign("a", 1_614_265_330, b"{}");
        let several = format!("v1a,xyz v1,AAAA v1,!!! {good}");
        let claim = Claim::read(&headers("a", "1614265330", &several), NOW).expect("a claim");
        assert!(claim.is_by([&key], b"{}"));
    }

    #[test]
    fn what_is_missing_or_stale_is_told_before_the_body_is_read() {
        let refused = |id: &str, timestamp: &str, signature: &str| {
            let claim = Claim::read(&headers(id, timestamp, signature), NOW);
            format!("{:?}", claim.expect_err("refused"))
        };
        let good = "v1,AAAA";
        assert!(Claim::read(&headers("a", "1614265030", good), NOW).is_ok(), "300 s ago");
        assert!(Claim::read(&headers("a", "1614265630", good), NOW).is_ok(), "in 300 s");
        for stale in ["1614265029", "1614265631", "0", "9223372036854775807"] {
            assert!(refused("a", stale, good).contains("StaleTimestamp"), "{stale}");
        }
        for none in ["", "soon", "-1", "+1614265330", "1e9", "99999999999999999999"] {
            assert!(refused("a", none, good).contains("MissingSignature"), "{none}");
        }
        for id in ["", "a.b", "a b", &"x".repeat(256)] {
            assert!(refused(id, "1614265330", good).contains("MissingSignature"), "{id}");
        }
        for none in ["", "v1", "v2,AAAA", "v1,***"] {
            assert!(refused("a", "1614265330", none).contains("MissingSignature"), "{none}");
        }
        let mut twice = headers("a", "1614265330", good);
        twice.append(ID, "b".parse().expect("a value"));
        assert!(Claim::read(&twice, NOW).is_err());
        assert!(Claim::read(&HeaderMap::new(), NOW).is_err());
    }

    #[test]
    fn a_key_has_24_to_64_bytes_and_is_never_printed() {
        let of = |bytes: usize| Key::parse(&format!("whsec_{}", STANDARD.encode(vec![7; bytes])));
        assert!(of(23).is_none() && of(24).is_some() && of(64).is_some() && of(65).is_none());
        assert!(Key::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_none());
        assert!(Key::parse("whsec_###").is_none());
        assert_eq!(format!("{:?}", of(24).expect("a key")), "Key(whsec_…)");
    }
}
