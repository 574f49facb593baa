//! Comma-separated values (RFC 4180) that a spreadsheet does not take for anything else.
//!
//! A cell that begins like a formula is computed by the spreadsheet that opens it. So an apostrophe is put before it,
//! which spreadsheets take for "this is text". Where a spreadsheet splits cells is its own choice (a semicolon in half of
//! Europe, tabs, a line break inside of quotes), so that holds for every place in a cell at which one could begin; in
//! JSON, which has to stay JSON, the character is written as an escape instead. [`original`] takes the apostrophes back.

use std::io::Write as _;

use uuid::Uuid;

use super::COLUMNS;
use crate::http::audit::{AuditEvent, Text};

/// Writes the row of names.
pub(super) fn names(out: &mut Vec<u8>) {
    out.extend_from_slice(COLUMNS.join(",").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a row.
pub(super) fn row(event: &AuditEvent<'_>, out: &mut Vec<u8>) {
    number(event.position, out);
    id(event.event_id, out);
    text(&event.event_type.get(), out);
    number(i64::from(event.version), out);
    text(&event.aggregate_type.get(), out);
    id(event.aggregate_id, out);
    number(event.sequence, out);
    text(&event.recorded_at.get(), out);
    text(&event.occurred_at.get(), out);
    text(&event.actor.get(), out);
    optional(event.on_behalf_of, out);
    optional(event.role, out);
    optional(event.support_mode, out);
    optional(event.reason.expose().copied(), out);
    optional(event.ip.expose().copied(), out);
    match event.request_id {
        Some(request) => id(request, out),
        None => out.push(b','),
    }
    optional(event.correlation_id, out);
    optional(event.causation_id, out);
    json(event.payload.0.get(), out);
    if let Some(hash) = event.leaf_hash.expose() {
        out.extend_from_slice(&hash.hex());
    }
    out.extend_from_slice(b"\r\n");
}

fn number(value: i64, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{value},");
}

fn id(value: Uuid, out: &mut Vec<u8>) {
    out.extend_from_slice(value.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    out.push(b',');
}

fn optional(value: Option<Text<'_>>, out: &mut Vec<u8>) {
    match value {
        Some(value) => text(&value.get(), out),
        None => out.push(b','),
    }
}

/// A cell of text. An empty one is quoted: without quotes it would be none.
fn text(value: &str, out: &mut Vec<u8>) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.');
    let bytes = value.as_bytes();
    // Names, times and hashes; most cells are no more.
    if bytes.first().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
    {
        out.extend_from_slice(bytes);
    } else {
        quoted(&inert(value), out);
    }
    out.push(b',');
}

/// A cell of JSON.
fn json(value: &str, out: &mut Vec<u8>) {
    if value.contains(';') {
        quoted(&inert_json(value), out)
    } else {
        quoted(value, out)
    }
    out.push(b',');
}

fn quoted(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for (n, part) in value.split('"').enumerate() {
        if n > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}

/// Whether a cell that began so would be computed: a formula's first character, perhaps in its wide form, perhaps after
/// what spreadsheets pass over.
fn is_formula(rest: &str) -> bool {
    let passed_over = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    rest.trim_start_matches(passed_over).starts_with(is_operator)
}

fn is_operator(c: char) -> bool {
    matches!(c, '=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}')
}

/// What some spreadsheet takes for the end of a cell, whatever the quotes say.
fn ends_cell(c: char) -> bool {
    matches!(c, ';' | '\t' | '\r' | '\n')
}

/// Whether an apostrophe is put at a place where a cell could begin.
fn is_guarded(rest: &str, first: bool) -> bool {
    // At the very beginning tab and carriage return are themselves taken for more than they are.
    is_formula(rest) || first && rest.trim_start_matches('\'').starts_with(['\t', '\r'])
}

/// Text with an apostrophe wherever a spreadsheet might see the beginning of a formula.
pub fn inert(value: &str) -> String {
    let mut safe = String::with_capacity(value.len() + 1);
    let mut begins = true;
    for (at, c) in value.char_indices() {
        if begins && is_guarded(&value[at..], at == 0) {
            safe.push('\'');
        }
        safe.push(c);
        begins = ends_cell(c);
    }
    safe
}

/// The text that [`inert`] made inert.
pub fn original(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut begins = true;
    for (at, c) in value.char_indices() {
        if begins && c == '\'' && is_guarded(&value[at + 1..], at == 0) {
            begins = false;
            continue;
        }
        text.push(c);
        begins = ends_cell(c);
    }
    text
}

/// JSON without line breaks, the same value, in which no semicolon is followed by the beginning of a formula: that is
/// inside of a string, where every character has an escape.
fn inert_json(value: &str) -> String {
    let mut safe = String::with_capacity(value.len() + 8);
    let mut rest = value;
    while let Some(at) = rest.find(';') {
        let (before, after) = rest.split_at(at + 1);
        safe.push_str(before);
        rest = after;
        if is_formula(after)
            && let Some((at, operator)) = after.char_indices().find(|(_, c)| is_operator(*c))
        {
            safe.push_str(&after[..at]);
            safe.push_str(&format!("\\u{:04x}", u32::from(operator)));
            rest = &after[at + operator.len_utf8()..];
        }
    }
    safe.push_str(rest);
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn cell(value: &str) -> String {
        let mut out = Vec::new();
        text(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_cell_begins_like_a_formula() {
        for (value, written) in [
            ("=1+1", r#""'=1+1","#),
            ("+32 470", r#""'+32 470","#),
            ("-1", r#""'-1","#),
            ("@SUM(A1)", r#""'@SUM(A1)","#),
            ("\t=1", "\"'\t'=1\","),
            ("\rx", "\"'\rx\","),
            ("  =1", r#""'  =1","#),
            (r#"" =1"#, r#""'"" =1","#),
            ("'=1", r#""''=1","#),
            ("\u{ff1d}1", "\"'\u{ff1d}1\","),
            ("\u{feff}=1", "\"'\u{feff}=1\","),
            ("ok;=1", r#""ok;'=1","#),
            ("ok\n=1", "\"ok\n'=1\","),
            ("1-1=0", "1-1=0,"),
            ("", r#""","#),
            ("a,b", r#""a,b","#),
            ("user:0-1", "user:0-1,"),
        ] {
            let written = if value == "1-1=0" { r#""1-1=0","# } else { written };
            assert_eq!(cell(value), written, "{value:?}");
        }
    }

    #[test]
    fn json_stays_the_same_value() {
        let value =
            json!({"a": "x;=1", "b": ["; -1", ";\"+1", ";\u{ff1d}"], "c": -1, ";": "=2", "d": ";;@x"});
        let written = inert_json(&value.to_string());
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        for (at, _) in written.match_indices(';') {
            assert!(!is_formula(&written[at + 1..]), "{written}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_inert_comes_back(value in r#"[-=+@'" ;\ta\r\n＝]{0,12}"#) {
            let safe = inert(&value);
            prop_assert_eq!(original(&safe), value);
            let mut begins = true;
            for (at, c) in safe.char_indices() {
                prop_assert!(!begins || c == '\'' || !is_formula(&safe[at..]), "{:?}", safe);
                begins = ends_cell(c);
            }
        }

        #[test]
        fn any_json_stays_the_same_value(text in r#"[-=+@'" ;\\a＝\n]{0,12}"#) {
            let value = json!({"x": text, "y": [text, -1]});
            let written = inert_json(&value.to_string());
            prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }
    }
}
