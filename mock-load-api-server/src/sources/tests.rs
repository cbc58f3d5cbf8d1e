//! Pages follow on each other without a gap or an overlap.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

fn posts(query: &str) -> Page {
    posts::page(42, 95, &Query(query)).map_err(|bad| bad.why).unwrap()
}

fn ids(page: &Page) -> Vec<u64> {
    page.body.as_array().unwrap().iter().map(|post| post["id"].as_u64().unwrap()).collect()
}

#[test]
fn following_next_gives_every_post_once() {
    let mut query = "_page=1&_limit=10".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = posts(&query);
        seen.extend(ids(&page));
        match page.links.iter().find(|(relation, _)| *relation == "next") {
            Some((_, next)) => query = next.clone(),
            None => break,
        }
    }
    assert_eq!(seen, (1..=95).collect::<Vec<u64>>());
    assert_eq!(ids(&posts("")).len(), 95);
    assert_eq!(ids(&posts("_start=90&_limit=10")), [91, 92, 93, 94, 95]);
    assert!(ids(&posts("_page=11&_limit=10")).is_empty());
    assert_eq!(ids(&posts("_after=92")), [93, 94, 95]);
    let after = posts("_page=1&_limit=2&_after=92");
    assert_eq!((ids(&after), &after.links[1].1[..]), (vec![93, 94], "_page=2&_limit=2&_after=92"));
    assert!(ids(&posts("_after=500")).is_empty());
    let last = posts("_page=2&_limit=10").links.pop().unwrap();
    assert_eq!(last, ("last", "_page=10&_limit=10".to_owned()));
}

#[test]
fn queries_that_make_no_sense_are_refused() {
    for query in ["_page=0", "_page=x", "_limit=0", "_limit=100000", "_start=-1"] {
        assert!(posts::page(42, 100, &Query(query)).is_err(), "{query}");
    }
    assert!(coins::page(42, &Query("per_page=10")).is_err());
    assert!(coins::page(42, &Query("vs_currency=usd&order=x")).is_err());
}

#[test]
fn users_are_the_same_for_the_same_seed_and_page() {
    let users = |query: &str| users::page(42, &Query(query)).map_err(|bad| bad.why).unwrap().body;
    let page = users("results=5&page=2&seed=abc");
    assert_eq!(page["results"].as_array().unwrap().len(), 5);
    assert_eq!(page["info"]["page"], 2);
    assert_eq!(page, users("results=5&page=2&seed=abc"));
    assert_ne!(page["results"], users("results=5&page=3&seed=abc")["results"]);
    assert_ne!(page["results"], users("results=5&page=2&seed=abd")["results"]);
}

#[test]
fn coins_are_ordered_and_pages_disjoint() {
    let page = |query: &str| coins::page(42, &Query(query)).map_err(|bad| bad.why).unwrap().body;
    let mut seen = BTreeSet::new();
    let mut caps = Vec::new();
    for number in 1..=4 {
        for coin in page(&format!("vs_currency=usd&per_page=250&page={number}")).as_array().unwrap()
        {
            assert!(seen.insert(coin["id"].as_str().unwrap().to_owned()));
            caps.push(coin["market_cap"].as_f64().unwrap());
        }
    }
    assert_eq!(seen.len(), 1000);
    assert!(caps.is_sorted_by(|a, b| a >= b));
    assert_eq!(page("vs_currency=eur&per_page=1")[0]["id"], "bitcoin");
    assert_eq!(page("vs_currency=usd&page=1000000"), serde_json::json!([]));
}

#[test]
fn the_rate_limit_counts_by_the_second() {
    let limit = RateLimit::default();
    let now = Instant::now();
    let admitted = (0..10).filter(|_| limit.admits_at(now, 3)).count();
    assert_eq!(admitted, 3);
    assert!(limit.admits_at(now + Duration::from_secs(1), 3));
}
