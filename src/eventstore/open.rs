//! Opening personal values with their salts, for whoever shows them to somebody else: with the salt anybody can see that a
//! value is the one a leaf commits to.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{StoreError, leaf::SALT_BYTES, load, seal};
use crate::keys::Keys;
use daybook_projections::Schema;

/// A personal value, and what its leaf's commitment to it was made with.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The event's position.
    pub position: i64,
    /// The event.
    pub event_id: Uuid,
    /// The field.
    pub field: String,
    /// Whose it is.
    pub subject: Uuid,
    /// The salt.
    pub salt: [u8; SALT_BYTES],
    /// The value.
    pub value: Value,
}

/// An event's position, its id, and its commitments by field.
pub type Committed = (i64, Uuid, BTreeMap<String, String>);

/// Opens the values of events, in their order, the fields of each by name. Values of people whose data was erased are
/// left out.
///
/// # Errors
/// When a value is not the one that its leaf commits to, or PostgreSQL refuses.
pub async fn open(
    connection: &mut PgConnection,
    schema: &Schema,
    keys: &Keys,
    committed: &[Committed],
) -> Result<Vec<Opened>, StoreError> {
    let positions: Vec<i64> = committed.iter().map(|(position, ..)| *position).collect();
    let rows: Vec<(i64, String, Uuid, Vec<u8>)> = sqlx::query_as(&schema.sql(
        "SELECT position, field, subject_id, ciphertext FROM {s}.sealed_values WHERE position = ANY($1)",
    ))
    .bind(&positions)
    .fetch_all(&mut *connection)
    .await
    .map_err(StoreError::db("read sealed values"))?;
    let mut subjects: Vec<Uuid> = rows.iter().map(|row| row.2).collect();
    subjects.sort_unstable();
    subjects.dedup();
    let keys: HashMap<Uuid, _> = load::subject_keys(connection, schema, keys, &subjects)
        .await?
        .into_iter()
        .map(|(subject, key)| (subject.0, key))
        .collect();
    let sealed: HashMap<(i64, String), (Uuid, Vec<u8>)> = rows
        .into_iter()
        .map(|(position, field, subject, bytes)| ((position, field), (subject, bytes)))
        .collect();
    let mut opened = Vec::with_capacity(sealed.len());
    for (position, event_id, commitments) in committed {
        for (field, commitment) in commitments {
            // Erasure destroys the key and the sealed rows.
            let Some((subject, bytes)) = sealed.get(&(*position, field.clone())) else { continue };
            let key = match keys.get(subject) {
                Some(Some(key)) => key,
                Some(None) => continue,
                None => return Err(StoreError::Sealing("a sealed value has no subject key")),
            };
            let (salt, value) = seal::open(key, schema.log_id(), *event_id, field, bytes, commitment)?;
            let (position, event_id, subject) = (*position, *event_id, *subject);
            opened.push(Opened { position, event_id, field: field.clone(), subject, salt, value });
        }
    }
    Ok(opened)
}
