//! Keys as text, streams of every length around a chunk, and whatever was done to a file.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::data_key::tests::Counting;

fn sealed(recipient: &Recipient, plain: &[u8]) -> Vec<u8> {
    let (mut sealer, mut file) = Sealer::begin(recipient, &Counting).unwrap();
    for part in plain.chunks(1000) {
        sealer.push(part, &mut file).unwrap();
    }
    sealer.finish(&mut file).unwrap();
    file
}

fn opened(key: &BackupKey, file: &[u8]) -> Result<Vec<u8>, CustodyError> {
    let header = file.get(..HEADER_OCTETS).ok_or(CustodyError::Malformed("the backup"))?;
    let mut opener = Opener::begin(key, header)?;
    let (mut rest, mut plain) = (&file[HEADER_OCTETS..], Vec::new());
    loop {
        let is_last = rest.len() <= SEALED_CHUNK_OCTETS;
        let (chunk, after) = rest.split_at(rest.len().min(SEALED_CHUNK_OCTETS));
        plain.extend_from_slice(&opener.open(chunk.to_vec(), is_last)?);
        rest = after;
        if is_last {
            return Ok(plain);
        }
    }
}

#[test]
fn keys_survive_as_text_and_typing_errors_do_not() {
    let key = BackupKey::generate().unwrap();
    let (text, public) = (key.to_text(), key.recipient().to_string());
    assert_eq!(BackupKey::parse(&text).unwrap().recipient(), key.recipient());
    assert_eq!(Recipient::parse(&public).unwrap(), *key.recipient());
    assert!(text.contains(&public), "the file says whom it belongs to");
    for at in 0..public.len() {
        let mut typed = public.clone().into_bytes();
        typed[at] = if typed[at] == b'0' { b'1' } else { b'0' };
        assert!(Recipient::parse(std::str::from_utf8(&typed).unwrap()).is_err(), "octet {at}");
    }
    assert!(BackupKey::parse(&public).is_err(), "a public key opens nothing");
    assert!(
        Recipient::parse(text.lines().last().unwrap()).is_err(),
        "a private key is not to be handed in as a public one"
    );
}

#[test]
fn every_length_comes_back() {
    let key = BackupKey::generate().unwrap();
    for length in [0, 1, 1000, CHUNK_OCTETS - 1, CHUNK_OCTETS, CHUNK_OCTETS + 1, 2 * CHUNK_OCTETS, 200_000] {
        let plain: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let file = sealed(key.recipient(), &plain);
        assert_eq!(opened(&key, &file).unwrap(), plain, "{length}");
        assert!(length < 16 || !file.windows(16).any(|window| window == &plain[..16]), "nothing is in clear");
    }
}

#[test]
fn nothing_altered_cut_swapped_or_lengthened_opens() {
    let key = BackupKey::generate().unwrap();
    let plain = vec![7; 2 * CHUNK_OCTETS + 100];
    let file = sealed(key.recipient(), &plain);
    let places = (0..HEADER_OCTETS + 200).chain((HEADER_OCTETS + 200..file.len()).step_by(997));
    for at in places {
        let mut altered = file.clone();
        altered[at] ^= 1;
        assert!(opened(&key, &altered).is_err(), "octet {at}");
    }
    let ends = (0..HEADER_OCTETS + 40).chain((0..3).map(|whole| HEADER_OCTETS + whole * SEALED_CHUNK_OCTETS));
    for end in ends.chain((HEADER_OCTETS..file.len()).step_by(1013)) {
        assert!(opened(&key, &file[..end]).is_err(), "cut at {end}");
    }
    let mut swapped = file.clone();
    let (first, second) = (HEADER_OCTETS, HEADER_OCTETS + SEALED_CHUNK_OCTETS);
    swapped[first..second].copy_from_slice(&file[second..second + SEALED_CHUNK_OCTETS]);
    swapped[second..second + SEALED_CHUNK_OCTETS].copy_from_slice(&file[first..second]);
    assert!(opened(&key, &swapped).is_err());
    assert!(opened(&key, &[&file[..], &[0]].concat()).is_err());
    assert!(opened(&key, &[&file[..], &file[HEADER_OCTETS..]].concat()).is_err());
    assert!(opened(&BackupKey::generate().unwrap(), &file).is_err(), "another key");
}

#[test]
fn a_data_key_reaches_the_recipient_and_nobody_else() {
    let (key, other) = (BackupKey::generate().unwrap(), BackupKey::generate().unwrap());
    let (data_key, cluster) = (DataKey::generate(&Counting), ClusterId([7; 16]));
    let wrapped = key.recipient().wrap(&data_key, cluster).unwrap();
    let unwrapped = key.unwrap(cluster, data_key.id(), &wrapped).unwrap();
    assert_eq!(crate::prove(&unwrapped, b"challenge").unwrap(), crate::prove(&data_key, b"challenge").unwrap());
    assert!(other.unwrap(cluster, data_key.id(), &wrapped).is_err());
    assert!(key.unwrap(ClusterId([8; 16]), data_key.id(), &wrapped).is_err());
    assert!(key.unwrap(cluster, data_key.id() + 1, &wrapped).is_err());
}
