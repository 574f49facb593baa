//! The ledger: a Merkle tree over each log, and signed statements of its head, so that what was written can be shown to
//! be what is there, also to those who trust neither us nor whoever administers the database.
//!
//! [`seal`] follows a log and extends its tree. [`signer`] signs the tree's head once it has shown that it goes on from
//! the last one that it signed, which it remembers outside the log's schema. [`head_log`] signs the heads of all logs
//! together, so that one that vanishes is missed, and [`copy`] keeps that outside the database. [`proofs`] is what
//! auditors ask for. [`tree`], [`path`], [`note`] and [`cause`] know no storage: whoever checks offline uses them too.

pub mod cause;
pub mod copy;
pub mod head_log;
pub mod note;
pub mod path;
pub mod proofs;
mod rows;
mod seal;
mod signer;
pub mod tree;
pub mod verify;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool},
};

use chrono::{DateTime, Utc};
use daybook_projections::Schema;
use signed_note::NoteError;
use uuid::Uuid;

pub use cause::Cause;
pub use copy::{CopyError, HeadCopy};
pub use head_log::{HeadProof, HeadsTurn};
pub use note::Checkpoint;
pub use proofs::{Consistency, Inclusion, VerifierKey};
pub use seal::Sealed;
pub use signer::Timing;

use crate::{
    eventstore::EventStore,
    keys::Purpose,
    tenancy::{Access, TenancyError, tx::TenantTx},
};
use note::LedgerKey;
use tree::Hash;

/// Why the ledger does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// What is stored is not what it must be: nothing is signed, or shown, on top of it.
    #[error("{cause} in {origin}: {detail}")]
    Refused {
        /// What is wrong.
        cause: Cause,
        /// With which log.
        origin: String,
        /// Where and how, without anything of its content.
        detail: String,
    },
    /// PostgreSQL refused or is away.
    #[error("{attempted}")]
    Database {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be entered.
    #[error("enter the log's schema")]
    Tenancy(#[from] TenancyError),
    /// It is in the log, and not under a signed checkpoint yet. A moment later it will be.
    #[error("not under a signed checkpoint yet")]
    NotYet,
    /// It is not in the log.
    #[error("not in the log")]
    NotThere,
    /// It was pruned; its hash is still in the tree.
    #[error("pruned")]
    Gone,
    /// Others did the same at the same time, again and again.
    #[error("others sign at the same time")]
    Contended,
    /// The copy of the log of heads refused or is away.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The origin cannot be that of a note.
    #[error("sign a checkpoint")]
    Sign(#[from] NoteError),
    /// What was reckoned did not come to its end.
    #[error("reckoning was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl LedgerError {
    pub(crate) fn db(attempted: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { attempted, source }
    }

    /// What is wrong with the log, where that is why.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Refused { cause, .. } => Some(*cause),
            Self::Database { .. }
            | Self::Tenancy(_)
            | Self::NotYet
            | Self::NotThere
            | Self::Gone
            | Self::Contended
            | Self::Copy(_)
            | Self::Sign(_)
            | Self::Interrupted(_) => None,
        }
    }

    /// Whether what is stored is not as it was made: to ask again gives no more.
    fn is_damage(&self) -> bool {
        let (Self::Database { source, .. } | Self::Tenancy(TenancyError::Database { source, .. })) = self
        else {
            return false;
        };
        match source {
            sqlx::Error::Database(refused) => {
                refused.code().is_some_and(|code| DAMAGE.iter().any(|class| code.starts_with(class)))
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                true
            }
            _ => false,
        }
    }
}

/// What the codes begin with by which PostgreSQL says that something is not there, of another form, not allowed, or broken.
const DAMAGE: [&str; 5] = ["22", "3F", "42", "58", "XX"];

/// The ledgers of all logs of an installation. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    store: EventStore,
    /// What origins of new logs begin with.
    host: String,
    /// The last checkpoint of each log that this process met with: nothing older is taken for the newest.
    seen: Mutex<HashMap<Uuid, Seen>>,
    /// What is wrong with which logs, as far as this process found out.
    refusals: Mutex<HashMap<Uuid, Cause>>,
    /// What the log of heads names, as of its last checkpoint that was asked about.
    named: tokio::sync::Mutex<Option<Arc<head_log::Named>>>,
    /// Where the log of heads is copied to.
    copy: OnceLock<HeadCopy>,
    /// Whether that was found to be a beginning of what is here.
    copy_agreed: AtomicBool,
}

#[derive(Clone, Debug)]
struct Seen {
    size: u64,
    root: Hash,
    at: DateTime<Utc>,
    /// Whether it is known to be among the checkpoints in the log's own schema.
    noted: bool,
}

impl Ledger {
    /// The ledgers of a store's logs. `public_url` names the host in the origins of logs that were never signed; those
    /// that were keep theirs.
    #[must_use]
    pub fn new(store: EventStore, public_url: &str) -> Self {
        let host = public_url.split_once("://").map_or(public_url, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or(host).to_ascii_lowercase();
        Self {
            inner: Arc::new(Inner {
                store,
                host,
                seen: Mutex::default(),
                refusals: Mutex::default(),
                named: tokio::sync::Mutex::default(),
                copy: OnceLock::new(),
                copy_agreed: AtomicBool::new(false),
            }),
        }
    }

    /// The store it is over.
    #[must_use]
    pub fn store(&self) -> &EventStore {
        &self.inner.store
    }

    /// What the origin of a log ends with.
    pub(crate) fn ending(log_id: Uuid) -> String {
        if log_id.is_nil() {
            "/platform".to_owned()
        } else if log_id.is_max() {
            "/heads".to_owned()
        } else {
            format!("/t/{log_id}")
        }
    }

    /// The origin of a log that was never signed.
    fn new_origin(&self, log_id: Uuid) -> String {
        format!("{}{}", self.inner.host, Self::ending(log_id))
    }

    /// The keys that sign for an origin now, newest first.
    pub(crate) fn signing_keys(&self, origin: &str) -> Result<Vec<LedgerKey>, LedgerError> {
        let seeds = self.inner.store.keys().purpose_keys(Purpose::Ledger, origin);
        Ok(seeds.iter().map(|seed| LedgerKey::new(origin, seed)).collect::<Result<_, _>>()?)
    }

    async fn begin(&self, schema: &Schema, access: Access) -> Result<TenantTx<'static>, LedgerError> {
        Ok(TenantTx::begin(self.inner.store.database().app(), schema, access).await?)
    }

    /// What is wrong with which logs, as far as this process found out.
    fn refusals(&self) -> Vec<(Uuid, Cause)> {
        let refusals = self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().map(|(log_id, cause)| (*log_id, *cause)).collect()
    }

    /// Remembers what is wrong with a log, or that nothing is. Answers what was known before.
    pub fn refuses(&self, schema: &Schema, cause: Option<Cause>) -> Option<Cause> {
        let mut refusals = self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        match cause {
            Some(cause) => refusals.insert(schema.log_id().0, cause),
            None => refusals.remove(&schema.log_id().0),
        }
    }

    /// Says once and for all how a refusal reads.
    fn refused(origin: &str, cause: Cause, detail: impl Into<String>) -> LedgerError {
        LedgerError::Refused { cause, origin: origin.to_owned(), detail: detail.into() }
    }
}

/// A number of leaves as PostgreSQL has it. What it gives is never negative, and what it takes never as large.
fn stored(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}
