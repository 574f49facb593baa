//! The difference between two states as paths with the old and the new value.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One changed value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// RFC 6901 pointer (`/during/start`).
    pub path: String,
    /// The value before; null when there was none.
    pub old: Value,
    /// The value after; null when there is none.
    pub new: Value,
}

/// What differs between two JSON values: objects member by member, everything else (arrays too) as a whole.
pub fn diff(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&mut String::new(), old, new, &mut changes);
    changes
}

fn compare(path: &mut String, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        changes.push(Change { path: path.clone(), old: old.clone(), new: new.clone() });
        return;
    };
    let mut keys: Vec<&String> =
        before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))).collect();
    keys.sort();
    for key in keys {
        let length = path.len();
        path.push('/');
        path.push_str(&key.replace('~', "~0").replace('/', "~1"));
        compare(
            path,
            before.get(key).unwrap_or(&Value::Null),
            after.get(key).unwrap_or(&Value::Null),
            changes,
        );
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_named() {
        let old = json!({"status": "held", "during": {"start": 1, "end": 2}, "a/b": 1, "gone": true});
        let new = json!({"status": "confirmed", "during": {"start": 1, "end": 3}, "a/b": 2});
        let paths: Vec<String> = diff(&old, &new).into_iter().map(|change| change.path).collect();
        assert_eq!(paths, ["/a~1b", "/during/end", "/gone", "/status"]);
        assert!(diff(&new, &new).is_empty());
    }

    #[test]
    fn the_first_state_differs_from_nothing() {
        let changes = diff(&Value::Null, &json!({"status": "held"}));
        assert_eq!(
            changes,
            [Change { path: String::new(), old: Value::Null, new: json!({"status": "held"}) }]
        );
    }
}
