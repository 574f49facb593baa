//! RFC 8785 canonical JSON (JCS), written straight to bytes: every event that is appended passes through here.
//!
//! Objects and texts are written here, as [`serde_json_canonicalizer`] sorts and escapes at several times the cost, under
//! the lock of the log's head. Numbers with a fraction are left to it, and whoever verifies a leaf uses it for all.

use serde_json::{Map, Value};

/// Integers beyond it are not exact in every reader (RFC 8785, section 3.2.2.3; RFC 7493, section 2.2).
const MAX_EXACT: u64 = 1 << 53;

/// Appends the canonical form of a value.
///
/// # Errors
/// When a number has none.
pub fn write(value: &Value, bytes: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match value {
        Value::Number(number) => {
            let size = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
            if size.is_some_and(|size| size <= MAX_EXACT) {
                serde_json::to_writer(bytes, number)
            } else {
                serde_json_canonicalizer::to_writer(number, bytes)
            }
        }
        Value::Array(items) => {
            bytes.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write(item, bytes)?;
            }
            bytes.push(b']');
            Ok(())
        }
        Value::Object(members) => write_object(members, bytes),
        // Escaped as section 3.2.2.2 wants it.
        Value::Null | Value::Bool(_) | Value::String(_) => serde_json::to_writer(bytes, value),
    }
}

/// Members in the order of their names' UTF-16 code units (section 3.2.3). A map has them in that of their bytes, which
/// nearly always is the same.
fn write_object(members: &Map<String, Value>, bytes: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let in_order = |one: &&String, next: &&String| match one.is_ascii() && next.is_ascii() {
        true => one <= next,
        false => one.encode_utf16().le(next.encode_utf16()),
    };
    bytes.push(b'{');
    if members.keys().is_sorted_by(in_order) {
        write_members(members.iter(), bytes)?;
    } else {
        let mut sorted: Vec<_> = members.iter().collect();
        sorted.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
        write_members(sorted.into_iter(), bytes)?;
    }
    bytes.push(b'}');
    Ok(())
}

fn write_members<'v>(
    members: impl Iterator<Item = (&'v String, &'v Value)>,
    bytes: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        serde_json::to_writer(&mut *bytes, name)?;
        bytes.push(b':');
        write(value, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn canonical(value: &Value) -> String {
        let mut bytes = Vec::new();
        write(value, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Names and texts with all that is sorted or escaped in its own way.
    fn text() -> impl Strategy<Value = String> {
        let odd = prop_oneof![
            any::<char>(),
            proptest::char::range('\0', '\u{a0}'),
            proptest::char::range('\u{d7f0}', '\u{ffff}'),
            proptest::char::range('\u{10000}', '\u{10010}'),
        ];
        proptest::collection::vec(odd, 0..4).prop_map(String::from_iter)
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-3i64..3).prop_map(|near| Value::from((MAX_EXACT as i64) + near)),
            any::<f64>().prop_map(Value::from),
            any::<i32>().prop_map(|whole| Value::from(f64::from(whole))),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(text(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_the_library_writes(value in value()) {
            let ours = {
                let mut bytes = Vec::new();
                write(&value, &mut bytes).map(|()| bytes).map_err(|error| error.to_string())
            };
            let theirs = serde_json_canonicalizer::to_vec(&value).map_err(|error| error.to_string());
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn names_are_in_the_order_of_their_utf_16() {
        // RFC 8785, section 3.2.3: the emoji's first surrogate comes before U+FB33, its bytes after.
        assert_eq!(
            canonical(&json!({"\u{fb33}": 1, "\u{1f600}": 2, "a": 3})),
            "{\"a\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}"
        );
    }

    #[test]
    fn control_characters_are_escaped_as_ecmascript_does() {
        // RFC 8785, section 3.2.2.2.
        assert_eq!(
            canonical(&json!("\u{20ac}$\u{f}\u{a}A'\u{42}\u{22}\u{5c}\\\"/\u{7f}")),
            "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\""
        );
    }
}
