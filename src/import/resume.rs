//! What an earlier, interrupted run of the same import was answered.
//!
//! The store would answer each unit again under its key, but reads an aggregate back for each; this reads all
//! answers at once.

use std::collections::HashMap;

use daybook_domain::DomainError;
use daybook_projections::Schema;
use sqlx::types::Json;

use super::identity::ImportId;
use crate::{
    eventstore::{EventStore, StoreError},
    tenancy::{Access, TenantTx},
};

/// The answers by idempotency key: a refusal, or `None` for a unit that was committed.
pub type Answers = HashMap<String, Option<DomainError>>;

/// Reads the answers of earlier runs.
///
/// # Errors
/// When PostgreSQL refuses, or another version of the rules began this import.
pub async fn answers(store: &EventStore, schema: &Schema, import: &ImportId) -> Result<Answers, StoreError> {
    let sql =
        schema.sql("SELECT key, request_hash, response -> 'refused' FROM {s}.idempotency WHERE scope = $1");
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
    let rows: Vec<(String, Vec<u8>, Option<Json<DomainError>>)> = sqlx::query_as(&sql)
        .bind(import.scope())
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("read the answers of an import"))?;
    let mut answers = Answers::with_capacity(rows.len());
    for (key, request_hash, refused) in rows {
        if request_hash != import.request_hash(&key) {
            return Err(StoreError::KeyReused);
        }
        answers.insert(key, refused.map(|refused| refused.0));
    }
    Ok(answers)
}
