//! `logs/masquerade.log`: who acted as whom, and who tried to; one JSON line each, in files that are kept small. The log
//! of the tenant is the record; this is for whoever watches the server.
//!
//! It is the only log that names people by their e-mail addresses, which is what it is for.

use std::{path::Path, time::SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use daybook_domain::{UserId, support_request::Party};
use daybook_projections::{
    Schema,
    hijacks::{self, HijackRow},
    tenants, users,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    eventstore::{Committed, EventStore, StoreError},
    rotating_log::{RotatingLog, RotationSettings},
    tenancy::{Access, TenantTx},
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Somebody began to act as somebody else.
    #[serde(rename = "HIJACK_START")]
    Start,
    /// They act so no more.
    #[serde(rename = "HIJACK_END")]
    End,
    /// They would have, and were refused.
    #[serde(rename = "HIJACK_REFUSED")]
    Refused,
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    action: Action,
    hijacker_email: Option<String>,
    hijacked_email: Option<String>,
    tenant: Option<String>,
    ip_address: Option<&'a str>,
    session_key: Uuid,
    reason: &'a str,
}

/// One thing to write down.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// What.
    pub action: Action,
    /// The log it is in.
    pub schema: &'a Schema,
    /// Who acts.
    pub by: Option<Party>,
    /// As whom.
    pub target: UserId,
    /// The hijack.
    pub hijack: Uuid,
    /// The client's address, where a client did it.
    pub ip: Option<&'a str>,
    /// Why: the words of whoever began it, or what ended or refused it.
    pub reason: &'a str,
}

/// A handle to the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct MasqueradeLog(RotatingLog);

impl MasqueradeLog {
    /// The log of a data directory.
    pub fn new(data_dir: &Path) -> Self {
        let path = data_dir.join("logs/masquerade.log");
        Self(RotatingLog::new("masquerade", path, RotationSettings::default()))
    }

    /// Adds a line. Where the addresses cannot be looked up, it is written without them.
    pub async fn record(&self, store: &EventStore, happened: Happened<'_>) {
        let Happened { action, schema, by, target, hijack, ip, reason } = happened;
        let people = people(store, schema, by, target).await.unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, %hijack, "the log of hijacks names nobody");
            People::default()
        });
        // When it was written, for people to read: nothing is decided by it.
        let now = DateTime::<Utc>::from(SystemTime::now());
        self.0.write(&Line {
            timestamp: now.to_rfc3339_opts(SecondsFormat::Micros, true),
            action,
            hijacker_email: people.hijacker,
            hijacked_email: people.hijacked,
            tenant: people.tenant,
            ip_address: ip,
            session_key: hijack,
            reason,
        });
    }

    /// Adds a line for each hijack that the events of a unit ended.
    pub async fn ended_by(
        &self,
        store: &EventStore,
        schema: &Schema,
        committed: &Committed,
        ip: Option<&str>,
    ) {
        if committed.replayed || committed.first_position > committed.last_position {
            return;
        }
        let ended = async {
            let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
            let rows = hijacks::ended_between(&mut tx, committed.first_position, committed.last_position)
                .await
                .map_err(StoreError::db("look for hijacks that ended"))?;
            tx.release();
            Ok::<_, StoreError>(rows)
        };
        match ended.await {
            Ok(rows) => {
                for row in rows {
                    self.ended(store, schema, &row, ip).await;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "ends of hijacks are not in their log"
                );
            }
        }
    }

    async fn ended(&self, store: &EventStore, schema: &Schema, row: &HijackRow, ip: Option<&str>) {
        let user_id = UserId(row.hijacker.unwrap_or_default());
        let by = match row.hijacker_side.as_str() {
            "tenant" => Party::Tenant { user_id },
            _ => Party::Platform { user_id },
        };
        let happened = Happened {
            action: Action::End,
            schema,
            by: Some(by),
            target: UserId(row.target),
            hijack: row.id,
            ip,
            reason: row.end_cause.as_deref().unwrap_or_default(),
        };
        self.record(store, happened).await;
    }

    /// Waits until everything recorded before this is written.
    pub async fn flush(&self) {
        self.0.flush().await;
    }
}

#[derive(Default)]
struct People {
    hijacker: Option<String>,
    hijacked: Option<String>,
    tenant: Option<String>,
}

async fn people(
    store: &EventStore,
    schema: &Schema,
    by: Option<Party>,
    target: UserId,
) -> Result<People, StoreError> {
    let attempted = "look up the people of a hijack";
    let pool = store.database().app();
    let house = match by {
        Some(Party::Platform { .. }) => Schema::platform(),
        Some(Party::Tenant { .. } | Party::Operator) | None => schema.clone(),
    };
    let mut tx = TenantTx::begin(pool, schema, Access::Read).await?;
    let hijacked = users::get(&mut tx, target.0).await.map_err(StoreError::db(attempted))?;
    tx.release();
    let mut tx = TenantTx::begin(pool, &house, Access::Read).await?;
    let hijacker = match by.and_then(Party::user) {
        Some(user) => users::get(&mut tx, user.0).await.map_err(StoreError::db(attempted))?,
        None => None,
    };
    tx.release();
    let tenant = match schema.tenant_id() {
        Some(tenant) => {
            let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
            let found = tenants::get(&mut tx, tenant.0).await.map_err(StoreError::db(attempted))?;
            tx.release();
            found.map(|tenant| tenant.slug)
        }
        None => None,
    };
    let email = |user: Option<users::UserRow>| user.and_then(|user| user.email.into_exposed());
    Ok(People { hijacker: email(hijacker), hijacked: email(hijacked), tenant })
}
