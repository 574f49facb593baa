//! Who may have signed a log's checkpoints, and what the signer remembers of it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{findings::Findings, rows as read, tiles::Claim};
use crate::ledger::{Cause, Checkpoint, Ledger, LedgerError, rows, signer::seal_of_key};

/// Checkpoints read at once.
const PAGE: i64 = 2_000;

/// What the platform's schema says of a log, as far as it is as it was written.
#[derive(Debug)]
pub(super) struct Known {
    pub origin: String,
    /// The last checkpoint.
    pub signer: Option<Checkpoint>,
    /// Whether there is a row of the signer's, whatever it says.
    pub remembered: bool,
    pub vkeys: Vec<String>,
    /// Whether a key is known to have signed for the log.
    pub signed: bool,
}

impl Ledger {
    /// Reads what is known of a log, and says what of it somebody else wrote.
    pub(super) async fn known(
        &self,
        connection: &mut PgConnection,
        log_id: Uuid,
        findings: &Findings,
    ) -> Result<Known, LedgerError> {
        let attempted = "read what the signer remembers";
        let row = rows::signer(&mut *connection, log_id).await.map_err(LedgerError::db(attempted))?;
        let remembered = row.is_some();
        let signer = row.and_then(|row| match self.opened(row) {
            Ok(remembered) => Some(remembered.checkpoint),
            Err(detail) => {
                findings.add(Cause::SignerStateInvalid, format!("what the signer remembers: {detail}"));
                None
            }
        });
        let keys =
            rows::keys(&mut *connection, &Self::ending(log_id)).await.map_err(LedgerError::db(attempted))?;
        let (mut vkeys, mut origins) = (Vec::new(), Vec::new());
        for row in keys {
            let seal = seal_of_key(self.inner.store.keys(), &row);
            if bool::from(seal.as_slice().ct_eq(&row.seal)) {
                vkeys.push(row.vkey);
                origins.push(row.origin);
            } else {
                let detail = format!("the verifier key {} is not as it was written", row.key_id);
                findings.add(Cause::SignerStateInvalid, detail);
            }
        }
        let signed = !origins.is_empty();
        let origin = signer.as_ref().map(|signer| signer.origin.clone()).or_else(|| origins.pop());
        let origin = origin.unwrap_or_else(|| self.new_origin(log_id));
        let live = self.signing_keys(&origin)?;
        vkeys.extend(live.iter().map(|key| key.vkey().to_owned()));
        if let Some(signer) = &signer
            && let Err(cause) = Checkpoint::verify(&signer.note, &origin, &vkeys)
        {
            findings.add(cause, "the checkpoint that the signer remembers");
        }
        Ok(Known { origin, signer, remembered, vkeys, signed })
    }
}

/// What the checkpoints of a log come to.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    pub count: u64,
    pub claims: Vec<Claim>,
    /// Size and time of the last one that is ours.
    pub newest: Option<(u64, DateTime<Utc>)>,
    /// Whether the signer's last one is among them.
    pub has_last: bool,
}

/// Checks each checkpoint in a log's schema: its signature and origin, its columns, and that sizes only rise.
pub(super) async fn checkpoints(
    connection: &mut PgConnection,
    known: &Known,
    findings: &Findings,
) -> Result<Checkpoints, sqlx::Error> {
    let mut found = Checkpoints::default();
    let mut after = None;
    loop {
        let page = read::checkpoints(&mut *connection, after, PAGE).await?;
        let Some((size, at, _)) = page.last() else { break };
        after = Some((*at, *size));
        found.count += page.len() as u64;
        let (origin, keys) = (known.origin.clone(), known.vkeys.clone());
        let checked = tokio::task::spawn_blocking(move || {
            page.into_iter()
                .map(|(size, at, note)| (size, at, Checkpoint::verify(&note, &origin, &keys)))
                .collect::<Vec<_>>()
        });
        // What panics in a check is no verdict.
        let checked = checked.await.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
        for (size, at, checkpoint) in checked {
            found.take(size, at, checkpoint, known, findings);
        }
    }
    Ok(found)
}

impl Checkpoints {
    fn take(
        &mut self,
        size: i64,
        at: DateTime<Utc>,
        checkpoint: Result<Checkpoint, Cause>,
        known: &Known,
        findings: &Findings,
    ) {
        let named = format!("the checkpoint of {} leaves signed at {at}", super::unsigned(size));
        let checkpoint = match checkpoint {
            Ok(checkpoint) => checkpoint,
            Err(cause) => return findings.at(cause, size, named),
        };
        if (checkpoint.size, checkpoint.at) != (super::unsigned(size), at) {
            findings.at(Cause::CheckpointInconsistent, size, format!("{named} says something else"));
        }
        if let Some((before, _)) = self.newest.filter(|(before, _)| *before > checkpoint.size) {
            let detail = format!("{named} comes after one of {before}");
            findings.at(Cause::CheckpointInconsistent, size, detail);
        }
        self.has_last |= known.signer.as_ref().is_some_and(|last| {
            (last.size, last.root, last.at) == (checkpoint.size, checkpoint.root, checkpoint.at)
        });
        self.newest = Some((checkpoint.size, checkpoint.at));
        let Checkpoint { size, root, .. } = checkpoint;
        // Of a log that rests there are many of the same.
        let said = |last: &Claim| (last.size, last.root) == (size, root);
        if !self.claims.last().is_some_and(said) {
            self.claims.push(Claim { size, root, cause: Cause::CheckpointInconsistent, by: named });
        }
    }
}

/// Whether a log that has a schema may do without anything that the signer remembers.
pub(super) fn missing_memory(known: &Known, checkpoints: &Checkpoints, named: bool, findings: &Findings) {
    if known.remembered {
        return;
    }
    let traces = [
        (checkpoints.count > 0, "the log has checkpoints"),
        (known.signed, "keys have signed for the log"),
        (named, "the log of heads names the log"),
    ];
    for (_, trace) in traces.iter().filter(|trace| trace.0) {
        findings.add(Cause::SignerStateInvalid, format!("{trace}, and the signer remembers none"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::unsigned;

    #[test]
    fn checkpoints_whose_sizes_fall_are_found() {
        let known = Known {
            origin: "b.example/t/1".into(),
            signer: None,
            remembered: false,
            vkeys: Vec::new(),
            signed: false,
        };
        let found = |sizes: &[i64]| {
            let (findings, mut checkpoints) = (Findings::default(), Checkpoints::default());
            for size in sizes {
                let (origin, at) = (known.origin.clone(), DateTime::UNIX_EPOCH);
                let note = String::new();
                let checkpoint = Checkpoint { origin, size: unsigned(*size), root: [7; 32], at, note };
                checkpoints.take(*size, at, Ok(checkpoint), &known, &findings);
            }
            findings.take().1.iter().map(|finding| (finding.cause, finding.position)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[3, 3, 5]), []);
        assert_eq!(found(&[3, 5, 4]), [(Cause::CheckpointInconsistent, Some(4))]);
    }
}
