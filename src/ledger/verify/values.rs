//! Personal values: that each opens under its subject's key and is what its leaf is committed to, and that whatever cannot
//! be opened any more was erased, as the log says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use daybook_domain::{RecordedEvent, SubjectId};
use sqlx::PgConnection;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    event::Seen,
    findings::Findings,
    gone::Facts,
    rows::{self, KeyRow, SealedRow},
};
use crate::{eventstore::seal, keys::Keys, ledger::Cause};

/// Keys read at once, and kept by whoever reads them.
const PAGE: i64 = 5_000;
const KEPT: usize = 50_000;
/// The most keys that are tried for each other.
const TRIED: usize = 200;

/// What became of a subject's key.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Live(Zeroizing<[u8; 32]>),
    /// At this time.
    Destroyed(Option<DateTime<Utc>>),
    /// It does not unwrap: it was edited, or is somebody else's.
    Broken,
}

/// The keys that a reader met with.
#[derive(Debug, Default)]
pub(super) struct KeyCache(HashMap<Uuid, Option<Key>>);

impl KeyCache {
    /// Reads those that are not here yet.
    pub(super) async fn load(
        &mut self,
        connection: &mut PgConnection,
        keys: &Keys,
        log_id: Uuid,
        subjects: &BTreeSet<Uuid>,
    ) -> Result<(), sqlx::Error> {
        if self.0.len() > KEPT {
            self.0.clear();
        }
        let missing: Vec<Uuid> = subjects.iter().filter(|id| !self.0.contains_key(id)).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        for row in rows::subject_keys(connection, &missing).await? {
            self.0.insert(row.0, Some(opened(keys, log_id, &row)));
        }
        for id in missing {
            self.0.entry(id).or_insert(None);
        }
        Ok(())
    }

    fn get(&self, subject: Uuid) -> Option<&Key> {
        self.0.get(&subject).and_then(Option::as_ref)
    }
}

fn opened(keys: &Keys, log_id: Uuid, (subject, wrapped, destroyed_at): &KeyRow) -> Key {
    match wrapped {
        None => Key::Destroyed(*destroyed_at),
        Some(wrapped) => keys.unwrap_subject_key(*subject, log_id, wrapped).map_or(Key::Broken, Key::Live),
    }
}

/// Everybody whose key is needed to look at these values.
pub(super) fn subjects(seen: &mut [Seen], sealed: &[SealedRow]) -> BTreeSet<Uuid> {
    let mut subjects: BTreeSet<Uuid> = sealed.iter().map(|row| row.2).collect();
    for Seen { event, commitments } in seen.iter_mut().filter(|seen| !seen.commitments.is_empty()) {
        event.event.visit_personal(&mut |field, subject, _| {
            if commitments.contains_key(field) {
                subjects.insert(subject.0);
            }
        });
    }
    subjects
}

/// Checks the values of events that are in order, with the rows of their positions.
pub(super) fn check(
    seen: Vec<Seen>,
    sealed: Vec<SealedRow>,
    keys: &KeyCache,
    log_id: Uuid,
    findings: &Findings,
) {
    let mut at: HashMap<i64, BTreeMap<String, (Uuid, Vec<u8>)>> = HashMap::new();
    for (position, field, subject, ciphertext) in sealed {
        at.entry(position).or_default().insert(field, (subject, ciphertext));
    }
    for Seen { mut event, commitments } in seen {
        let position = event.position;
        let mut rows = at.remove(&position).unwrap_or_default();
        if !commitments.is_empty() {
            let mut looking = Looking {
                keys,
                log_id,
                findings,
                position,
                recorded_at: event.recorded_at,
                event_id: event.event_id,
            };
            looking.event(&mut event, commitments, &mut rows);
        }
        for field in rows.into_keys() {
            findings.at(
                Cause::SealedValueInvalid,
                position,
                format!("no leaf is committed to the {field} here"),
            );
        }
    }
}

struct Looking<'a> {
    keys: &'a KeyCache,
    log_id: Uuid,
    findings: &'a Findings,
    position: i64,
    recorded_at: DateTime<Utc>,
    event_id: Uuid,
}

impl Looking<'_> {
    fn event(
        &mut self,
        event: &mut RecordedEvent,
        mut commitments: BTreeMap<String, String>,
        rows: &mut BTreeMap<String, (Uuid, Vec<u8>)>,
    ) {
        event.event.visit_personal(&mut |field, subject, slot| {
            let Some(commitment) = commitments.remove(field) else { return };
            if let Some(value) = self.value(field, Some(subject), &commitment, rows.remove(field))
                && slot.restore(Some(value)).is_err()
            {
                self.invalid(field, "is of another type");
            }
        });
        // Fields that today's shape of the event has no place for.
        for (field, commitment) in commitments {
            self.value(&field, None, &commitment, rows.remove(&field));
        }
    }

    fn invalid(&self, field: &str, how: &str) {
        self.findings.at(Cause::SealedValueInvalid, self.position, format!("the sealed {field} {how}"));
    }

    fn value(
        &self,
        field: &str,
        of: Option<SubjectId>,
        commitment: &str,
        row: Option<(Uuid, Vec<u8>)>,
    ) -> Option<serde_json::Value> {
        let Some((subject, ciphertext)) = row else {
            match of.and_then(|of| self.keys.get(of.0)) {
                // Whoever was erased is not written of any more.
                Some(Key::Destroyed(at)) if at.is_some_and(|at| at < self.recorded_at) => {
                    let detail = format!("committed to a {field} whose key was destroyed before");
                    self.findings.at(Cause::KeyTombstoneUnfounded, self.position, detail);
                }
                Some(Key::Destroyed(_)) => {}
                Some(Key::Live(_) | Key::Broken) => {
                    self.invalid(field, "is gone, and its key is not destroyed")
                }
                None => self.invalid(field, "is gone, and so is its key"),
            }
            return None;
        };
        if let Some(of) = of.filter(|of| of.0 != subject) {
            let detail =
                format!("the sealed {field} of subject {of} is filed under subject {subject}", of = of.0);
            self.findings.at(Cause::SubjectSwapped, self.position, detail);
        }
        // Under whose key it is to open, the event says.
        let subject = of.map_or(subject, |of| of.0);
        match self.keys.get(subject) {
            Some(Key::Live(key)) => {
                let tenant = daybook_domain::TenantId(self.log_id);
                match seal::unseal(key, tenant, self.event_id, field, &ciphertext, commitment) {
                    Ok(value) => return Some(value),
                    Err(error) => self.invalid(field, &format!("is not as it was written: {error}")),
                }
            }
            Some(Key::Destroyed(_)) => self.invalid(field, "is still there, and its key is destroyed"),
            Some(Key::Broken) => self.invalid(field, "is under a key that does not unwrap"),
            None => self.invalid(field, "is under a key that is gone"),
        }
        None
    }
}

/// Checks every subject's key: that it unwraps, and that one that was destroyed is so by an event of the log.
pub(super) async fn check_keys(
    connection: &mut PgConnection,
    keys: &Keys,
    log_id: Uuid,
    facts: &Facts,
    findings: &Findings,
) -> Result<(), sqlx::Error> {
    let mut said = facts.destroyed();
    let pruned_before = facts.pruned_before();
    let mut broken: Vec<(Uuid, Vec<u8>)> = Vec::new();
    let mut after = None;
    loop {
        let page = rows::all_subject_keys(&mut *connection, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.0);
        for row in page {
            let founded = said.remove(&row.0);
            match (opened(keys, log_id, &row), founded) {
                (Key::Live(_), None) => {}
                (Key::Destroyed(_), Some(_)) => {}
                // The event may be among those that were pruned; that nothing is left to be read is looked at elsewhere.
                (Key::Destroyed(Some(at)), None) if pruned_before.is_some_and(|cut| at < cut) => {}
                (Key::Destroyed(_), None) => {
                    let detail = format!("the key of subject {} is destroyed, and no event says so", row.0);
                    findings.add(Cause::KeyTombstoneUnfounded, detail);
                }
                (Key::Live(_) | Key::Broken, Some(position)) => {
                    let detail =
                        format!("the key of subject {} was destroyed here, and is there again", row.0);
                    findings.at(Cause::KeyTombstoneUnfounded, position, detail);
                }
                (Key::Broken, None) => broken.extend(row.1.map(|wrapped| (row.0, wrapped))),
            }
        }
    }
    for (subject, position) in said {
        let detail = format!("the key of subject {subject} was destroyed here, and nothing stands for it");
        findings.at(Cause::KeyTombstoneUnfounded, position, detail);
    }
    for (subject, wrapped) in broken.iter().take(TRIED) {
        let other = broken
            .iter()
            .take(TRIED)
            .find(|(other, _)| other != subject && keys.unwrap_subject_key(*other, log_id, wrapped).is_ok());
        match other {
            Some((other, _)) => {
                let detail = format!("subject {subject} has the key of subject {other}");
                findings.add(Cause::SubjectSwapped, detail);
            }
            None => {
                let detail = format!("the key of subject {subject} does not unwrap");
                findings.add(Cause::SealedValueInvalid, detail);
            }
        }
    }
    Ok(())
}
