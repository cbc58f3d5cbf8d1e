//! The compressor against inflaters that are not ours.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;
use rows::Deflater;

use super::{fuzzing, gzip};

/// What the format and the compressor have borders at.
const BLOCK_MAX: usize = 65_535;
const DISTANCE_MAX: usize = 32 << 10;
const MATCH_MAX: usize = 258;

/// What the system's gzip makes of a member.
fn by_the_system(member: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(member).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = Command::new("gzip").arg("-dc").stdin(Stdio::from(file)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn random(length: usize, letters: u8, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..letters)).collect()
}

fn table(count: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let row = |number: usize| {
        let (idle, name) = (random.u32(..10_000), number / 8);
        format!(r#"{{"host":"device-{name}.größe.example","idle":{idle},"at":1767225600}}"#)
    };
    let rows: Vec<String> = (0..count).map(row).collect();
    format!("[{}]", rows.join(",")).into_bytes()
}

/// Bodies around every border that the compressor has.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = (0..40).map(|length| vec![b'a'; length]).collect();
    bodies.extend((0..40).map(|length| random(length, 255, 1)));
    for around in [BLOCK_MAX, 2 * BLOCK_MAX] {
        bodies.extend((around - 10..around + 10).map(|length| random(length, 3, 2)));
        bodies.extend((around - 2..around + 2).map(|length| random(length, 255, 3)));
        bodies.extend((around - 2..around + 2).map(|length| vec![0; length]));
    }
    // A block as it is, between two that are not, and the other way round.
    let (noise, quiet) = (random(BLOCK_MAX, 255, 4), vec![b'0'; BLOCK_MAX]);
    bodies.push([&*quiet, &noise, &quiet].concat());
    bodies.push([&*noise, &quiet, &noise, &noise[..9]].concat());
    // The same words at every distance around the longest, and of every length.
    for distance in DISTANCE_MAX - 9..DISTANCE_MAX + 9 {
        let mut body = random(distance, 250, 5);
        body.extend_from_within(..300);
        bodies.push(body);
    }
    for length in 0..MATCH_MAX + 20 {
        let word = random(length, 250, 6);
        bodies.push([&*word, b"-", &word, b"+", &word].concat());
    }
    for period in 1..20 {
        bodies.push(random(period, 250, 8).repeat(700 / period));
    }
    bodies.extend([table(1), table(200), table(5_000)]);
    bodies
}

#[test]
fn every_inflater_gives_back_what_was_compressed() {
    for body in bodies() {
        fuzzing::body(&body);
    }
    // One process for many members: gzip reads them one after the other.
    let bodies = bodies();
    let members: Vec<u8> = bodies.iter().flat_map(|body| gzip(body)).collect();
    assert!(by_the_system(&members) == bodies.concat());
}

#[test]
fn a_compressor_that_was_used_gives_the_same_bytes_as_a_fresh_one() {
    let (mut used, bodies) = (Deflater::default(), bodies());
    for body in bodies.iter().chain(bodies.iter().rev()) {
        let (mut fresh, mut out) = (Vec::new(), b"before".to_vec());
        Deflater::default().deflate(body, &mut fresh);
        used.deflate(body, &mut out);
        assert!(out[6..] == fresh, "{} bytes", body.len());
    }
}

#[test]
fn rows_become_as_short_as_by_the_fastest_level_of_zlib() {
    let body = table(200);
    let mut zlib = flate2::read::DeflateEncoder::new(&*body, flate2::Compression::fast());
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    zlib.read_to_end(&mut theirs).unwrap();
    Deflater::default().deflate(&body, &mut ours);
    assert!(ours.len() * 20 <= theirs.len() * 21, "{} for {}", ours.len(), theirs.len());
}

/// Pieces that are put together anew: repetitions at all distances.
fn pieced() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec(vec(any::<u8>(), 0..40), 1..8);
    (pieces, vec((any::<prop::sample::Index>(), 1..30_usize), 0..200)).prop_map(
        |(pieces, order)| {
            let piece = |(at, times): &(prop::sample::Index, usize)| at.get(&pieces).repeat(*times);
            order.iter().flat_map(piece).collect()
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_come_back(body in vec(any::<u8>(), 0..5_000)) {
        fuzzing::body(&body);
    }

    #[test]
    fn any_repetitions_come_back(body in pieced()) {
        fuzzing::body(&body);
    }
}
