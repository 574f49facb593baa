//! What the log of heads names, and proofs of it. Both are reckoned once for each entry: there are as many heads as logs,
//! and each of their owners may ask.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use daybook_projections::Schema;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{Head, LOG_ID, Last, canonical_text};
use crate::{
    ledger::{
        Cause, Checkpoint, Ledger, LedgerError, rows,
        signer::Remembered,
        stored,
        tree::{self, Hash, TreeError},
    },
    tenancy::Access,
};

/// That the head of a log is in the log of heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadProof {
    /// The last checkpoint of the log of heads.
    pub checkpoint: Checkpoint,
    /// The entry: the leaf's text.
    pub entry: String,
    /// Its index in the log of heads.
    pub entry_index: u64,
    /// Its audit path there.
    pub entry_proof: Vec<Hash>,
    /// The head: the text of a leaf of the entry's tree.
    pub head: String,
    /// Its index there.
    pub head_index: u64,
    /// How many heads there are.
    pub head_count: u64,
    /// Its audit path there.
    pub head_proof: Vec<Hash>,
}

/// The last entry, with all that is needed to prove a head.
pub(in crate::ledger) struct Named {
    /// Of the signer's row that it was checked against.
    seal: Vec<u8>,
    checkpoint: Checkpoint,
    last: Last,
    entry_proof: Vec<Hash>,
    /// Which head is that of the log whose origin ends like this.
    places: HashMap<String, usize>,
}

impl Named {
    fn new(Remembered { checkpoint, seal }: Remembered, last: Last, entry_proof: Vec<Hash>) -> Self {
        let mut places = HashMap::with_capacity(last.heads.len());
        for (place, head) in last.heads.iter().enumerate() {
            places.entry(ending_of(&head.origin).to_owned()).or_insert(place);
        }
        Self { seal, checkpoint, last, entry_proof, places }
    }

    fn prove(&self, ending: &str) -> Result<Option<HeadProof>, TreeError> {
        let Some(place) = self.places.get(ending) else { return Ok(None) };
        let (head_index, head_count) = (*place as u64, self.last.heads.len() as u64);
        Ok(Some(HeadProof {
            checkpoint: self.checkpoint.clone(),
            entry: String::from_utf8_lossy(&self.last.text).into_owned(),
            entry_index: self.checkpoint.size - 1,
            entry_proof: self.entry_proof.clone(),
            head: canonical_text(&self.last.heads[*place]),
            head_index,
            head_count,
            head_proof: self.last.tree.prove_inclusion(head_count, head_index)?,
        }))
    }
}

/// What tells logs apart in their origins: all but the host.
fn ending_of(origin: &str) -> &str {
    let from = origin.rfind("/t/").or_else(|| origin.rfind('/')).unwrap_or(0);
    &origin[from..]
}

impl Ledger {
    /// The proof that a log's head is in the log of heads; `None` while it is not named there.
    ///
    /// # Errors
    /// When the log of heads is not what it was, or PostgreSQL refuses.
    pub async fn head_proof(&self, schema: &Schema) -> Result<Option<HeadProof>, LedgerError> {
        let Some(named) = self.named().await? else { return Ok(None) };
        named.prove(&Self::ending(schema.log_id().0)).map_err(|error| {
            Self::refused(&named.checkpoint.origin, Cause::HeadLogInconsistent, error.to_string())
        })
    }

    /// Every key that signed or signs the log of heads, as [`Ledger::verifier_keys`] of a log.
    ///
    /// # Errors
    /// As there.
    pub async fn head_log_keys(&self) -> Result<Vec<crate::ledger::VerifierKey>, LedgerError> {
        let before = self.remembered(LOG_ID).await?;
        self.keys_of(&self.heads_origin(before.as_ref())).await
    }

    /// The head of a log that the last entry names.
    pub(in crate::ledger) async fn head_of(&self, log_id: Uuid) -> Result<Option<Head>, LedgerError> {
        let named = self.named().await?;
        Ok(named.and_then(|named| {
            let place = named.places.get(&Self::ending(log_id))?;
            Some(named.last.heads[*place].clone())
        }))
    }

    /// The last entry and its heads, read once for each.
    async fn named(&self) -> Result<Option<Arc<Named>>, LedgerError> {
        let before = loop {
            match self.remembered(LOG_ID).await? {
                Some(before) => break before,
                None if self.is_unbegun().await? => return Ok(None),
                // Another node has begun it just now.
                None => {}
            }
        };
        // Whoever else asks meanwhile waits rather than does the same.
        let mut known = self.inner.named.lock().await;
        if let Some(named) = known.as_ref().filter(|named| named.seal == before.seal) {
            return Ok(Some(named.clone()));
        }
        let (origin, size) = (before.checkpoint.origin.clone(), before.checkpoint.size);
        let attempted = "read an entry of the log of heads";
        let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
        let row = rows::entry(&mut tx, stored(size) - 1).await.map_err(LedgerError::db(attempted))?;
        tx.release();
        let Some(last) = self.last_entry(&origin, Some(&before), row).await? else { return Ok(None) };
        let needed: BTreeSet<_> = tree::needed_for_inclusion(size, size - 1);
        let entry_proof = self
            .head_tiles(&needed)
            .await?
            .prove_inclusion(size, size - 1)
            .map_err(|error| Self::refused(&origin, Cause::HeadLogInconsistent, error.to_string()))?;
        let reckoned = spawn_blocking(move || Arc::new(Named::new(before, last, entry_proof)));
        let named = reckoned.await.map_err(LedgerError::Interrupted)?;
        *known = Some(named.clone());
        Ok(Some(named))
    }

    /// Whether a log of heads that nothing is remembered of was not begun meanwhile. One of which there are entries is
    /// refused.
    async fn is_unbegun(&self) -> Result<bool, LedgerError> {
        let attempted = "look for entries of the log of heads";
        let mut tx = self.begin(&Schema::platform(), Access::ReadConsistent).await?;
        let begun = rows::signer(&mut tx, LOG_ID).await.map_err(LedgerError::db(attempted))?.is_some();
        let last = rows::last_entry(&mut tx).await.map_err(LedgerError::db(attempted))?;
        tx.release();
        if !begun {
            self.last_entry(&self.heads_origin(None), None, last).await?;
        }
        Ok(!begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_told_apart_by_how_their_origins_end() {
        let id = Uuid::now_v7();
        assert_eq!(ending_of(&format!("book.example:8443/t/{id}")), Ledger::ending(id));
        assert_eq!(ending_of("book.example/platform"), Ledger::ending(Uuid::nil()));
        assert_eq!(ending_of("nothing"), "nothing");
    }
}
