//! The leaf: the bytes of an event that are fixed when it is appended and proven years later.
//!
//! A leaf is one version byte and the RFC 8785 canonical JSON of the whole envelope. 64-bit integers and money
//! amounts are strings, times are microsecond strings in UTC, absent members are left out. Personal values are
//! not in it: `commitments` holds a salted hash for each.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use daybook_domain::{
    RecordedEvent, TenantId,
    envelope::Metadata,
    registry::{AggregateType, AnyEvent},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{StoreError, canonical};

/// The version byte of leaves written today.
pub const LEAF_VERSION: u8 = 1;
/// The most bytes of a leaf: bundles of leaves write the length of each in two.
pub const MAX_LEAF: usize = u16::MAX as usize;
/// How many bytes shorter than that everything but carried-over states has to be: a state that one event fills says, where it is
/// carried over, also whose it is and how far it goes.
pub const CARRIED_MARGIN: usize = 1_024;
/// Bytes of salt in a commitment.
pub const SALT_BYTES: usize = 32;
const COMMITMENT_DOMAIN: &[u8] = b"daybook personal value v1";

/// The envelope as it is canonicalised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leaf {
    /// The tenant (the nil UUID: the platform).
    pub tenant: TenantId,
    /// The position, as a string.
    pub position: String,
    /// The event's id.
    pub id: Uuid,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The version of the payload's shape.
    pub version: u16,
    /// The aggregate's type.
    pub aggregate_type: String,
    /// The aggregate's id.
    pub aggregate_id: Uuid,
    /// The sequence in the stream, as a string.
    pub sequence: String,
    /// When it was written (`2026-01-02T03:04:05.000006Z`).
    pub recorded_at: String,
    /// When it happened.
    pub occurred_at: String,
    /// Who, why, from where.
    #[serde(flatten)]
    pub metadata: Metadata,
    /// What happened, without personal data.
    pub payload: Value,
    /// Field name to hex of the commitment to its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commitments: BTreeMap<String, String>,
    /// 16 random bytes in hex, so that a leaf hash cannot be guessed from its content.
    pub nonce: String,
}

impl Leaf {
    /// The leaf's bytes.
    ///
    /// # Errors
    /// When the payload cannot be canonicalised.
    pub fn encode(mut self) -> Result<Vec<u8>, StoreError> {
        let corrupt = |source: serde_json::Error| StoreError::Corrupt {
            what: "a leaf that cannot be encoded",
            position: 0,
            source: Some(source.into()),
        };
        // The largest member goes in as it is; serialised with the others it would be copied.
        let payload = self.payload.take();
        let mut envelope = serde_json::to_value(self).map_err(corrupt)?;
        envelope["payload"] = payload;
        let mut bytes = Vec::with_capacity(1024);
        bytes.push(LEAF_VERSION);
        canonical::write(&envelope, &mut bytes).map_err(corrupt)?;
        Ok(bytes)
    }

    /// Reads a leaf's bytes.
    ///
    /// # Errors
    /// When they are not of a known version and form.
    pub fn decode(bytes: &[u8], position: i64) -> Result<Self, StoreError> {
        match bytes.split_first() {
            Some((&LEAF_VERSION, json)) => {
                serde_json::from_slice(json).map_err(|source| StoreError::Corrupt {
                    what: "a leaf that is not of its form",
                    position,
                    source: Some(source.into()),
                })
            }
            _ => Err(StoreError::Corrupt { what: "a leaf of an unknown version", position, source: None }),
        }
    }

    /// The event in it, upcast, personal fields still sealed.
    ///
    /// # Errors
    /// When the leaf is not what its own columns say or its payload is of an unknown shape.
    pub fn into_recorded(self, position: i64) -> Result<RecordedEvent, StoreError> {
        let corrupt = |what| StoreError::Corrupt { what, position, source: None };
        if self.position != position.to_string() {
            return Err(corrupt("a leaf of another position"));
        }
        let aggregate_type =
            AggregateType::parse(&self.aggregate_type).ok_or_else(|| corrupt("an unknown aggregate type"))?;
        let event = AnyEvent::from_payload(aggregate_type, &self.event_type, self.version, self.payload)
            .map_err(|source| StoreError::Corrupt {
                what: "an event of an unknown shape",
                position,
                source: Some(source.into()),
            })?;
        Ok(RecordedEvent {
            position,
            event_id: self.id,
            aggregate_type,
            aggregate_id: self.aggregate_id,
            sequence: self.sequence.parse().map_err(|_| corrupt("a leaf without a sequence"))?,
            recorded_at: parse_time(&self.recorded_at).ok_or_else(|| corrupt("a leaf without a time"))?,
            occurred_at: parse_time(&self.occurred_at).ok_or_else(|| corrupt("a leaf without a time"))?,
            metadata: self.metadata,
            event,
        })
    }
}

/// RFC 6962 section 2.1: the hash of a leaf is SHA-256 over a zero byte and the leaf.
pub fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update([0u8]);
    hasher.update(leaf);
    hasher.finalize().into()
}

/// SHA-256(domain | event id | field | salt | JCS value), each variable part preceded by its length.
pub fn commitment(event_id: Uuid, field: &str, salt: &[u8; SALT_BYTES], canonical_value: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [COMMITMENT_DOMAIN, event_id.as_bytes(), field.as_bytes(), salt, canonical_value] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A time as leaves write it.
pub fn format_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Reads a time as leaves write it.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc))
}
