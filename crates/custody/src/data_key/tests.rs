//! Data keys: wrapping, proofs, stored layout.
#![allow(clippy::unwrap_used)]

use super::*;

impl DataKey {
    /// A key known to the tests.
    pub(crate) fn fixed(id: u64, secret: [u8; 32]) -> Self {
        Self { id, secret: Zeroizing::new(secret) }
    }
}

/// Entropy that counts: 0, 1, 2, ... in every draw.
pub(crate) struct Counting;

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().zip(0u8..).for_each(|(octet, n)| *octet = n);
    }
}

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

fn node() -> (Vec<u8>, HpkePrivateKey) {
    let (public, private) = HPKE.generate_key_pair().unwrap();
    (public.0, private)
}

#[test]
fn ids_fit_into_json_and_are_never_zero() {
    struct Constant(u8);
    impl Entropy for Constant {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }
    assert_eq!(DataKey::generate(&Constant(0)).id(), 1);
    assert_eq!(DataKey::generate(&Constant(0xff)).id(), (1 << 53) - 1);
}

#[test]
fn what_is_wrapped_opens_at_its_node_and_is_the_same_key() {
    let data_key = DataKey::generate(&Counting);
    let (public, private) = node();
    let wrapped = wrap(&data_key, CLUSTER, 7, &public).unwrap();
    assert_eq!((wrapped.len(), wrapped[0]), (81, 1));
    let opened = unwrap(&private, CLUSTER, 7, data_key.id(), &wrapped).unwrap();
    assert_eq!(opened.id(), data_key.id());
    assert_eq!(prove(&opened, b"challenge").unwrap(), prove(&data_key, b"challenge").unwrap());
    assert_ne!(wrapped, wrap(&data_key, CLUSTER, 7, &public).unwrap(), "encapsulated afresh each time");
}

#[test]
fn nobody_else_opens_it() {
    let data_key = DataKey::generate(&Counting);
    let ((public, private), (_, stranger)) = (node(), node());
    let wrapped = wrap(&data_key, CLUSTER, 7, &public).unwrap();
    let id = data_key.id();
    let unopenable = |outcome: Result<DataKey, CustodyError>, what: &str| {
        assert!(matches!(outcome, Err(CustodyError::Unopenable(_))), "{what}");
    };
    unopenable(unwrap(&stranger, CLUSTER, 7, id, &wrapped), "another node's key");
    unopenable(unwrap(&private, ClusterId([0xc2; 16]), 7, id, &wrapped), "another cluster");
    unopenable(unwrap(&private, CLUSTER, 8, id, &wrapped), "another node id");
    unopenable(unwrap(&private, CLUSTER, 7, id + 1, &wrapped), "another data key id");
    for at in 33..wrapped.len() {
        let mut altered = wrapped.clone();
        altered[at] ^= 1;
        unopenable(unwrap(&private, CLUSTER, 7, id, &altered), "an altered octet");
    }
    let malformed =
        |wrapped: &[u8]| matches!(unwrap(&private, CLUSTER, 7, id, wrapped), Err(CustodyError::Malformed(_)));
    assert!(malformed(&wrapped[..80]) && malformed(&[]) && malformed(&[&wrapped[..], &[0]].concat()));
    let mut future = wrapped;
    future[0] = 2;
    assert!(malformed(&future));
    assert!(matches!(wrap(&data_key, CLUSTER, 7, &public[1..]), Err(CustodyError::Malformed(_))));
}

/// Stored formats do not change: a key wrapped by this version opens for ever.
#[test]
fn a_wrapped_key_of_version_1_opens() {
    let private = HpkePrivateKey::from(hex::decode(GOLDEN_PRIVATE).unwrap());
    let opened = unwrap(&private, CLUSTER, 7, GOLDEN_ID, &hex::decode(GOLDEN_WRAPPED).unwrap());
    let expected = DataKey::fixed(GOLDEN_ID, std::array::from_fn(|n| n as u8));
    assert_eq!(prove(&opened.unwrap(), b"x").unwrap(), prove(&expected, b"x").unwrap());
}

const GOLDEN_ID: u64 = 0x0102_0304_0506;
const GOLDEN_PRIVATE: &str = "c7adc6e1ccc2198b2f0c9258646d725f32eda7bd4a65f6ca1fe706065af9cc86";
const GOLDEN_WRAPPED: &str = concat!(
    "01f3c1faa1a309a374e83488e02efdf412528178b1a915af5270f67386d935b72e8095293bfa4cbdf3c089ab684894743e6b",
    "887821c9cdc720965620a64f687e6d9601f595d477da0b76f9b1b723925d26",
);

#[test]
fn proofs_fit_one_key_and_one_challenge() {
    let data_key = DataKey::fixed(1, [7; 32]);
    let other = DataKey::fixed(1, [8; 32]);
    let proof = prove(&data_key, b"challenge").unwrap();
    assert!(proves(&data_key, b"challenge", &proof).unwrap());
    assert!(!proves(&other, b"challenge", &proof).unwrap());
    assert!(!proves(&data_key, b"another", &proof).unwrap());
    assert!(!proves(&data_key, b"challenge", &proof[..31]).unwrap());
    assert_eq!(hex::encode(proof), "f8d95e4fb17487536061a53fb340ccf215b711cfd2e7e1ed99071214d4a24780");
}

#[test]
fn one_purpose_one_key() {
    let data_key = DataKey::fixed(1, [7; 32]);
    assert_ne!(*data_key.derive(b"one").unwrap(), *data_key.derive(b"two").unwrap());
    assert_ne!(*data_key.derive(b"one").unwrap(), [7; 32]);
}
