//! `GET /users?results=N&page=P&seed=S`: people in the shape of randomuser.me. The same
//! seed and page give the same people.

use serde_json::{Value, json};

use super::{BadQuery, Page, Query, pick, random_for};
use crate::hash::{self, fingerprint};

const RESULTS_MAX: u32 = 5000;

const WOMEN: [&str; 8] = ["Ana", "Grace", "Ida", "Leila", "Mei", "Noor", "Sofía", "Zoë"];
const MEN: [&str; 8] = ["Ali", "Björn", "Chen", "Diego", "Ivan", "Kofi", "Louis", "Tom"];
const LAST: [&str; 8] =
    ["Ahmed", "Garcia", "Ivanova", "Lund", "Mensah", "Müller", "O'Brien", "Tanaka"];
/// Country, its code, state, city.
const PLACES: [(&str, &str, &str, &str); 6] = [
    ("Germany", "DE", "Sachsen", "Leipzig"),
    ("Brazil", "BR", "Paraná", "Curitiba"),
    ("Norway", "NO", "Vestland", "Bergen"),
    ("Canada", "CA", "Ontario", "Ottawa"),
    ("Spain", "ES", "Andalucía", "Sevilla"),
    ("Australia", "AU", "Victoria", "Geelong"),
];
const STREETS: [&str; 4] = ["Station Road", "Hauptstraße", "Rua do Sol", "Harbour Lane"];

pub(super) fn page(seed: u64, query: &Query<'_>) -> Result<Page, BadQuery> {
    let results = query.number("results", 1, RESULTS_MAX, 1)?;
    let number = query.number("page", 1_u32, 1_000_000, 1)?;
    let name = query.get("seed").map_or_else(|| format!("{seed:016x}"), str::to_owned);
    let own = hash::mix(seed, fingerprint(name.as_bytes()), u64::from(number));
    let people: Vec<Value> = (0..results).map(|index| person(own, index)).collect();
    let info = json!({ "seed": name, "results": results, "page": number, "version": "1.4" });
    Ok(Page { body: json!({ "results": people, "info": info }), links: Vec::new(), total: None })
}

fn person(seed: u64, index: u32) -> Value {
    let mut random = random_for(seed, "users", index);
    let female = random.bool();
    let (gender, title, first) = if female {
        ("female", "Ms", pick(&mut random, &WOMEN))
    } else {
        ("male", "Mr", pick(&mut random, &MEN))
    };
    let last = pick(&mut random, &LAST);
    let (country, code, state, city) = PLACES[random.usize(0..PLACES.len())];
    let (birth, joined) = (random.u32(1945..2004), random.u32(2005..2024));
    let portrait = random.u32(0..100);
    let group = if female { "women" } else { "men" };
    let picture =
        |kind: &str| format!("https://randomuser.me/api/portraits/{kind}{group}/{portrait}.jpg");
    let date = |random: &mut fastrand::Rng, year: u32| {
        let (month, day) = (random.u32(1..13), random.u32(1..29));
        let (hour, minute) = (random.u32(0..24), random.u32(0..60));
        format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:00.000Z")
    };
    let user = format!("user{}", random.u32(100_000..1_000_000));
    json!({
        "gender": gender,
        "name": { "title": title, "first": first, "last": last },
        "location": {
            "street": { "number": random.u32(1..9999), "name": pick(&mut random, &STREETS) },
            "city": city,
            "state": state,
            "country": country,
            "postcode": random.u32(10_000..99_999),
            "coordinates": {
                "latitude": format!("{:.4}", random.f64() * 180.0 - 90.0),
                "longitude": format!("{:.4}", random.f64() * 360.0 - 180.0),
            },
            "timezone": { "offset": "+1:00", "description": "Brussels, Copenhagen, Madrid, Paris" },
        },
        "email": format!("{user}@example.com"),
        "login": { "uuid": uuid(&mut random), "username": user },
        "dob": { "date": date(&mut random, birth), "age": 2025 - birth },
        "registered": { "date": date(&mut random, joined), "age": 2025 - joined },
        "phone": format!("0{}-{}", random.u32(100..999), random.u32(100_000..999_999)),
        "cell": format!("01{}-{}", random.u32(50..79), random.u32(1_000_000..9_999_999)),
        "id": { "name": "SVNR", "value": format!("{} {}", random.u32(10..99), random.u32(100_000..999_999)) },
        "picture": { "large": picture(""), "medium": picture("med/"), "thumbnail": picture("thumb/") },
        "nat": code,
    })
}

fn uuid(random: &mut fastrand::Rng) -> String {
    let (a, b) = (random.u64(..), random.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | ((b >> 48) & 0x3fff),
        b & 0xffff_ffff_ffff
    )
}
