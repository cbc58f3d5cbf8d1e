//! One look at an API, for `etl doctor`.

use super::client::{Fetched, RestClient};
use super::error::RestError;
use super::lines::Line;
use super::pages::Seen;
use super::place::Page;
use super::records::Records;
use crate::telemetry::figures::counted;

impl RestClient {
    /// Asks for the first page as a run would; says what it holds.
    ///
    /// # Errors
    /// When it does not come, or is not what it should be.
    pub fn look(&mut self) -> Result<String, RestError> {
        let pages = self.pages();
        let page = Page { ask: pages.first(), ..Page::default() };
        let target = self.target(&page.ask);
        if self.reads_lines() {
            let Fetched::New(mut answer) = self.lines(&page, None)? else { return Ok(target) };
            let mut line = Vec::new();
            let first = self.line(&page, &mut answer.content, &mut line, u32::MAX)?;
            let what = if first == Some(Line::End) { "without a line" } else { "with lines" };
            return Ok(format!("{target} answered {what}"));
        }
        let Fetched::New(answer) = self.json(&page, None)? else { return Ok(target) };
        let records = Records::of(&answer.content, self.pointer())
            .map_err(|why| self.error(&page, &format!("the page {why}")))?;
        let count = records.found.len() as u64;
        let (uri, link) = (&answer.uri, answer.link.as_deref());
        let seen = Seen { uri, link, root: Some(records.root), records: count, size: count };
        let next = pages.next(&page.ask, &seen);
        let next = next.map_err(|why| self.error(&page, &format!("the page {why}")))?;
        let more = if next.is_some() { ", and there are more pages" } else { "" };
        Ok(format!("{target} answered with {}{more}", counted(count, "record")))
    }
}
