//! What `etl serve` tells about a fleet on `/metrics`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A page of metrics.
#[derive(Debug, Clone)]
pub(crate) struct Page(String);

impl Page {
    /// Fetches it from a port of this machine.
    pub(crate) fn get(port: u16) -> io::Result<Page> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: etl\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, page)) if head.starts_with("HTTP/1.1 200") => Ok(Page(page.to_owned())),
            _ => Err(io::Error::other(answer.lines().next().unwrap_or_default().to_owned())),
        }
    }

    /// The sum of all samples of `name` that have `label`; none when there is no sample.
    pub(crate) fn value(&self, name: &str, label: &str) -> Option<f64> {
        let values = self.samples(name).filter(|(labels, _)| labels.contains(label));
        values.map(|(_, value)| value).fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// Every `le` of a histogram with its count, those of all series added up.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in self.samples(&format!("{name}_bucket")) {
            let le = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            let Some(le) = le.and_then(|le| le.replace("+Inf", "inf").parse().ok()) else {
                continue;
            };
            match buckets.iter_mut().find(|(known, _)| *known == le) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((le, count)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }

    /// The bound below which `share` of what came into a histogram since `before` lies; NaN
    /// when nothing came.
    pub(crate) fn quantile_since(&self, before: &Page, name: &str, share: f64) -> f64 {
        let earlier = before.buckets(name);
        let since = |(le, count): (f64, f64)| {
            let was = earlier.iter().find(|(known, _)| *known == le).map_or(0.0, |(_, was)| *was);
            (le, count - was)
        };
        let buckets: Vec<(f64, f64)> = self.buckets(name).into_iter().map(since).collect();
        let all = buckets.last().map_or(0.0, |(_, count)| *count);
        let reached = buckets.iter().find(|(_, count)| all > 0.0 && *count >= all * share);
        reached.map_or(f64::NAN, |(le, _)| *le)
    }

    /// The samples of `name`: labels and value.
    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    const BEFORE: &str = "\
# TYPE etl_fleet_targets gauge
etl_fleet_targets{pipeline=\"fleet\"} 100000
etl_fleet_targets_other 7
etl_fleet_polls_total{pipeline=\"fleet\",outcome=\"answered\"} 10
etl_fleet_polls_total{pipeline=\"fleet\",outcome=\"failed\"} 2
etl_fleet_lag_seconds_bucket{le=\"0.001\",pipeline=\"fleet\"} 100
etl_fleet_lag_seconds_bucket{le=\"0.005\",pipeline=\"fleet\"} 100
etl_fleet_lag_seconds_bucket{le=\"+Inf\",pipeline=\"fleet\"} 100
";

    #[test]
    fn samples_are_found_by_name_and_label() {
        let page = Page(BEFORE.to_owned());
        assert_eq!(page.value("etl_fleet_targets", ""), Some(100_000.0));
        assert_eq!(page.value("etl_fleet_polls_total", "outcome=\"answered\""), Some(10.0));
        assert_eq!(page.value("etl_fleet_polls_total", ""), Some(12.0));
        assert_eq!(page.value("etl_fleet_polls_total", "outcome=\"timed_out\""), None);
        assert_eq!(page.value("etl_fleet_polls", ""), None);
    }

    #[test]
    fn a_quantile_is_the_bound_that_enough_lie_below() {
        let page = |counts: [u32; 3]| {
            let [a, b, all] = counts;
            Page(
                BEFORE
                    .replace("0.001\",pipeline=\"fleet\"} 100", &format!("0.001\"}} {a}"))
                    .replace("0.005\",pipeline=\"fleet\"} 100", &format!("0.005\"}} {b}"))
                    .replace("+Inf\",pipeline=\"fleet\"} 100", &format!("+Inf\"}} {all}")),
            )
        };
        let before = Page(BEFORE.to_owned());
        let p99 = |counts| page(counts).quantile_since(&before, "etl_fleet_lag_seconds", 0.99);
        assert!((p99([199, 200, 200]) - 0.001).abs() < 1e-9);
        assert!((p99([190, 199, 200]) - 0.005).abs() < 1e-9);
        assert!(p99([190, 198, 200]).is_infinite());
        assert!(p99([100, 100, 100]).is_nan(), "nothing came since");
    }
}
