//! An event as an auditor sees it: read from its leaf in place.

use std::borrow::Cow;

use daybook_domain::{Disclosed, personal::SEALED_MARKER};
use daybook_projections::log::LogRow;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::Error as _};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    eventstore::{
        StoreError,
        leaf::{LEAF_VERSION, leaf_hash},
    },
    http::disclosure::{self, Disclosure},
};

/// An event of the log. Personal values are not in it: the leaf holds commitments to them.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEvent<'a> {
    /// Its position in the log.
    pub position: i64,
    /// Its id.
    pub event_id: Uuid,
    /// What happened (`booking.confirmed`).
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub event_type: Text<'a>,
    /// The version of its payload's shape.
    pub version: u16,
    /// The type of the aggregate it happened to.
    #[schema(value_type = String)]
    pub aggregate_type: Text<'a>,
    /// The aggregate it happened to.
    pub aggregate_id: Uuid,
    /// Its place in the aggregate's stream.
    pub sequence: i64,
    /// When it was written.
    #[schema(value_type = String)]
    pub recorded_at: Text<'a>,
    /// When it happened; the same, except for imported history.
    #[schema(value_type = String)]
    pub occurred_at: Text<'a>,
    /// Who did it.
    #[schema(value_type = String)]
    pub actor: Text<'a>,
    /// For whom, while hijacking.
    #[schema(value_type = Option<String>)]
    pub on_behalf_of: Option<Text<'a>>,
    /// The actor's role then.
    #[schema(value_type = Option<String>)]
    pub role: Option<Text<'a>>,
    /// The support mode, when in a support session.
    #[schema(value_type = Option<String>)]
    pub support_mode: Option<Text<'a>>,
    /// Why.
    #[schema(value_type = Option<String>)]
    pub reason: Disclosed<Text<'a>>,
    /// The client's address.
    #[schema(value_type = Option<String>)]
    pub ip: Disclosed<Text<'a>>,
    /// The request it came with.
    pub request_id: Option<Uuid>,
    /// What belongs together.
    #[schema(value_type = Option<String>)]
    pub correlation_id: Option<Text<'a>>,
    /// What caused it, or the grant by which the actor could (`permission_grant:<id>`).
    #[schema(value_type = Option<String>)]
    pub causation_id: Option<Text<'a>>,
    /// What happened, as it was written then.
    #[schema(value_type = Object)]
    pub payload: Payload<'a>,
    /// SHA-256 of the leaf (RFC 6962), in hex.
    #[schema(value_type = String)]
    pub leaf_hash: Disclosed<LeafHash>,
}

/// The hash of a leaf, in hex where it is text.
#[derive(Clone, Copy, Debug)]
pub struct LeafHash(pub [u8; 32]);

impl LeafHash {
    /// Its digits.
    pub fn hex(self) -> [u8; 64] {
        let mut digits = [0; 64];
        // As long as it takes.
        let _ = hex::encode_to_slice(self.0, &mut digits);
        digits
    }
}

impl Serialize for LeafHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.hex()).map_err(S::Error::custom)?)
    }
}

/// What happened, as it was written then, or without people's words.
#[derive(Debug)]
pub struct Payload<'a>(pub &'a RawValue);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if disclosure::current() == Disclosure::Clear {
            return self.0.serialize(serializer);
        }
        let mut payload: Value = serde_json::from_str(self.0.get()).map_err(S::Error::custom)?;
        without_words(&mut payload);
        payload.serialize(serializer)
    }
}

/// Puts the marker in the place of every reason: words in which people may name others. What else is free text in a payload
/// (names of things, the note of a block) is by its description not for personal data.
fn without_words(payload: &mut Value) {
    match payload {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(words) if name == "reason" => SEALED_MARKER.clone_into(words),
                    value => without_words(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_words),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Text of a leaf, which the answer has as the leaf has it: a JSON string with its quotes and escapes.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(&'a RawValue);

impl<'a> Text<'a> {
    /// The text itself.
    pub fn get(self) -> Cow<'a, str> {
        let json = self.0.get();
        let within = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json);
        if within.contains('\\') {
            // Half of a surrogate pair is JSON's grammar, but no text: it stays as it is.
            serde_json::from_str(json).map_or(Cow::Borrowed(within), Cow::Owned)
        } else {
            Cow::Borrowed(within)
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <&RawValue>::deserialize(deserializer)?;
        if value.get().starts_with('"') { Ok(Self(value)) } else { Err(de::Error::custom("not a text")) }
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A leaf read in place: its text is the answer's, unchanged.
#[derive(Deserialize)]
struct LeafText<'a> {
    #[serde(borrow)]
    position: Cow<'a, str>,
    id: Uuid,
    #[serde(borrow, rename = "type")]
    event_type: Text<'a>,
    version: u16,
    #[serde(borrow)]
    aggregate_type: Text<'a>,
    aggregate_id: Uuid,
    #[serde(borrow)]
    sequence: Cow<'a, str>,
    #[serde(borrow)]
    recorded_at: Text<'a>,
    #[serde(borrow)]
    occurred_at: Text<'a>,
    #[serde(borrow)]
    actor: Text<'a>,
    #[serde(borrow, default)]
    on_behalf_of: Option<Text<'a>>,
    #[serde(borrow, default)]
    role: Option<Text<'a>>,
    #[serde(borrow, default)]
    support_mode: Option<Text<'a>>,
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    ip: Option<Text<'a>>,
    #[serde(default)]
    request_id: Option<Uuid>,
    #[serde(borrow, default)]
    correlation_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    causation_id: Option<Text<'a>>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl<'a> AuditEvent<'a> {
    /// Reads it from its leaf.
    ///
    /// # Errors
    /// When the leaf is not of its form, or another position's.
    pub fn read(row: &'a LogRow) -> Result<Self, StoreError> {
        let corrupt = |what, source| StoreError::Corrupt { what, position: row.position, source };
        let Some((&LEAF_VERSION, text)) = row.leaf.split_first() else {
            return Err(corrupt("a leaf of an unknown version", None));
        };
        // Checked at once for all, not each string for itself.
        let text =
            str::from_utf8(text).map_err(|error| corrupt("a leaf that is not text", Some(error.into())))?;
        let leaf: LeafText<'a> = serde_json::from_str(text)
            .map_err(|error| corrupt("a leaf that is not of its form", Some(error.into())))?;
        if leaf.position.parse() != Ok(row.position) {
            return Err(corrupt("a leaf of another position", None));
        }
        Ok(Self {
            position: row.position,
            event_id: leaf.id,
            event_type: leaf.event_type,
            version: leaf.version,
            aggregate_type: leaf.aggregate_type,
            aggregate_id: leaf.aggregate_id,
            sequence: leaf.sequence.parse().map_err(|_| corrupt("a leaf without a sequence", None))?,
            recorded_at: leaf.recorded_at,
            occurred_at: leaf.occurred_at,
            actor: leaf.actor,
            on_behalf_of: leaf.on_behalf_of,
            role: leaf.role,
            support_mode: leaf.support_mode,
            reason: leaf.reason.into(),
            ip: leaf.ip.into(),
            request_id: leaf.request_id,
            correlation_id: leaf.correlation_id,
            causation_id: leaf.causation_id,
            payload: Payload(leaf.payload),
            // Nothing in a leaf is unknown but what is hidden, and addresses are few: the hash would tell them.
            leaf_hash: LeafHash(leaf_hash(&row.leaf)).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::respond;

    async fn answered(payload: &str, disclosure: Disclosure) -> String {
        let payload: Box<RawValue> = serde_json::from_str(payload).unwrap();
        let response =
            disclosure::scope(disclosure, async { respond::json(&Payload(&payload)).unwrap() }).await;
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn text_is_passed_on_as_it_is_written_and_is_text() {
        for (json, text) in [
            (r#""""#, ""),
            (r#""Ada""#, "Ada"),
            (r#""a \"b\" \u0043\n""#, "a \"b\" C\n"),
            (r#""\\""#, "\\"),
            // No text has half a pair.
            (r#""\ud800""#, r"\ud800"),
        ] {
            let read: Text<'_> = serde_json::from_str(json).unwrap();
            assert_eq!((read.get().as_ref(), serde_json::to_string(&read).unwrap().as_str()), (text, json));
        }
        for json in ["1", "null", "{}", r#"["a"]"#, "true"] {
            assert!(serde_json::from_str::<Text<'_>>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Option<Text<'_>>>("null").unwrap().is_none());
    }

    #[tokio::test]
    async fn people_s_words_in_a_payload_are_hidden_and_the_rest_is_as_it_was_written() {
        let payload = r#"{"ended":{"reason":"Ada \u0043anary is ill"},"minutes":30,"reason":"Ada called"}"#;
        assert_eq!(answered(payload, Disclosure::Clear).await, payload);
        assert_eq!(
            answered(payload, Disclosure::Masked).await,
            r#"{"ended":{"reason":"[personal]"},"minutes":30,"reason":"[personal]"}"#
        );
    }
}
