//! Signing heads of logs. The last one of each is remembered in the platform's schema, where no tenant's role reaches,
//! under an HMAC of the keys file, which no database has. A head is signed only if the tree is shown to go on from there:
//! a log that was rewritten is never signed again, and one whose memory was taken away is not begun anew.

use std::sync::PoisonError;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use daybook_projections::Schema;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{
    Cause, Checkpoint, Ledger, LedgerError, Seen,
    head_log::LOG_ID,
    note::LedgerKey,
    rows::{self, KeyRow, SignerRow, Table},
    stored,
    tree::{self, Hash},
    unsigned,
};
use crate::{clock, keys::Keys, tenancy::Access};

/// How often it is tried again when another node was faster.
const TRIES: u32 = 5;
/// How often a batch is sealed before others get their turn.
const BATCHES_AT_ONCE: u32 = 20;
/// So many new leaves do not wait until they can be signed: they would hold up all that follows them.
const IN_PARTS: u64 = 1_000;
/// How long whoever wants a checkpoint now waits for another node that is sealing.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// How often heads are signed.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A log that changes is signed at most so often.
    pub at_most: std::time::Duration,
    /// One that does not is signed so often nevertheless.
    pub heartbeat: std::time::Duration,
}

/// The last checkpoint of a log, with the seal of its row.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub checkpoint: Checkpoint,
    pub seal: Vec<u8>,
}

/// A log's tree as it is when a head is to be signed.
struct Grown {
    size: u64,
    root: Hash,
    /// Whether the last checkpoint is among those in the log's schema, and whether any is.
    noted: bool,
    any: bool,
}

impl Ledger {
    /// The last checkpoint of a log; `None` if there never was one.
    ///
    /// # Errors
    /// When what is remembered of it was edited or set back, or PostgreSQL refuses.
    pub async fn latest(&self, schema: &Schema) -> Result<Option<Checkpoint>, LedgerError> {
        Ok(self.remembered(schema.log_id().0).await?.map(|remembered| remembered.checkpoint))
    }

    /// Seals a log up to where it is now, and signs that.
    ///
    /// # Errors
    /// When the log is not what it was, or PostgreSQL refuses.
    pub async fn checkpoint_now(&self, schema: &Schema) -> Result<Checkpoint, LedgerError> {
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut wanted = None;
        loop {
            let sealed = self.seal(schema).await?;
            // What is written meanwhile is for the next one.
            if sealed.size >= *wanted.get_or_insert(sealed.position) {
                break;
            }
            if sealed.busy {
                if tokio::time::Instant::now() >= until {
                    return Err(LedgerError::Contended);
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        match self.sign_if(schema, |_, _| true).await? {
            Some(checkpoint) => Ok(checkpoint),
            None => Err(LedgerError::Contended),
        }
    }

    /// Seals what there is to seal of a log, and signs its head if that is due. Answers in what time to look again at
    /// the latest, where something waits for that.
    ///
    /// # Errors
    /// When the log is not what it was, or PostgreSQL refuses.
    pub async fn tend(
        &self,
        schema: &Schema,
        timing: Timing,
    ) -> Result<Option<std::time::Duration>, LedgerError> {
        let mut sealed = self.seal(schema).await?;
        for _ in 1..BATCHES_AT_ONCE {
            if sealed.busy || !sealed.is_behind() {
                break;
            }
            sealed = self.seal(schema).await?;
        }
        if sealed.busy || sealed.is_behind() {
            return Ok(Some(std::time::Duration::ZERO));
        }
        let seen = match self.seen(schema.log_id().0) {
            Some(seen) if seen.noted => Some(seen),
            Some(_) | None => self.heal(schema).await?,
        };
        let due = |size: u64, signed: Option<(u64, DateTime<Utc>)>| match signed {
            None => (size > 0).then_some(std::time::Duration::ZERO),
            Some((signed, at)) => {
                // Of a clock that was ahead of this one nothing is known but that it was.
                let age = (clock::now() - at).to_std().unwrap_or(timing.heartbeat);
                let after = if size == signed { timing.heartbeat } else { timing.at_most };
                (size != signed || age >= after).then(|| after.saturating_sub(age))
            }
        };
        match due(sealed.size, seen.map(|seen| (seen.size, seen.at))) {
            Some(wait) if wait.is_zero() => {
                self.sign_if(schema, |size, last| due(size, last).is_some_and(|wait| wait.is_zero())).await?;
                Ok(None)
            }
            wait => Ok(wait),
        }
    }

    /// How long a log at this position can be left alone: it was signed lately, and what is sealed before the next time would
    /// not be signed sooner. `None` where it was not, or where so much is new that it is better taken in parts.
    #[must_use]
    pub fn rest(&self, schema: &Schema, position: i64, timing: Timing) -> Option<std::time::Duration> {
        let seen = self.seen(schema.log_id().0)?;
        let new = unsigned(position).saturating_sub(seen.size);
        // Of a clock that was ahead of this one nothing is known but that it was.
        let age = (clock::now() - seen.at).to_std().ok()?;
        let rest = timing.at_most.checked_sub(age)?;
        (new < IN_PARTS).then_some(rest)
    }

    /// Signs the head of a log's tree, if that is wanted of this size and the last checkpoint.
    async fn sign_if(
        &self,
        schema: &Schema,
        wanted: impl Fn(u64, Option<(u64, DateTime<Utc>)>) -> bool + Send,
    ) -> Result<Option<Checkpoint>, LedgerError> {
        let log_id = schema.log_id().0;
        self.copy_agrees().await?;
        for _ in 0..TRIES {
            let before = self.remembered(log_id).await?;
            let last = before.as_ref().map(|before| &before.checkpoint);
            let origin = last.map_or_else(|| self.new_origin(log_id), |last| last.origin.clone());
            let grown = self.grown(schema, &origin, last).await?;
            if last.is_none()
                && let Err(error) = self.may_begin(log_id, &origin, grown.any).await
            {
                // The traces may be those of another node, which has begun since this one looked.
                if self.remembered(log_id).await?.is_some() {
                    continue;
                }
                return Err(error);
            }
            if !wanted(grown.size, last.map(|last| (last.size, last.at))) {
                return Ok(None);
            }
            let keys = self.signing_keys(&origin)?;
            let next = Checkpoint::sign(&origin, grown.size, grown.root, after(last), &keys)?;
            let missing = last.filter(|_| !grown.noted);
            if self.remember(log_id, before.as_ref(), &next, &keys).await? {
                // Should this process end here, the next look finds what was remembered and notes it then.
                let notes: Vec<&Checkpoint> = missing.into_iter().chain([&next]).collect();
                self.note(schema, &notes).await?;
                metrics::counter!("daybook_ledger_checkpoints_total").increment(1);
                self.saw(log_id, &next, true);
                return Ok(Some(next));
            }
        }
        Err(LedgerError::Contended)
    }

    /// What is remembered of a log, if its row is as it was written and not older than what this process saw. A process
    /// that has seen nothing of it yet goes by what the log of heads names: a row of ours that somebody kept and put back
    /// is as it was written, too.
    pub(super) async fn remembered(&self, log_id: Uuid) -> Result<Option<Remembered>, LedgerError> {
        let attempted = "read what the signer remembers";
        // Before the row: what another task sees meanwhile is newer than what is read here.
        let seen = self.seen(log_id);
        let named = match seen {
            None if log_id != LOG_ID => Box::pin(self.head_of(log_id)).await?,
            _ => None,
        };
        let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
        let row = rows::signer(&mut tx, log_id).await.map_err(LedgerError::db(attempted))?;
        tx.release();
        let invalid =
            |detail: &str| Self::refused(&self.new_origin(log_id), Cause::SignerStateInvalid, detail);
        let Some(row) = row else {
            return if seen.is_some() { Err(invalid("what was remembered is gone")) } else { Ok(None) };
        };
        let remembered = self.opened(row).map_err(invalid)?;
        let checkpoint = &remembered.checkpoint;
        if seen.is_some_and(|seen| {
            checkpoint.size < seen.size
                || checkpoint.at < seen.at
                || checkpoint.size == seen.size && checkpoint.root != seen.root
        }) {
            return Err(invalid("what is remembered was set back"));
        }
        if let Some(named) = named {
            self.follows(log_id, &named, checkpoint).await?;
        }
        self.saw(log_id, checkpoint, false);
        Ok(Some(remembered))
    }

    /// A row of the signer's, if nobody else wrote it.
    pub(super) fn opened(&self, row: SignerRow) -> Result<Remembered, &'static str> {
        let right = seal_of(self.inner.store.keys(), &row);
        if !bool::from(right.as_slice().ct_eq(&row.seal)) {
            return Err("the row's seal is not that of its content");
        }
        let checkpoint = Checkpoint::parse(&row.note).map_err(|_| "the note cannot be read")?;
        let agrees = checkpoint.origin == row.origin
            && checkpoint.size == unsigned(row.size)
            && checkpoint.root.as_slice() == row.root
            && checkpoint.at == row.signed_at
            && row.origin.ends_with(&Self::ending(row.log_id));
        if !agrees {
            return Err("the note says something else than the row");
        }
        Ok(Remembered { checkpoint, seal: row.seal })
    }

    /// The log's tree, shown to go on from its last checkpoint.
    async fn grown(
        &self,
        schema: &Schema,
        origin: &str,
        last: Option<&Checkpoint>,
    ) -> Result<Grown, LedgerError> {
        let attempted = "read the tree of a log";
        let refused = |cause, detail: String| Self::refused(origin, cause, detail);
        let mut tx = self.begin(schema, Access::ReadConsistent).await?;
        let (size, position) = rows::sizes(&mut tx).await.map_err(LedgerError::db(attempted))?;
        let size = unsigned(size);
        let from = last.map_or(0, |last| last.size);
        if unsigned(position) < size || size < from {
            let detail = format!("the log ends at {position}, its tree at {size}, and {from} was signed");
            return Err(refused(Cause::TailMissing, detail));
        }
        let mut needed = tree::needed_for_root(size);
        needed.extend(tree::needed_for_consistency(from, size));
        let tiles = rows::tiles(&mut tx, Table::Log, &needed).await.map_err(LedgerError::db(attempted))?;
        let (noted, any) = rows::has_checkpoint(&mut tx, last.map(|last| (stored(last.size), last.at)))
            .await
            .map_err(LedgerError::db(attempted))?;
        tx.release();
        let mismatch = |error: tree::TreeError| refused(Cause::TreeMismatch, error.to_string());
        let root = tiles.root(size).map_err(mismatch)?;
        if let Some(last) = last {
            let proof = tiles.prove_consistency(from, size).map_err(mismatch)?;
            tree::check_consistency(&proof, from, &last.root, size, &root).map_err(|_| {
                refused(
                    Cause::CheckpointInconsistent,
                    format!("the tree does not go on from the {from} leaves that were signed"),
                )
            })?;
        }
        Ok(Grown { size, root, noted, any })
    }

    /// Whether a log that nothing is remembered of was in truth never signed.
    async fn may_begin(&self, log_id: Uuid, origin: &str, has_checkpoints: bool) -> Result<(), LedgerError> {
        let attempted = "look for traces of a log's checkpoints";
        let refused = |detail: &str| Err(Self::refused(origin, Cause::SignerStateInvalid, detail));
        if has_checkpoints {
            return refused("the log has checkpoints, and none is remembered");
        }
        let ending = Self::ending(log_id);
        let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
        let keys = rows::keys(&mut tx, &ending).await.map_err(LedgerError::db(attempted))?;
        tx.release();
        if !keys.is_empty() {
            return refused("keys have signed for the log, and no checkpoint is remembered");
        }
        if self.head_of(log_id).await?.is_some() {
            return refused("the log of heads names the log, and no checkpoint is remembered");
        }
        Ok(())
    }

    /// Remembers a checkpoint and the keys that signed it, unless another node was faster.
    pub(super) async fn remember(
        &self,
        log_id: Uuid,
        before: Option<&Remembered>,
        next: &Checkpoint,
        keys: &[LedgerKey],
    ) -> Result<bool, LedgerError> {
        let mut tx = self.begin(&Schema::platform(), Access::Write).await?;
        let done = self.remember_in(&mut tx, log_id, before, next, keys).await?;
        if done {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(done)
    }

    /// The same, in a transaction of the platform's.
    pub(super) async fn remember_in(
        &self,
        connection: &mut sqlx::PgConnection,
        log_id: Uuid,
        before: Option<&Remembered>,
        next: &Checkpoint,
        keys: &[LedgerKey],
    ) -> Result<bool, LedgerError> {
        let attempted = "remember a checkpoint";
        let secrets = self.inner.store.keys();
        let mut row = SignerRow {
            origin: next.origin.clone(),
            log_id,
            size: stored(next.size),
            root: next.root.to_vec(),
            note: next.note.clone(),
            signed_at: next.at,
            seal: Vec::new(),
        };
        row.seal = seal_of(secrets, &row).to_vec();
        let before = before.map(|before| before.seal.as_slice());
        if !rows::remember(connection, before, &row).await.map_err(LedgerError::db(attempted))? {
            return Ok(false);
        }
        for key in keys {
            let mut row = KeyRow {
                origin: next.origin.clone(),
                key_id: key.id().to_owned(),
                vkey: key.vkey().to_owned(),
                first_used_at: next.at,
                seal: Vec::new(),
            };
            row.seal = seal_of_key(secrets, &row).to_vec();
            rows::add_key(connection, &row).await.map_err(LedgerError::db(attempted))?;
        }
        Ok(true)
    }

    /// Adds what is remembered of a log to the checkpoints in its schema, if a process ended in between.
    async fn heal(&self, schema: &Schema) -> Result<Option<Seen>, LedgerError> {
        let attempted = "look for a log's last checkpoint";
        let log_id = schema.log_id().0;
        let Some(Remembered { checkpoint, .. }) = self.remembered(log_id).await? else { return Ok(None) };
        let mut tx = self.begin(schema, Access::Read).await?;
        let (noted, _) = rows::has_checkpoint(&mut tx, Some((stored(checkpoint.size), checkpoint.at)))
            .await
            .map_err(LedgerError::db(attempted))?;
        tx.release();
        if !noted {
            // Only on top of what it says: a log that was replaced gets no checkpoint that it does not bear out.
            self.grown(schema, &checkpoint.origin, Some(&checkpoint)).await?;
            self.note(schema, &[&checkpoint]).await?;
        }
        self.saw(log_id, &checkpoint, true);
        Ok(self.seen(log_id))
    }

    async fn note(&self, schema: &Schema, checkpoints: &[&Checkpoint]) -> Result<(), LedgerError> {
        let mut tx = self.begin(schema, Access::Write).await?;
        for checkpoint in checkpoints {
            rows::add_checkpoint(&mut tx, stored(checkpoint.size), checkpoint.at, &checkpoint.note)
                .await
                .map_err(LedgerError::db("note a checkpoint in its log"))?;
        }
        Ok(tx.commit().await?)
    }

    fn seen(&self, log_id: Uuid) -> Option<Seen> {
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&log_id).cloned()
    }

    pub(super) fn saw(&self, log_id: Uuid, checkpoint: &Checkpoint, noted: bool) {
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Checkpoint { size, root, at, .. } = *checkpoint;
        match seen.get_mut(&log_id) {
            Some(known) if known.at > at => {}
            Some(known) if known.at == at => known.noted |= noted,
            Some(_) | None => drop(seen.insert(log_id, Seen { size, root, at, noted })),
        }
    }
}

/// The time of a checkpoint: by the clock of whoever signs, which nobody sets who administers the database, and after
/// that of the last one.
pub(super) fn after(last: Option<&Checkpoint>) -> DateTime<Utc> {
    let now = clock::now().trunc_subsecs(6);
    last.map_or(now, |last| now.max(last.at + TimeDelta::microseconds(1)))
}

fn seal_of(keys: &Keys, row: &SignerRow) -> Hash {
    let size = row.size.to_be_bytes();
    let at = row.signed_at.timestamp_micros().to_be_bytes();
    digest(
        keys,
        "ledger signer v1",
        &[row.origin.as_bytes(), row.log_id.as_bytes(), &size, &row.root, row.note.as_bytes(), &at],
    )
}

/// The seal of a key's row.
pub(super) fn seal_of_key(keys: &Keys, row: &KeyRow) -> Hash {
    let at = row.first_used_at.timestamp_micros().to_be_bytes();
    digest(
        keys,
        "ledger verifier key v1",
        &[row.origin.as_bytes(), row.key_id.as_bytes(), row.vkey.as_bytes(), &at],
    )
}

/// Each part with its length in front: what is moved from one to the next gives another digest.
fn digest(keys: &Keys, label: &str, parts: &[&[u8]]) -> Hash {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    keys.digest(label, &[&all])
}
