//! Idempotency keys: stored in the transaction of the command, so that an answer and its key live or die together.

use daybook_domain::{DomainError, registry::AggregateType};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The key of a repeatable request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Caller and route: the same key of another caller or route is another key.
    pub scope: String,
    /// The client's key.
    pub key: String,
    /// A digest of the request; another one under the same key is refused. Where the request may hold what must not be
    /// guessed, it is a keyed one.
    pub request_hash: [u8; 32],
}

/// What is stored under a key. Not the answer's text: that is made again from the aggregates at these
/// sequences, so no personal value is kept here, and an erased one does not come back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredResponse {
    /// The unit was appended; the aggregate of each command with its sequence afterwards.
    Committed(Vec<StoredChange>),
    /// The unit was refused.
    Refused(DomainError),
}

/// One aggregate as a command left it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredChange {
    /// The aggregate's type.
    #[serde(rename = "type")]
    pub aggregate_type: String,
    /// The aggregate's id.
    pub id: Uuid,
    /// Its sequence afterwards.
    pub sequence: i64,
}

impl StoredChange {
    /// The aggregate's type, where this binary knows it.
    pub fn parsed_type(&self) -> Option<AggregateType> {
        AggregateType::parse(&self.aggregate_type)
    }
}
