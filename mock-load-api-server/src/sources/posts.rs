//! `GET /posts`: pages by `_page` and `_limit`, or by `_start` and `_limit`; all posts
//! without either, as jsonplaceholder does. `_after=ID` leaves out those up to an id.

use serde_json::{Value, json};

use super::{BadQuery, Page, Query, pick, random_for};

const POSTS_PER_USER: u32 = 10;
const PAGE_DEFAULT: u32 = 10;
const PAGE_MAX: u32 = 1000;

const WORDS: [&str; 24] = [
    "sunt",
    "aut",
    "facere",
    "repellat",
    "provident",
    "occaecati",
    "quia",
    "et",
    "suscipit",
    "recusandae",
    "consequuntur",
    "expedita",
    "reprehenderit",
    "molestiae",
    "ut",
    "quas",
    "totam",
    "nostrum",
    "rerum",
    "est",
    "autem",
    "eveniet",
    "architecto",
    "voluptatem",
];

pub(super) fn page(seed: u64, total: u32, query: &Query<'_>) -> Result<Page, BadQuery> {
    let limit = query.number("_limit", 1, PAGE_MAX, PAGE_DEFAULT)?;
    let paged = query.get("_page").is_some();
    let number = query.number("_page", 1, u32::MAX, 1)?;
    let start = query.number("_start", 0, u32::MAX, 0)?;
    let after = query.number("_after", 0, u32::MAX, 0)?.min(total);
    let left = total - after;
    let (first, count) = if paged {
        ((number - 1).saturating_mul(limit), limit)
    } else if query.get("_start").is_some() || query.get("_limit").is_some() {
        (start, limit)
    } else {
        (0, left)
    };
    let end = first.saturating_add(count).min(left);
    let posts: Vec<Value> = (first..end).map(|index| post(seed, after + index + 1)).collect();
    let links = if paged { links(number, limit, after, left) } else { Vec::new() };
    Ok(Page { body: Value::Array(posts), links, total: Some(left) })
}

fn links(number: u32, limit: u32, after: u32, total: u32) -> Vec<(&'static str, String)> {
    let last = total.div_ceil(limit).max(1);
    let after = if after > 0 { format!("&_after={after}") } else { String::new() };
    let query = |page: u32| format!("_page={page}&_limit={limit}{after}");
    let mut links = vec![("first", query(1))];
    if number > 1 {
        links.push(("prev", query((number - 1).min(last))));
    }
    if number < last {
        links.push(("next", query(number + 1)));
    }
    links.push(("last", query(last)));
    links
}

fn post(seed: u64, id: u32) -> Value {
    let mut random = random_for(seed, "posts", id);
    let mut text = |words: usize| -> String {
        (0..words).map(|_| pick(&mut random, &WORDS)).collect::<Vec<_>>().join(" ")
    };
    let lines: Vec<String> = (0..4).map(|_| text(6)).collect();
    json!({
        "userId": (id - 1) / POSTS_PER_USER + 1,
        "id": id,
        "title": text(7),
        "body": lines.join("\n"),
    })
}
