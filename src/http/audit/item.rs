//! An event as an auditor sees it: read from its leaf in place.

use std::borrow::Cow;

use daybook_domain::{Disclosed, personal::SEALED_MARKER};
use daybook_projections::log::LogRow;
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
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
    pub event_type: Cow<'a, str>,
    /// The version of its payload's shape.
    pub version: u16,
    /// The type of the aggregate it happened to.
    pub aggregate_type: Cow<'a, str>,
    /// The aggregate it happened to.
    pub aggregate_id: Uuid,
    /// Its place in the aggregate's stream.
    pub sequence: i64,
    /// When it was written.
    pub recorded_at: Cow<'a, str>,
    /// When it happened; the same, except for imported history.
    pub occurred_at: Cow<'a, str>,
    /// Who did it.
    pub actor: Cow<'a, str>,
    /// For whom, while hijacking.
    pub on_behalf_of: Option<Cow<'a, str>>,
    /// The actor's role then.
    pub role: Option<Cow<'a, str>>,
    /// The support mode, when in a support session.
    pub support_mode: Option<Cow<'a, str>>,
    /// Why.
    #[schema(value_type = Option<String>)]
    pub reason: Disclosed<Cow<'a, str>>,
    /// The client's address.
    #[schema(value_type = Option<String>)]
    pub ip: Disclosed<Cow<'a, str>>,
    /// The request it came with.
    pub request_id: Option<Uuid>,
    /// What belongs together.
    pub correlation_id: Option<Cow<'a, str>>,
    /// What caused it, or the grant by which the actor could (`permission_grant:<id>`).
    pub causation_id: Option<Cow<'a, str>>,
    /// What happened, as it was written then.
    #[schema(value_type = Object)]
    pub payload: Payload<'a>,
    /// SHA-256 of the leaf (RFC 6962), in hex.
    #[schema(value_type = String)]
    pub leaf_hash: Disclosed<String>,
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

/// Text of a leaf, read in place where it has no escapes. In an `Option` a bare `Cow` would be copied.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A leaf read in place: its text is the answer's, unchanged.
#[derive(Deserialize)]
struct LeafText<'a> {
    #[serde(borrow)]
    position: Cow<'a, str>,
    id: Uuid,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    version: u16,
    #[serde(borrow)]
    aggregate_type: Cow<'a, str>,
    aggregate_id: Uuid,
    #[serde(borrow)]
    sequence: Cow<'a, str>,
    #[serde(borrow)]
    recorded_at: Cow<'a, str>,
    #[serde(borrow)]
    occurred_at: Cow<'a, str>,
    #[serde(borrow)]
    actor: Cow<'a, str>,
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
        let leaf: LeafText<'a> = serde_json::from_slice(text)
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
            on_behalf_of: leaf.on_behalf_of.map(|text| text.0),
            role: leaf.role.map(|text| text.0),
            support_mode: leaf.support_mode.map(|text| text.0),
            reason: leaf.reason.map(|text| text.0).into(),
            ip: leaf.ip.map(|text| text.0).into(),
            request_id: leaf.request_id,
            correlation_id: leaf.correlation_id.map(|text| text.0),
            causation_id: leaf.causation_id.map(|text| text.0),
            payload: Payload(leaf.payload),
            // Nothing in a leaf is unknown but what is hidden, and addresses are few: the hash would tell them.
            leaf_hash: hex::encode(leaf_hash(&row.leaf)).into(),
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
