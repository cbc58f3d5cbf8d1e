//! A report as a picture: three panels of bars, one bar for each loader.

use std::fmt::Write;

use crate::report::Median;

const WIDTH: usize = 900;
const LABEL: usize = 130;
const BAR: usize = 22;
const PANEL: usize = (WIDTH - LABEL) / 3;

/// Records a second, CPU for each, memory: the longer the bar, the more.
pub(crate) fn bars(scenario: &str, task: &str, medians: &[Median]) -> String {
    let titles = ["thousand records a second", "CPU seconds per million records", "peak RSS, MiB"];
    let height = 70 + medians.len() * (BAR + 6);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{}: {}</text>\n",
        escaped(scenario),
        escaped(task)
    );
    for (row, median) in medians.iter().enumerate() {
        let y = 60 + row * (BAR + 6) + BAR / 2;
        writeln!(svg, "<text x=\"8\" y=\"{}\">{}</text>", y + 4, escaped(median.loader)).ok();
    }
    for (panel, title) in titles.into_iter().enumerate() {
        let figure = |median: &Median| match panel {
            0 => median.records_per_second / 1_000.0,
            1 => median.cpu_seconds_per_million,
            _ => median.rss_mib,
        };
        let x = LABEL + panel * PANEL;
        writeln!(svg, "<text x=\"{x}\" y=\"44\" fill=\"#555\">{title}</text>").ok();
        let most = medians.iter().map(figure).fold(0.0, f64::max);
        for (row, median) in medians.iter().enumerate() {
            let (value, y) = (figure(median), 60 + row * (BAR + 6));
            let share = if most > 0.0 { value / most } else { 0.0 };
            #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
            let length = share * (PANEL - 80) as f64;
            let color = if median.loader.starts_with("etl") { "#2a78d6" } else { "#b8b8b8" };
            writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" \
                 fill=\"{color}\"/>\n<text x=\"{:.1}\" y=\"{}\">{value:.2}</text>",
                x as f64 + length + 4.0,
                y + BAR / 2 + 4
            )
            .ok();
        }
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::bars;
    use crate::report::Median;

    #[test]
    fn the_longest_bar_is_that_of_the_most() {
        let median = |loader, records_per_second| Median {
            loader,
            wall_seconds: 1.0,
            records_per_second,
            cpu_seconds_per_million: 0.0,
            rss_mib: f64::NAN,
            lost_worst: 0,
        };
        let svg = bars("a & b", "", &[median("etl", 4_000.0), median("peer", 1_000.0)]);
        assert!(svg.contains("a &amp; b") && svg.ends_with("</svg>\n"));
        let widths: Vec<&str> = svg
            .split("<rect ")
            .skip(1)
            .filter_map(|rect| rect.split("width=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(widths[..2], ["176.0", "44.0"]);
        assert_eq!(widths.len(), 6);
    }
}
