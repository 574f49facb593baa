//! The difference between two states as paths with the old and the new value.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One changed value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change<V = Value> {
    /// RFC 6901 pointer (`/during/start`).
    pub path: String,
    /// The value before; null when there was none.
    pub old: V,
    /// The value after; null when there is none.
    pub new: V,
}

/// What differs between two JSON values: objects member by member, everything else (arrays too) as a whole.
pub fn diff<'v>(old: &'v Value, new: &'v Value) -> Vec<Change<&'v Value>> {
    let mut changes = Vec::new();
    compare(&mut String::new(), old, new, &mut changes);
    changes
}

fn compare<'v>(path: &mut String, old: &'v Value, new: &'v Value, changes: &mut Vec<Change<&'v Value>>) {
    if old == new {
        return;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        changes.push(Change { path: path.clone(), old, new });
        return;
    };
    let mut keys: Vec<&String> =
        before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))).collect();
    keys.sort();
    for key in keys {
        let length = path.len();
        path.push('/');
        if key.contains(['~', '/']) {
            path.push_str(&key.replace('~', "~0").replace('/', "~1"));
        } else {
            path.push_str(key);
        }
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
        let held = json!({"status": "held"});
        assert_eq!(
            diff(&Value::Null, &held),
            [Change { path: String::new(), old: &Value::Null, new: &held }]
        );
    }
}
