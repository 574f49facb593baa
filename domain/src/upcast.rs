//! Upcasters: pure functions that bring the payload of an older version to today's shape, on every read.
//!
//! An event type never changes its meaning; a new meaning is a new type. A shape that grows gets a version and
//! an entry here, and the golden corpus in the tests keeps an example of every shape ever written.

use serde_json::Value;

/// One step: from a version of a type to the next.
#[derive(Clone, Copy, Debug)]
pub struct Upcaster {
    /// The event type.
    pub event_type: &'static str,
    /// The version it reads; it writes the next one.
    pub from: u16,
    /// The change of the payload.
    pub apply: fn(Value) -> Value,
}

/// Every step there is. No shape has changed yet.
pub const UPCASTERS: &[Upcaster] = &[];

/// Why a payload cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpcastError {
    /// Written by a newer release than this one.
    #[error("{event_type} has version {version}, this release knows up to {known}")]
    FromTheFuture {
        /// The event type.
        event_type: String,
        /// The version found.
        version: u16,
        /// The newest version known.
        known: u16,
    },
    /// An older version without a step towards today's.
    #[error("{event_type} version {version} has no upcaster")]
    NoPath {
        /// The event type.
        event_type: String,
        /// The version that is stuck.
        version: u16,
    },
    /// No aggregate has this event type.
    #[error("unknown event type {event_type}")]
    UnknownType {
        /// The event type.
        event_type: String,
    },
    /// The payload is not of its shape.
    #[error("{event_type} version {version} is malformed: {detail}")]
    Malformed {
        /// The event type.
        event_type: String,
        /// The version.
        version: u16,
        /// What is wrong; never a value.
        detail: String,
    },
}

/// Brings a payload to today's shape.
///
/// # Errors
/// When the type is unknown, or the version is newer than this release or has no way up.
pub fn upcast(event_type: &str, version: u16, payload: Value) -> Result<Value, UpcastError> {
    let today = crate::registry::current_version(event_type)
        .ok_or_else(|| UpcastError::UnknownType { event_type: event_type.to_owned() })?;
    upcast_with(UPCASTERS, event_type, version, today, payload)
}

/// The same over any table.
///
/// # Errors
/// When the version is newer than `today` or has no way up.
pub fn upcast_with(
    table: &[Upcaster],
    event_type: &str,
    mut version: u16,
    today: u16,
    mut payload: Value,
) -> Result<Value, UpcastError> {
    if version > today {
        return Err(UpcastError::FromTheFuture { event_type: event_type.to_owned(), version, known: today });
    }
    while version < today {
        let step = table
            .iter()
            .find(|step| step.event_type == event_type && step.from == version)
            .ok_or_else(|| UpcastError::NoPath { event_type: event_type.to_owned(), version })?;
        payload = (step.apply)(payload);
        version += 1;
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TABLE: &[Upcaster] = &[
        Upcaster { event_type: "guest.moved", from: 1, apply: |old| json!({ "to": old["room"] }) },
        Upcaster { event_type: "guest.moved", from: 2, apply: |old| json!({ "to": old["to"], "floor": 0 }) },
    ];

    #[test]
    fn an_old_payload_climbs_every_step() {
        let up = |version, payload| upcast_with(TABLE, "guest.moved", version, 3, payload);
        assert_eq!(up(1, json!({"room": 7})).unwrap(), json!({"to": 7, "floor": 0}));
        assert_eq!(up(2, json!({"to": 7})).unwrap(), json!({"to": 7, "floor": 0}));
        assert_eq!(up(3, json!({"to": 7, "floor": 2})).unwrap(), json!({"to": 7, "floor": 2}));
    }

    #[test]
    fn the_future_and_gaps_are_errors() {
        assert!(matches!(
            upcast_with(TABLE, "guest.moved", 4, 3, Value::Null),
            Err(UpcastError::FromTheFuture { known: 3, .. })
        ));
        assert!(matches!(
            upcast_with(&TABLE[..1], "guest.moved", 1, 3, Value::Null),
            Err(UpcastError::NoPath { version: 2, .. })
        ));
        assert!(matches!(upcast("no.such", 1, Value::Null), Err(UpcastError::UnknownType { .. })));
    }
}
