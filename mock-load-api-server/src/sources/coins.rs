//! `GET /coins/markets?vs_currency=usd&per_page=N&page=P&order=…`: a thousand coins in the
//! shape of CoinGecko's API.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{BadQuery, Page, Query, random_for};
use crate::hash::{self, fingerprint};

const COINS: u32 = 1000;
const PER_PAGE_MAX: u32 = 250;
const UPDATED: &str = "2025-11-20T12:00:00.000Z";

/// What a coin's figures are derived from; in US dollars.
struct Coin {
    rank: u32,
    market_cap: f64,
    supply: f64,
    volume: f64,
    /// Change within 24 h, as a fraction.
    change: f64,
}

pub(super) fn page(seed: u64, query: &Query<'_>) -> Result<Page, BadQuery> {
    let Some(currency) = query.get("vs_currency").filter(|currency| !currency.is_empty()) else {
        let why = "Missing parameter vs_currency".to_owned();
        return Err(BadQuery { status: StatusCode::UNPROCESSABLE_ENTITY, why });
    };
    let per_page = query.number("per_page", 1, PER_PAGE_MAX, 100)?;
    let number = query.number("page", 1, u32::MAX, 1)?;
    let mut coins: Vec<Coin> = (1..=COINS).map(|rank| coin(seed, rank)).collect();
    match query.get("order").unwrap_or("market_cap_desc") {
        "market_cap_desc" => {}
        "market_cap_asc" => coins.reverse(),
        "volume_desc" => coins.sort_by(|a, b| b.volume.total_cmp(&a.volume)),
        "volume_asc" => coins.sort_by(|a, b| a.volume.total_cmp(&b.volume)),
        "id_asc" => coins.sort_by_key(|coin| id(coin.rank)),
        "id_desc" => coins.sort_by_key(|coin| std::cmp::Reverse(id(coin.rank))),
        other => return Err(BadQuery::new(format!("unknown order `{other}`"))),
    }
    let skip = (number - 1).saturating_mul(per_page) as usize;
    let rate = rate(currency);
    let shown = coins.iter().skip(skip).take(per_page as usize);
    let body = shown.map(|coin| show(coin, rate)).collect();
    Ok(Page { body, links: Vec::new(), total: Some(COINS) })
}

fn coin(seed: u64, rank: u32) -> Coin {
    let mut random = random_for(seed, "coins", rank);
    Coin {
        rank,
        // Falls with every rank.
        market_cap: 2.0e12 / f64::from(rank).powf(1.6),
        supply: (10.0_f64).powf(6.0 + 5.0 * random.f64()).round(),
        volume: 1.0e11 * random.f64() / f64::from(rank),
        change: random.f64() * 0.2 - 0.1,
    }
}

fn id(rank: u32) -> String {
    match rank {
        1 => "bitcoin".to_owned(),
        2 => "ethereum".to_owned(),
        _ => format!("coin-{rank}"),
    }
}

fn symbol(rank: u32) -> String {
    match rank {
        1 => "btc".to_owned(),
        2 => "eth".to_owned(),
        _ => format!("c{rank}"),
    }
}

/// What a US dollar is in `currency`.
fn rate(currency: &str) -> f64 {
    match currency {
        "usd" => 1.0,
        "eur" => 0.92,
        "gbp" => 0.79,
        other => 0.5 + hash::draw(0, fingerprint(other.as_bytes()), 0) * 100.0,
    }
}

fn show(coin: &Coin, rate: f64) -> Value {
    let (id, symbol) = (id(coin.rank), symbol(coin.rank));
    let cents = |value: f64| (value * 100.0).round() / 100.0;
    let fine = |value: f64| (value * 1e8).round() / 1e8;
    let cap = (coin.market_cap * rate).round();
    let price = coin.market_cap * rate / coin.supply;
    let before = price / (1.0 + coin.change);
    json!({
        "id": id,
        "symbol": symbol,
        "name": id,
        "image": format!("https://coin-images.example.com/{id}.png"),
        "current_price": fine(price),
        "market_cap": cap,
        "market_cap_rank": coin.rank,
        "fully_diluted_valuation": cap,
        "total_volume": (coin.volume * rate).round(),
        "high_24h": fine(price.max(before)),
        "low_24h": fine(price.min(before)),
        "price_change_24h": fine(price - before),
        "price_change_percentage_24h": cents(coin.change * 100.0),
        "market_cap_change_24h": (cap - cap / (1.0 + coin.change)).round(),
        "market_cap_change_percentage_24h": cents(coin.change * 100.0),
        "circulating_supply": coin.supply,
        "total_supply": coin.supply,
        "max_supply": null,
        "ath": fine(price * 2.0),
        "ath_change_percentage": -50.0,
        "ath_date": "2024-03-14T07:10:36.635Z",
        "atl": fine(price / 10.0),
        "atl_change_percentage": 900.0,
        "atl_date": "2020-03-13T02:22:55.044Z",
        "roi": null,
        "last_updated": UPDATED,
    })
}
