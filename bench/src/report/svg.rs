//! A bar chart of all workloads, as multiples of the baseline.
//!
//! It is so small that a library would be more code. The colours follow the reader's colour scheme, and a
//! description contains all values as text.

use std::fmt::Write as _;

use super::table::{BASE, Row};
use crate::workloads::Workload;

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 300.0;
const VALUE_WIDTH: f64 = 90.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const GROUP_GAP: f64 = 30.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.head{font-weight:600}\
.ours{fill:#0969da}.base{fill:#9a6700}.limit{fill:#8c959f}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#58a6ff}.base{fill:#d29922}.limit{fill:#6e7681}}";

/// The chart of the workloads that the baseline has run.
pub(super) fn chart(groups: &[(Workload, Vec<Row>)]) -> String {
    let (mut body, mut description) = (String::new(), String::new());
    let mut y = 10.0;
    for (workload, rows) in groups {
        let Some(base) = rows.iter().find(|row| row.target == BASE && row.rate > 0.0) else {
            continue;
        };
        y += 16.0;
        let _ = writeln!(body, r#"<text class="head" x="0" y="{y}">{}</text>"#, workload.name());
        y += 8.0;
        let highest = rows.iter().map(|row| row.rate).fold(base.rate, f64::max);
        for row in rows {
            let times = row.rate / base.rate;
            let width = (row.rate / highest * (WIDTH - LABEL_WIDTH - VALUE_WIDTH)).max(1.0);
            let (target, text) = (escaped(row.target), y + 12.5);
            let _ = writeln!(
                body,
                r#"<text x="{:.1}" y="{text:.1}" text-anchor="end">{target}</text><rect class="{}" x="{LABEL_WIDTH}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="2"/><text x="{:.1}" y="{text:.1}">{times:.1} x</text>"#,
                LABEL_WIDTH - 8.0,
                class(row.target),
                LABEL_WIDTH + width + 6.0,
            );
            let _ = write!(description, "{} {target}: {times:.1} times {BASE}. ", workload.name());
            y += STEP;
        }
        y += GROUP_GAP - STEP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" role=\"img\" \
         aria-labelledby=\"title desc\">\n<title id=\"title\">Rates as multiples of {BASE}</title>\n\
         <desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n{body}</svg>\n",
        description.trim_end(),
    )
}

fn class(target: &str) -> &'static str {
    match target {
        BASE => "base",
        _ if target.starts_with("vaultsync") => "ours",
        _ => "limit",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: &'static str, rate: f64) -> Row {
        let (rate_min, rate_max, peak_mib) = (rate, rate, None);
        Row {
            target,
            rate,
            rate_min,
            rate_max,
            p50_ms: 1.0,
            p99_ms: 1.0,
            cpu_micros: 1.0,
            peak_mib,
        }
    }

    #[test]
    fn a_chart_is_well_formed_and_describes_its_values() {
        let rows = vec![row("a < b & \"c\"", 30.0), row("vaultsync-pg", 20.0), row(BASE, 10.0)];
        let chart = chart(&[(Workload::Push1, rows), (Workload::Mixed, vec![row("x", 1.0)])]);
        let document = roxmltree::Document::parse(&chart).expect("it is XML");
        let of =
            |name: &'static str| document.descendants().filter(move |node| node.has_tag_name(name));
        assert_eq!(of("rect").count(), 3, "a workload without the baseline is left out");
        let description = of("desc").next().and_then(|node| node.text()).unwrap();
        assert!(
            description.contains("push1 vaultsync-pg: 2.0 times node-baseline."),
            "{description}"
        );
        assert!(description.contains("a < b & \"c\": 3.0"), "{description}");
        let classes: Vec<_> = of("rect").filter_map(|bar| bar.attribute("class")).collect();
        assert_eq!(classes, ["limit", "ours", "base"]);
        let widths: Vec<f64> =
            of("rect").filter_map(|bar| bar.attribute("width")?.parse().ok()).collect();
        assert!(widths[0] > widths[1] && widths[1] > widths[2], "{widths:?}");
    }
}
