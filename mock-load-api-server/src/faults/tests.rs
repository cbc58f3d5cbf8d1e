//! The decision is the same whatever the order, and takes the shares it was given.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::hash::fingerprint;

fn mixed() -> Faults {
    Faults {
        fail: BTreeMap::from([(429, 0.1), (503, 0.2)]),
        reset: 0.1,
        hang: 0.05,
        lose_reply: 0.1,
        truncate: 0.05,
        lie: 0.1,
        ..Faults::default()
    }
}

#[test]
fn decisions_do_not_depend_on_the_order_of_requests() {
    let faults = mixed();
    let decide = |n: u32| {
        let key = fingerprint(format!("batch-{}", n % 1000).as_bytes());
        faults.decide(draw_for_key(faults.seed, key, n / 1000))
    };
    let forwards: Vec<Fault> = (0..5000).map(decide).collect();
    let mut backwards: Vec<Fault> = (0..5000).rev().map(decide).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
}

#[test]
fn another_seed_has_other_faults() {
    let faults = mixed();
    let with_seed = |seed| -> Vec<Fault> {
        (0..100).map(|n| faults.decide(draw_for_ordinal(seed, n))).collect()
    };
    assert_eq!(with_seed(42), with_seed(42));
    assert_ne!(with_seed(42), with_seed(43));
}

#[test]
fn a_key_that_failed_is_drawn_anew_on_its_next_attempt() {
    let faults = Faults { fail: BTreeMap::from([(503, 0.5)]), ..Faults::default() };
    let key = fingerprint(b"batch");
    let outcomes: Vec<Fault> =
        (0..40).map(|attempt| faults.decide(draw_for_key(42, key, attempt))).collect();
    assert!(outcomes.contains(&Fault::None) && outcomes.contains(&Fault::Status(503)));
}

#[test]
fn slices_are_disjoint_and_as_wide_as_their_rates() {
    let faults = mixed();
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for step in 0..10_000 {
        let fault = faults.decide(f64::from(step) / 10_000.0);
        *shares.entry(format!("{fault:?}")).or_default() += 1.0 / 10_000.0;
    }
    let expected = [
        ("Status(429)", 0.1),
        ("Status(503)", 0.2),
        ("Reset", 0.1),
        ("Hang", 0.05),
        ("LoseReply", 0.1),
        ("Truncate", 0.05),
        ("Lie", 0.1),
        ("None", 0.3),
    ];
    for (fault, share) in expected {
        assert!((shares[fault] - share).abs() < 0.001, "{fault}: {}", shares[fault]);
    }
}

#[test]
fn rates_that_exceed_one_together_are_refused() {
    let faults = Faults { reset: 0.6, lose_reply: 0.5, ..Faults::default() };
    let message = faults.validate().unwrap_err().to_string();
    assert!(message.contains("1.1"), "{message}");
    assert!(Faults { reset: 1.5, ..Faults::default() }.validate().is_err());
    assert!(Faults { fail: BTreeMap::from([(200, 0.1)]), ..Faults::default() }.validate().is_err());
    assert!(mixed().validate().is_ok());
}

#[test]
fn outages_are_spans_since_the_start() {
    let faults =
        Faults { outage: vec!["5s..15s".parse().unwrap(), "1m..2m".parse().unwrap()], ..mixed() };
    let at = |seconds| faults.down_at(Duration::from_secs(seconds));
    assert_eq!(at(0), (false, Some(Duration::from_secs(5))));
    assert_eq!(at(5), (true, Some(Duration::from_secs(15))));
    assert_eq!(at(15), (false, Some(Duration::from_secs(60))));
    assert_eq!(at(200), (false, None));
    for wrong in ["5s", "15s..5s", "a..b"] {
        assert!(wrong.parse::<Outage>().is_err(), "{wrong}");
    }
}

#[test]
fn a_token_matches_only_itself_and_never_shows() {
    let token = Token::new("s3cret");
    assert!(token.matches(b"s3cret"));
    for wrong in [&b""[..], b"s3cre", b"s3cret ", b"S3cret"] {
        assert!(!token.matches(wrong));
    }
    assert!(!format!("{token:?}").contains("s3cret"));
}
