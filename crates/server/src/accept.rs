//! Choice between a page and a stream by the header `Accept`.

use std::cmp::Ordering;

use axum::http::{HeaderMap, header};

/// `Content-Type` of a stream of lines, each of which is JSON.
pub(crate) const NDJSON: &str = "application/x-ndjson";

const JSON: &str = "application/json";

/// Whether a client asks for lines rather than for one JSON object.
///
/// It must name the type itself: `*/*` and `application/*` mean JSON, as does no header, or one that matches
/// neither. If it accepts both, the higher weight counts, and the order if the weights are equal. A range whose
/// weight cannot be read is ignored.
pub(crate) fn asks_for_lines(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let ranges = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let (mut lines, mut json) = (Choice::default(), Choice::default());
    for (place, range) in ranges.enumerate() {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let Some(weight) = weight(parts) else { continue };
        match &*name {
            NDJSON => lines.improve(Specificity::Exact, weight, place),
            JSON => json.improve(Specificity::Exact, weight, place),
            "application/*" => json.improve(Specificity::Type, weight, place),
            "*/*" => json.improve(Specificity::Any, weight, place),
            _ => {}
        }
    }
    let is_named_first = json.specificity != Specificity::Exact || lines.place < json.place;
    match lines.weight.cmp(&json.weight) {
        Ordering::Greater => true,
        Ordering::Equal => lines.weight > 0 && is_named_first,
        Ordering::Less => false,
    }
}

/// How exactly a range names a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    #[default]
    Unnamed,
    Any,
    Type,
    Exact,
}

/// The most specific range for a type.
#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    specificity: Specificity,
    /// In thousandths.
    weight: u16,
    place: usize,
}

impl Choice {
    fn improve(&mut self, specificity: Specificity, weight: u16, place: usize) {
        if specificity > self.specificity {
            *self = Self { specificity, weight, place };
        }
    }
}

/// The weight of a range in thousandths, from its parameters; `None` if it is malformed.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Option<u16> {
    let weight = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then_some(value.trim())
    });
    let Some(weight) = weight else { return Some(1000) };
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let is_decimal = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" if is_decimal => Some(thousandths),
        "1" if is_decimal && thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &[&str], expected: bool) {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        assert_eq!(asks_for_lines(&headers), expected, "{accept:?}");
    }

    #[test]
    fn lines_are_sent_only_to_a_client_that_names_them() {
        check(&[], false);
        for json in [
            "",
            "*/*",
            "application/*",
            "application/json",
            "text/html, */*;q=0.8",
            "application/ndjson",
            "application/x-ndjson-seq",
            "x-ndjson",
            "application/x-ndjson;q=0",
            "application/x-ndjson;q=0.000, */*",
            ",;=,",
        ] {
            check(&[json], false);
        }
        for lines in [
            "application/x-ndjson",
            "APPLICATION/X-NDJSON",
            " application/x-ndjson ; charset=utf-8",
            "application/x-ndjson;q=0.001",
            "application/x-ndjson, */*",
            "*/*, application/x-ndjson",
            "text/html, application/x-ndjson;q=0.5",
        ] {
            check(&[lines], true);
        }
    }

    #[test]
    fn the_weight_decides_and_then_the_order() {
        check(&["application/x-ndjson, application/json"], true);
        check(&["application/json, application/x-ndjson"], false);
        check(&["application/json", "application/x-ndjson"], false);
        check(&["application/x-ndjson", "application/json"], true);
        check(&["application/json;q=0.9, application/x-ndjson"], true);
        check(&["application/x-ndjson;q=0.9, application/json"], false);
        check(&["application/x-ndjson;q=0.5, */*;q=0.6"], false);
        check(&["application/x-ndjson;q=0.6, */*;q=0.5"], true);
        check(&["*/*;q=1, application/json;q=0.1, application/x-ndjson;q=0.2"], true);
        check(&["application/*;q=0.1, */*, application/x-ndjson;q=0.2"], true);
    }

    #[test]
    fn a_malformed_weight_is_ignored() {
        for weight in ["2", "1.1", "-1", "0.1234", ".5", "0,5", "x", "", "1e0", "0.x"] {
            check(&[&format!("application/x-ndjson;q={weight}")], false);
        }
        check(&["application/x-ndjson;Q=1.000"], true);
        check(&["application/x-ndjson; q = 0. "], false);
    }
}
