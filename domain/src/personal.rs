//! Personal data as a type. A [`Personal`] value never prints and never serialises into an event's payload;
//! the store commits to it there and seals the value itself under its subject's key.

use std::{cell::Cell, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

/// The marker that stands for a personal value in a payload.
pub const SEALED_MARKER: &str = "[personal]";
/// The marker of a value whose subject's key was destroyed.
pub const ERASED_MARKER: &str = "[erased]";
const REVEALED_KEY: &str = "$personal";

/// A personal value: a name, a contact, a note.
///
/// `Debug` prints no value, and serde writes [`SEALED_MARKER`] instead of it, except inside [`revealing`].
/// The only way to the value is [`Personal::expose`].
#[derive(Clone, PartialEq, Eq)]
pub enum Personal<T> {
    /// The value is known here.
    Known(T),
    /// The value exists but has not been unsealed here.
    Sealed,
    /// The value was erased: its subject's key is destroyed.
    Erased,
}

impl<T> Personal<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self::Known(value)
    }

    /// The value, where it is known. Callers answer for where it goes.
    pub fn expose(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Sealed | Self::Erased => None,
        }
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Known(_) | Self::Sealed => SEALED_MARKER,
            Self::Erased => ERASED_MARKER,
        })
    }
}

thread_local! {
    static REVEAL: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with personal values serialised in the clear (as `{"$personal": value}`), on this thread only.
///
/// For snapshots and read models inside the tenant's own schema; never for a leaf, a log line or an answer.
pub fn revealing<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            REVEAL.set(self.0);
        }
    }
    let _restore = Restore(REVEAL.replace(true));
    f()
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            Self::Known(value) if REVEAL.get() => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(REVEALED_KEY, value)?;
                map.end()
            }
            Self::Known(_) | Self::Sealed => serializer.serialize_str(SEALED_MARKER),
            Self::Erased => serializer.serialize_str(ERASED_MARKER),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(marker) if marker == ERASED_MARKER => Ok(Self::Erased),
            Value::Object(mut map) if map.contains_key(REVEALED_KEY) => {
                let value = map.remove(REVEALED_KEY).unwrap_or(Value::Null);
                serde_json::from_value(value).map(Self::Known).map_err(serde::de::Error::custom)
            }
            _ => Ok(Self::Sealed),
        }
    }
}

/// A value as people read it: written, revealed personal values are without their wrapping. For read models only.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'v>(pub &'v Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => match map.get(REVEALED_KEY).filter(|_| map.len() == 1) {
                Some(revealed) => revealed.serialize(serializer),
                None => serializer.collect_map(map.iter().map(|(key, value)| (key, Plain(value)))),
            },
            Value::Array(items) => serializer.collect_seq(items.iter().map(Plain)),
            other => other.serialize(serializer),
        }
    }
}

/// A personal field seen without its type: how the store takes values out of an event and puts them back.
pub trait PersonalSlot {
    /// Whether there is a value that is not known here.
    fn is_sealed(&self) -> bool;

    /// The value as JSON, where it is known.
    fn value(&self) -> Option<Value>;

    /// Puts an unsealed value back (`None`: it was erased).
    ///
    /// # Errors
    /// When the JSON is not of the field's type.
    fn restore(&mut self, value: Option<Value>) -> Result<(), serde_json::Error>;
}

impl<T: Serialize + DeserializeOwned> PersonalSlot for Personal<T> {
    fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed)
    }

    fn value(&self) -> Option<Value> {
        self.expose().and_then(|value| serde_json::to_value(value).ok())
    }

    fn restore(&mut self, value: Option<Value>) -> Result<(), serde_json::Error> {
        *self = match value {
            Some(value) => Self::Known(serde_json::from_value(value)?),
            None => Self::Erased,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_personal_value_never_prints_or_serialises() {
        let name = Personal::new("Ada Canary".to_owned());
        assert!(!format!("{name:?}").contains("Ada"));
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"[personal]\"");
    }

    #[test]
    fn revealing_round_trips_and_ends_with_its_scope() {
        let name = Personal::new("Ada Canary".to_owned());
        let text = revealing(|| serde_json::to_string(&name).unwrap());
        assert_eq!(serde_json::from_str::<Personal<String>>(&text).unwrap(), name);
        assert!(!serde_json::to_string(&name).unwrap().contains("Ada"));
    }

    #[test]
    fn a_revealed_value_reads_as_itself() {
        let json =
            revealing(|| serde_json::json!({"notes": Personal::new("late"), "list": [Personal::new(1)]}));
        assert_eq!(
            serde_json::to_value(Plain(&json)).unwrap(),
            serde_json::json!({"notes": "late", "list": [1]})
        );
    }

    #[test]
    fn a_value_of_another_type_is_not_restored() {
        let mut slot = Personal::<String>::Sealed;
        assert!(slot.restore(Some(Value::from(1))).is_err());
        slot.restore(None).unwrap();
        assert_eq!(slot, Personal::Erased);
    }
}
