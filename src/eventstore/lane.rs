//! A log's writer lane: one task per log and process that drains its queue into one transaction at a time.
//!
//! The batch is natural: the next transaction begins when the last one ends, with whatever is queued by then.
//! Several processes may write to one log; the lock on `log_head` orders their batches.

use std::time::Instant;

use daybook_projections::Schema;
use tokio::sync::mpsc;

use super::{
    Committed, EventStore, Pending, StoreError, Unit,
    batch::{self, Answer},
    cache::LaneCache,
    erasure,
};
use crate::tenancy::is_passing;

/// Constraints that stand behind the decisions. When one fires, the batch is decided again one by one, so that
/// only the unit at fault fails.
const SAFETY_NETS: &[&str] = &[
    "events_stream_key",
    "events_pkey",
    "streams_key",
    "unique_claims_key",
    "idempotency_key",
    "slot_claims_no_overlap",
    "slot_claims_resource",
];

pub(super) async fn run(store: EventStore, schema: Schema, mut queue: mpsc::Receiver<Pending>) {
    let mut cache = LaneCache::new(store.inner.claims.clone());
    loop {
        let mut batch = Vec::new();
        let limit = store.inner.settings.max_batch;
        match tokio::time::timeout(store.inner.settings.idle, queue.recv_many(&mut batch, limit)).await {
            Ok(0) => return,
            Ok(_) => {
                let _turn = store.inner.admission.take().await;
                // What came meanwhile goes along.
                while batch.len() < limit
                    && let Ok(pending) = queue.try_recv()
                {
                    batch.push(pending);
                }
                store.inner.admission.took(batch.len());
                process(&store, &schema, &mut cache, batch).await;
            }
            Err(_) if store.retire_lane(&schema, &mut queue) => return,
            Err(_) => {}
        }
    }
}

/// Processes what was queued, in order. What has a batch to itself is a batch between the others.
async fn process(store: &EventStore, schema: &Schema, cache: &mut LaneCache, queued: Vec<Pending>) {
    let mut batch = Vec::with_capacity(queued.len());
    for pending in queued {
        if !erasure::is_alone(&pending.unit) {
            batch.push(pending);
            continue;
        }
        if !batch.is_empty() {
            together(store, schema, cache, std::mem::take(&mut batch)).await;
        }
        together(store, schema, cache, vec![pending]).await;
    }
    if !batch.is_empty() {
        together(store, schema, cache, batch).await;
    }
}

async fn together(store: &EventStore, schema: &Schema, cache: &mut LaneCache, batch: Vec<Pending>) {
    let started = Instant::now();
    let size = batch.len();
    let units: Vec<&Unit> = batch.iter().map(|pending| &pending.unit).collect();
    match attempt(store, schema, cache, &units).await {
        Ok(answers) => {
            metrics::histogram!("daybook_append_batch_units").record(size as f64);
            metrics::histogram!("daybook_append_batch_seconds").record(started.elapsed().as_secs_f64());
            for (pending, answer) in batch.into_iter().zip(answers) {
                answer_one(pending, answer);
            }
        }
        Err(error) if is_safety_net(&error) => {
            tracing::warn!(%schema, constraint = error.constraint(), units = size, "a safety net fired; deciding one by one");
            for pending in batch {
                one_by_one(store, schema, cache, pending).await;
            }
        }
        // It will not pass: whoever's it is, the others must not fail with it.
        Err(StoreError::Database { attempted, source }) if !is_passing(&source) => {
            tracing::error!(%schema, units = size, attempted, error = &source as &dyn std::error::Error, "a batch was refused; deciding one by one");
            for pending in batch {
                one_by_one(store, schema, cache, pending).await;
            }
        }
        Err(error) => {
            tracing::error!(%schema, units = size, error = &error as &dyn std::error::Error, "a batch failed");
            for pending in batch {
                answer_one(pending, Err(share(&error)));
            }
        }
    }
}

/// Decides a single unit, again when another process was faster, a bounded number of times.
async fn one_by_one(store: &EventStore, schema: &Schema, cache: &mut LaneCache, pending: Pending) {
    const TRIES: u32 = 3;
    let mut last = StoreError::ShuttingDown;
    for _ in 0..TRIES {
        // The cache was part of what went wrong; start from what is stored.
        cache.clear();
        match attempt(store, schema, cache, &[&pending.unit]).await {
            Ok(mut answers) => {
                let answer = answers.pop().unwrap_or(Err(StoreError::BatchFailed("no answer")));
                return answer_one(pending, answer);
            }
            Err(error) if is_safety_net(&error) => last = error,
            Err(error) => {
                tracing::error!(%schema, error = &error as &dyn std::error::Error, "a unit failed");
                return answer_one(pending, Err(error));
            }
        }
    }
    tracing::error!(%schema, error = &last as &dyn std::error::Error, "a unit ran into a safety net again and again");
    answer_one(pending, Err(batch::refusal_of_constraint(&last).unwrap_or(last)));
}

async fn attempt(
    store: &EventStore,
    schema: &Schema,
    cache: &mut LaneCache,
    units: &[&Unit],
) -> Result<Vec<Answer>, StoreError> {
    let result = batch::run(store, schema, cache, units).await;
    if result.is_err() {
        cache.clear();
    }
    result
}

fn is_safety_net(error: &StoreError) -> bool {
    error.constraint().is_some_and(|name| SAFETY_NETS.contains(&name))
}

fn answer_one(pending: Pending, answer: Result<Committed, StoreError>) {
    // The key is free before the caller hears of it, so that a repeat finds the stored answer.
    drop(pending.key_guard);
    // A caller that went away does not need its answer.
    let _ = pending.reply.send(answer);
}

/// The same failure for every caller of a batch; the cause is logged once, with the batch.
fn share(error: &StoreError) -> StoreError {
    match error {
        StoreError::Database { attempted, .. } => StoreError::BatchFailed(attempted),
        StoreError::Tenancy(_) => StoreError::BatchFailed("enter the log's schema"),
        StoreError::Corrupt { what, .. } => StoreError::BatchFailed(what),
        StoreError::Sealing(what) => StoreError::BatchFailed(what),
        _ => StoreError::BatchFailed("write a batch"),
    }
}
