//! All events of a log: ranges of them, several at a time, each looked at and then compared with its neighbours.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, postgres::PgRow};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    event::{self, Mismatch, Seen},
    findings::Findings,
    gone::Facts,
    rows::{self, Snapshot},
    values::{self, KeyCache},
};
use crate::{
    keys::Keys,
    ledger::{
        Cause,
        rows::Table,
        tree::{Hash, TILE_WIDTH},
    },
};

/// Events looked at together: whole tiles.
const BATCH: i64 = 8 * TILE_WIDTH as i64;
/// Leaves that differ from the tree which are told apart; of more it is only said that they differ.
const TOLD_APART: usize = 100_000;

/// Which events, and what they are compared with.
#[derive(Clone)]
pub(super) struct Pass {
    pub log_id: Uuid,
    pub keys: Arc<Keys>,
    /// Up to there the log ends.
    pub head: i64,
    /// So many leaves are in the tree.
    pub size: i64,
    pub findings: Arc<Findings>,
    /// So many positions were looked at.
    pub done: Arc<AtomicU64>,
}

/// What a range of events came to.
#[derive(Default)]
pub(super) struct Outcome {
    pub count: u64,
    pub facts: Facts,
    /// Ranges of positions without an event: the first, the last.
    pub missing: Vec<(i64, i64)>,
    mismatches: Vec<Mismatch>,
    /// By the first position of each range: the times of its first event and its last.
    times: BTreeMap<i64, Times>,
}

#[derive(Clone, Copy)]
struct Times {
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

impl Outcome {
    fn extend(&mut self, other: Self) {
        self.count += other.count;
        self.facts.extend(other.facts);
        self.missing.extend(other.missing);
        self.mismatches.extend(other.mismatches);
        self.times.extend(other.times);
    }
}

/// Looks at all events, from several connections at a time.
pub(super) async fn check(snapshot: &Snapshot, pass: &Pass, readers: usize) -> Result<Outcome, sqlx::Error> {
    let next = Arc::new(Mutex::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..readers.max(1) {
        let mut tx = snapshot.join().await?;
        let (pass, next) = (pass.clone(), next.clone());
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            let mut keys = KeyCache::default();
            while let Some(after) = pass.next(&mut tx, &next, &mut outcome).await? {
                outcome.extend(range(&mut tx, &pass, after, &mut keys).await?);
            }
            Ok::<_, sqlx::Error>(outcome)
        });
    }
    let mut all = Outcome::default();
    while let Some(outcome) = tasks.join_next().await {
        all.extend(outcome.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))??);
    }
    all.conclude(&pass.findings);
    Ok(all)
}

impl Pass {
    /// After which position the next range begins that has events. What lies before it is missing, however long it is: a
    /// head that was set to anything costs nothing.
    async fn next(
        &self,
        connection: &mut PgConnection,
        next: &Mutex<i64>,
        outcome: &mut Outcome,
    ) -> Result<Option<i64>, sqlx::Error> {
        let mut next = next.lock().await;
        if *next >= self.head {
            return Ok(None);
        }
        let first = rows::first_event(connection, *next, self.head).await?;
        let after = first.map_or(self.head, |first| (first - 1) / BATCH * BATCH);
        if *next < after {
            outcome.missing.push((*next + 1, after));
            self.done.fetch_add(u64::try_from(after - *next).unwrap_or(0), Ordering::Relaxed);
        }
        *next = after.saturating_add(BATCH);
        Ok(first.map(|_| after))
    }
}

async fn range(
    connection: &mut PgConnection,
    pass: &Pass,
    after: i64,
    keys: &mut KeyCache,
) -> Result<Outcome, sqlx::Error> {
    let through = pass.head.min(after.saturating_add(BATCH));
    let rows = rows::events(&mut *connection, after, through).await?;
    let first = after / TILE_WIDTH as i64;
    let tiles = match pass.size {
        size if size <= after => Vec::new(),
        _ => rows::bottom_tiles(&mut *connection, Table::Log, first, BATCH / TILE_WIDTH as i64).await?,
    };
    let tiles: HashMap<i64, Vec<u8>> = tiles.into_iter().map(|row| (row.1, row.2)).collect();
    let sealed = rows::sealed_values(&mut *connection, after, through).await?;
    let looking = {
        let pass = pass.clone();
        tokio::task::spawn_blocking(move || look(&rows, &tiles, &pass, after, through))
    };
    let (outcome, mut seen) = joined(looking).await??;
    let subjects = values::subjects(&mut seen, &sealed);
    keys.load(connection, &pass.keys, pass.log_id, &subjects).await?;
    let checking = {
        let (pass, kept) = (pass.clone(), std::mem::take(keys));
        tokio::task::spawn_blocking(move || {
            values::check(seen, sealed, &kept, pass.log_id, &pass.findings);
            kept
        })
    };
    *keys = joined(checking).await?;
    pass.done.fetch_add(u64::try_from(through - after).unwrap_or(0), Ordering::Relaxed);
    Ok(outcome)
}

/// What panics in a check is no verdict.
async fn joined<T>(task: tokio::task::JoinHandle<T>) -> Result<T, sqlx::Error> {
    task.await.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))
}

fn look(
    rows: &[PgRow],
    tiles: &HashMap<i64, Vec<u8>>,
    pass: &Pass,
    after: i64,
    through: i64,
) -> Result<(Outcome, Vec<Seen>), sqlx::Error> {
    let findings = &*pass.findings;
    let mut outcome = Outcome { count: rows.len() as u64, ..Outcome::default() };
    let mut all = Vec::with_capacity(rows.len());
    let mut last = after;
    let mut times: Option<Times> = None;
    for row in rows {
        let position = sqlx::Row::try_get(row, 0)?;
        let in_tree = if position <= pass.size { in_tree(tiles, position) } else { None };
        let looked = event::look(row, pass.log_id, in_tree, findings)?;
        if last < position - 1 {
            outcome.missing.push((last + 1, position - 1));
        }
        last = position;
        if outcome.mismatches.len() < TOLD_APART {
            outcome.mismatches.extend(looked.mismatch);
        } else if looked.mismatch.is_some() {
            findings.at(Cause::LeafEdited, position, "the leaf is not the one in the tree");
        }
        if let Some(at) = looked.recorded_at {
            match &mut times {
                None => times = Some(Times { first: at, last: at }),
                Some(times) => {
                    in_time(position, times.last, at, findings);
                    times.last = at;
                }
            }
        }
        if let Some(seen) = looked.seen {
            outcome.facts.note(&seen.event);
            all.push(seen);
        }
    }
    if last < through {
        outcome.missing.push((last + 1, through));
    }
    outcome.times.extend(times.map(|times| (after + 1, times)));
    Ok((outcome, all))
}

fn in_tree(tiles: &HashMap<i64, Vec<u8>>, position: i64) -> Option<Hash> {
    let index = position - 1;
    let from = usize::try_from(index % TILE_WIDTH as i64).ok()? * 32;
    tiles.get(&(index / TILE_WIDTH as i64))?.get(from..from + 32)?.try_into().ok()
}

fn in_time(position: i64, before: DateTime<Utc>, at: DateTime<Utc>, findings: &Findings) {
    if at < before {
        let detail = "recorded at a time before that of the event in front of it";
        findings.at(Cause::UnexpectedEvent, position, detail);
    }
}

impl Outcome {
    /// What can only be told of all ranges together.
    fn conclude(&mut self, findings: &Findings) {
        self.missing.sort_unstable();
        // Ranges that touch are one.
        self.missing.dedup_by(|next, before| {
            let touching = before.1.checked_add(1) == Some(next.0);
            if touching {
                before.1 = next.1;
            }
            touching
        });
        let mut before: Option<DateTime<Utc>> = None;
        for (position, times) in &self.times {
            if let Some(before) = before {
                in_time(*position, before, times.first, findings);
            }
            before = Some(times.last);
        }
        let elsewhere: HashMap<Hash, i64> =
            self.mismatches.iter().map(|mismatch| (mismatch.hash, mismatch.position)).collect();
        let belongs: HashMap<Hash, i64> =
            self.mismatches.iter().map(|mismatch| (mismatch.in_tree, mismatch.position)).collect();
        for Mismatch { position, says, hash, in_tree } in std::mem::take(&mut self.mismatches) {
            if let Some(place) = belongs.get(&hash) {
                let detail = format!("the leaf of position {place} stands here");
                findings.at(Cause::PositionSwapped, position, detail);
            } else if let Some(says) = says.filter(|says| *says != position) {
                let detail = format!("a leaf stands here that says it is that of position {says}");
                findings.at(Cause::PositionSwapped, position, detail);
            } else if let Some(place) = elsewhere.get(&in_tree) {
                let detail = format!("no leaf of the tree; what belongs here stands at position {place}");
                findings.at(Cause::UnexpectedEvent, position, detail);
            } else {
                findings.at(Cause::LeafEdited, position, "the leaf is not the one in the tree");
            }
        }
    }

    /// The first time and the last of all events that are there.
    pub(super) fn last_time(&self) -> Option<DateTime<Utc>> {
        self.times.values().next_back().map(|times| times.last)
    }
}
