//! One batch: lock the head, decide each unit in order in memory, write everything, commit.

use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};
use daybook_domain::{
    BookingId, DomainError, RecordedEvent, ResourceId, SubjectId, UserId,
    booking::{Booking, BookingCommand},
    envelope::Metadata,
    occupancy::Claim,
    registry::{AggregateType, AnyCommand, AnyState, Registered, unique_taken},
};
use daybook_projections::Schema;
use sqlx::Connection as _;
use uuid::Uuid;

use super::{
    Changed, Command, Committed, EventStore, Intent, MAX_RECEIPTS, Receipt, StoreError, StreamRef, Unit,
    append::{self, NewEvent, NewSealed, Rows},
    cache::{Entry, LaneCache},
    erasure, grants,
    idempotency::{StoredChange, StoredResponse},
    leaf::leaf_hash,
    load::{self, Reader, Until},
    lookups, masquerade,
};
use crate::{
    mail::sealer::KeySealer,
    tenancy::{Access, TenantTx},
};

/// What one unit of a batch is answered.
pub type Answer = Result<Committed, StoreError>;

/// Runs one batch in one transaction. An `Err` of a unit is in its answer; an `Err` of the batch means that
/// nothing was written.
pub(super) async fn run(
    store: &EventStore,
    schema: &Schema,
    cache: &mut LaneCache,
    units: &[&Unit],
) -> Result<Vec<Answer>, StoreError> {
    let mut fresh = false;
    loop {
        let mut writer = store.database().writer(schema).await?;
        let Some(connection) = writer.connection() else {
            return Err(StoreError::BatchFailed("no connection"));
        };
        let result = run_on(store, schema, cache, units, connection).await;
        // A refused statement leaves the connection usable; anything else (it broke, it timed out) may not.
        if let Err(error) = &result {
            let usable = error.constraint().is_some() && connection.ping().await.is_ok();
            if !usable {
                writer.discard();
            }
            // Then nothing has begun, and a fresh connection may take the role.
            let role_refused = matches!(error, StoreError::Tenancy(error) if error.is_role_refused());
            if role_refused && !fresh {
                fresh = true;
                continue;
            }
        }
        return result;
    }
}

async fn run_on(
    store: &EventStore,
    schema: &Schema,
    cache: &mut LaneCache,
    units: &[&Unit],
    connection: &mut sqlx::PgConnection,
) -> Result<Vec<Answer>, StoreError> {
    let mut tx = TenantTx::begin_on(connection, schema, Access::Write).await?;
    if units.iter().any(|unit| erasure::is_alone(unit)) {
        erasure::stop_projections(&mut tx).await?;
    }
    // The lock comes first; what is decided on is read by later statements, each with a snapshot taken after it.
    let head = append::lock_head(&mut tx).await?;
    append::catch_up(&mut tx, cache, head.position).await?;
    cache.trim();
    let mut work = Work::new(store, &mut tx, cache, head);
    let stored = lookups::stored_responses(work.tx, units).await?;
    work.prefetch(units).await?;

    let mut answers: Vec<Answer> = Vec::with_capacity(units.len());
    for (index, unit) in units.iter().enumerate() {
        answers.push(match stored.get(&index) {
            Some((hash, _)) if unit.idempotency.as_ref().is_some_and(|key| key.request_hash != *hash) => {
                Err(StoreError::KeyReused)
            }
            Some((_, response)) => work.replay(response).await?,
            None => work.decide_unit(unit).await?,
        });
    }

    let erasure = work.erasure.take();
    let rows = work.finish(units, &answers, &stored)?;
    let head = rows.head;
    if rows.is_empty() {
        // Nothing to write: every unit was refused or replayed. Dropping the transaction would send the rollback
        // only with the connection's next statement, and until then other processes would wait for the head.
        tx.rollback().await?;
    } else {
        append::write(&mut tx, &rows).await?;
        if let Some(reach) = &erasure {
            let erased = rows.events.iter().filter(|event| event.event_type == erasure::ERASED);
            let positions: Vec<i64> = erased.map(|event| event.position).collect();
            if !positions.is_empty() {
                reach.purge(&mut tx, &KeySealer(store.keys().clone()), &positions).await?;
            }
        }
        for (unit, answer) in units.iter().zip(&answers) {
            let wrote = |committed: &Committed| {
                !committed.replayed && committed.first_position <= committed.last_position
            };
            if answer.as_ref().is_ok_and(wrote) {
                for attached in &unit.attached {
                    attached.write(&mut tx).await?;
                }
            }
        }
        tx.commit().await?;
    }
    if erasure.is_some() {
        // Bookings, leads and keys of whoever was erased, wherever they are in it.
        cache.clear();
    }
    cache.known_position = Some(head.position);
    store.head_moved(schema, head.position);
    Ok(answers)
}

/// The refusal that a fired safety net stands for, when deciding again did not find it.
pub(super) fn refusal_of_constraint(error: &StoreError) -> Option<StoreError> {
    match error.constraint()? {
        "slot_claims_no_overlap" => Some(DomainError::SlotTaken.into()),
        "unique_claims_key" => Some(unique_taken("value").into()),
        "events_stream_key" | "streams_key" => Some(DomainError::VersionConflict.into()),
        _ => None,
    }
}

/// Undoes one step of a unit that is refused further on.
pub(super) enum Undo {
    State(Uuid, Option<Entry>),
    Unique((&'static str, [u8; 32]), Option<Option<Uuid>>),
    Claim(BookingId, Option<(ResourceId, Claim)>),
    SubjectKey(SubjectId),
    Touched(Uuid),
}

/// The working set of a batch: the cache, and what will be written.
pub(super) struct Work<'w, 't> {
    pub(super) store: &'w EventStore,
    pub(super) tx: &'w mut TenantTx<'t>,
    pub(super) cache: &'w mut LaneCache,
    pub(super) schema: Schema,
    pub(super) head: append::Head,
    pub(super) events: Vec<NewEvent>,
    pub(super) sealed: Vec<NewSealed>,
    pub(super) new_keys: Vec<(SubjectId, Vec<u8>)>,
    /// Owner of each unique value as this batch sees it.
    pub(super) unique: HashMap<(&'static str, [u8; 32]), Option<Uuid>>,
    /// Every aggregate with a new event, in order, with its state before the batch.
    pub(super) touched: Vec<(Uuid, AnyState)>,
    pub(super) touched_ids: HashMap<Uuid, usize>,
    pub(super) undo: Vec<Undo>,
    /// Whom this batch erases, if it does.
    pub(super) erasure: Option<erasure::Reach>,
    /// The streams that the unit in progress carries over.
    pub(super) carried: HashMap<StreamRef, Vec<RecordedEvent>>,
    /// Since when the stream that is carried over now is as it is.
    pub(super) unchanged_since: Option<DateTime<Utc>>,
}

impl<'w, 't> Work<'w, 't> {
    fn new(
        store: &'w EventStore,
        tx: &'w mut TenantTx<'t>,
        cache: &'w mut LaneCache,
        head: append::Head,
    ) -> Self {
        let schema = tx.schema().clone();
        Self {
            store,
            tx,
            cache,
            schema,
            head,
            events: Vec::new(),
            sealed: Vec::new(),
            new_keys: Vec::new(),
            unique: HashMap::new(),
            touched: Vec::new(),
            touched_ids: HashMap::new(),
            undo: Vec::new(),
            erasure: None,
            carried: HashMap::new(),
            unchanged_since: None,
        }
    }

    /// The time decisions are made at, by the database's clock.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.head.recorded_at
    }

    /// The log's last position, with what this batch has decided so far.
    pub(super) fn position(&self) -> i64 {
        self.head.position
    }

    /// Loads in one go every named aggregate that is not cached.
    async fn prefetch(&mut self, units: &[&Unit]) -> Result<(), StoreError> {
        let mut wanted: Vec<(Uuid, AggregateType)> = Vec::new();
        for command in units.iter().flat_map(|unit| &unit.commands) {
            // What is carried over is read anew, from the events alone.
            if !command.fresh && !matches!(command.intent, Intent::CarryOver { .. }) {
                wanted.push((command.id, command.aggregate_type));
            }
            if let Intent::Ask(AnyCommand::Booking(BookingCommand::Book {
                offering_id, customer_id, ..
            })) = &command.intent
            {
                wanted.push((offering_id.0, AggregateType::Offering));
                wanted.push((customer_id.0, AggregateType::Customer));
            }
        }
        wanted.retain(|(id, _)| !self.cache.states.contains(id));
        wanted.sort_unstable();
        wanted.dedup();
        // Customers made in this very batch are looked for as well; finding nothing costs nothing more.
        self.load(&wanted).await
    }

    /// Loads aggregates into the cache; one that does not exist is cached as such.
    pub(super) async fn load(&mut self, wanted: &[(Uuid, AggregateType)]) -> Result<(), StoreError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = wanted.iter().map(|(id, _)| *id).collect();
        let mut reader = Reader::disclosing(&self.schema, self.store.keys());
        let mut found = reader.aggregates(self.tx, &ids).await?;
        for (id, aggregate_type) in wanted {
            let entry = found
                .remove(id)
                .unwrap_or_else(|| Entry { state: AnyState::new(*aggregate_type), sequence: 0 });
            self.cache.states.put(*id, entry);
        }
        Ok(())
    }

    /// The state of an aggregate; one of another type under this id reads as absent.
    pub(super) async fn entry(
        &mut self,
        id: Uuid,
        aggregate_type: AggregateType,
    ) -> Result<Entry, StoreError> {
        if !self.cache.states.contains(&id) {
            self.load(&[(id, aggregate_type)]).await?;
        }
        let absent = || Entry { state: AnyState::new(aggregate_type), sequence: 0 };
        Ok(match self.cache.states.get(&id) {
            Some(entry) if entry.state.aggregate_type() == aggregate_type => entry.clone(),
            Some(_) | None => absent(),
        })
    }

    /// The typed state of an aggregate, `None` when nothing has happened to it.
    pub(super) async fn state<A: Registered>(
        &mut self,
        id: Uuid,
    ) -> Result<Option<std::sync::Arc<A>>, StoreError> {
        let entry = self.entry(id, A::AGGREGATE_TYPE).await?;
        Ok(if entry.sequence == 0 { None } else { A::of(&entry.state).cloned() })
    }

    /// Aggregates of this batch, as they were before it and as they are now.
    pub(super) fn touched_states(&self) -> impl Iterator<Item = (Uuid, &AnyState, &AnyState)> {
        self.touched
            .iter()
            .filter_map(|(id, before)| self.cache.states.peek(id).map(|entry| (*id, before, &entry.state)))
    }

    async fn decide_unit(&mut self, unit: &Unit) -> Result<Answer, StoreError> {
        self.undo.clear();
        self.load_carried(unit).await?;
        let mark = (self.events.len(), self.sealed.len(), self.new_keys.len(), self.head.position);
        let first_position = self.head.position + 1;
        let mut changed = Vec::with_capacity(unit.commands.len());
        for command in &unit.commands {
            match self.decide_command(unit, command).await {
                Ok(result) => changed.push(result),
                Err(StoreError::Refused { error, replayed }) => {
                    self.events.truncate(mark.0);
                    self.sealed.truncate(mark.1);
                    self.new_keys.truncate(mark.2);
                    self.head.position = mark.3;
                    self.roll_back();
                    return Ok(Err(StoreError::Refused { error, replayed }));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(Committed {
            first_position,
            last_position: self.head.position,
            recorded_at: self.head.recorded_at,
            changed,
            replayed: false,
            receipts: self.receipts(mark.0),
        }))
    }

    /// Receipts of the events from this one on, or of the last of them.
    fn receipts(&self, from: usize) -> Vec<Receipt> {
        let from = from.max(self.events.len().saturating_sub(MAX_RECEIPTS));
        let of = |event: &NewEvent| Receipt { position: event.position, leaf_hash: leaf_hash(&event.leaf) };
        self.events[from..].iter().map(of).collect()
    }

    async fn decide_command(&mut self, unit: &Unit, command: &Command) -> Result<Changed, StoreError> {
        if let Intent::CarryOver { cut } = command.intent {
            return self.carry_over(unit, command, cut).await;
        }
        if let Some(within) = unit.within {
            self.goes_on(within).await?;
        }
        let aggregate_type = command.aggregate_type;
        let before = if command.fresh && !self.cache.states.contains(&command.id) {
            Entry { state: AnyState::new(aggregate_type), sequence: 0 }
        } else {
            self.entry(command.id, aggregate_type).await?
        };
        if command.expected.is_some_and(|expected| expected != before.sequence) {
            // An absent aggregate is absent, whatever version was expected of it.
            return Err(if before.sequence == 0 && matches!(command.intent, Intent::Ask(_)) {
                DomainError::not_found(aggregate_type.as_str())
            } else {
                DomainError::VersionConflict
            }
            .into());
        }
        let decided = super::decide::decide(self, &before.state, command, unit).await?;
        let had_grants = grants::can_have(&before.state);
        let lets_in = masquerade::lets_in(&before.state);
        let was_erased = erasure::is_erased(&before.state);
        let after = self.record(command.id, before, decided, &unit.metadata, unit.occurred_at).await?;
        self.expire_lapsed(command.id, &after.state).await?;
        if !was_erased && erasure::is_erased(&after.state) {
            self.end_accounts(&unit.metadata).await?;
        }
        if had_grants && !grants::can_have(&after.state) {
            self.end_grants(UserId(command.id), &unit.metadata).await?;
        }
        if lets_in && !masquerade::lets_in(&after.state) {
            self.end_masquerades(StreamRef { aggregate_type, id: command.id }, &unit.metadata).await?;
        }
        Ok(Changed { id: command.id, sequence: after.sequence, state: after.state })
    }

    /// A booking that was just placed may overlap holds that have run out but are not expired yet. They are
    /// expired now, so that no claim of theirs stands in the way of the database's own guard.
    async fn expire_lapsed(&mut self, id: Uuid, state: &AnyState) -> Result<(), StoreError> {
        let Some((resource, claim)) = Booking::of(state).and_then(|booking| booking.claim()) else {
            return Ok(());
        };
        let now = self.now();
        let Some(occupancy) = self.cache.occupancies.get(resource, claim.during.start()) else {
            return Ok(());
        };
        for lapsed in occupancy.lapsed_in(&claim.during, now) {
            if lapsed.0 == id {
                continue;
            }
            let before = self.entry(lapsed.0, AggregateType::Booking).await?;
            let expire = Command::to(lapsed, BookingCommand::Expire);
            let unit = Unit::of(expire, Metadata::system("hold-expiry"));
            let decided = super::decide::decide(self, &before.state, &unit.commands[0], &unit).await?;
            self.record(lapsed.0, before, decided, &unit.metadata, None).await?;
        }
        Ok(())
    }

    fn roll_back(&mut self) {
        // The schedule map may hold what the refused unit would have made so. Most refusals have nothing to do with it, and
        // what it forgets is asked of the database again.
        if self.undo.iter().any(|step| matches!(step, Undo::Unique(..))) {
            self.cache.schedule_of.clear();
        }
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::State(id, Some(entry)) => drop(self.cache.states.put(id, entry)),
                Undo::State(id, None) => drop(self.cache.states.pop(&id)),
                Undo::Unique(key, Some(owner)) => drop(self.unique.insert(key, owner)),
                Undo::Unique(key, None) => drop(self.unique.remove(&key)),
                Undo::Claim(booking, claim) => drop(self.cache.occupancies.set(booking, claim)),
                Undo::SubjectKey(subject) => drop(self.cache.subject_keys.pop(&subject)),
                Undo::Touched(id) => {
                    self.touched_ids.remove(&id);
                    self.touched.pop();
                }
            }
        }
    }

    /// Answers a repeated request with the aggregates as they were after the first.
    async fn replay(&mut self, response: &lookups::StoredRow) -> Result<Answer, StoreError> {
        match &response.response {
            StoredResponse::Refused(error) => {
                Ok(Err(StoreError::Refused { error: error.clone(), replayed: true }))
            }
            StoredResponse::Committed(stored) => {
                replay_committed(self.tx, &self.schema.clone(), self.store, stored, response).await.map(Ok)
            }
        }
    }

    fn finish(
        self,
        units: &[&Unit],
        answers: &[Answer],
        stored: &HashMap<usize, ([u8; 32], lookups::StoredRow)>,
    ) -> Result<Rows, StoreError> {
        let expires_at = self.head.recorded_at + Duration::hours(self.store.inner.settings.idempotency_hours);
        let mut rows = Rows {
            head: self.head,
            events: self.events,
            sealed: self.sealed,
            new_keys: self.new_keys,
            unique: self.unique.into_iter().collect(),
            touched: Vec::with_capacity(self.touched.len()),
            snapshot_every: self.store.inner.settings.snapshot_every,
            responses: Vec::new(),
            responses_expire_at: expires_at,
        };
        for (id, before) in self.touched {
            // Nothing is let go of within a batch.
            let after =
                self.cache.states.peek(&id).ok_or(StoreError::BatchFailed("keep a batch's aggregates"))?;
            rows.touched.push((id, before, after.clone()));
        }
        for (index, (unit, answer)) in units.iter().zip(answers).enumerate() {
            let Some(key) = &unit.idempotency else { continue };
            if stored.contains_key(&index) {
                continue;
            }
            let (response, positions) = match answer {
                Ok(committed) => (
                    StoredResponse::Committed(
                        committed
                            .changed
                            .iter()
                            .map(|changed| StoredChange {
                                aggregate_type: changed.state.aggregate_type().as_str().to_owned(),
                                id: changed.id,
                                sequence: changed.sequence,
                            })
                            .collect(),
                    ),
                    Some((committed.first_position, committed.last_position)),
                ),
                Err(StoreError::Refused { error, .. }) => (StoredResponse::Refused(error.clone()), None),
                Err(_) => continue,
            };
            rows.responses.push(append::NewResponse { key: key.clone(), response, positions });
        }
        Ok(rows)
    }
}

async fn replay_committed(
    tx: &mut TenantTx<'_>,
    schema: &Schema,
    store: &EventStore,
    stored: &[StoredChange],
    response: &lookups::StoredRow,
) -> Result<Committed, StoreError> {
    let mut reader = Reader::disclosing(schema, store.keys());
    let mut changed = Vec::with_capacity(stored.len());
    for change in stored {
        let corrupt = |what| StoreError::Corrupt { what, position: response.last_position, source: None };
        let aggregate_type = change.parsed_type().ok_or_else(|| corrupt("an unknown aggregate type"))?;
        let stream = StreamRef { aggregate_type, id: change.id };
        let then = reader.aggregate(tx, stream, Until::Sequence(change.sequence)).await?;
        // Where what it was then is pruned, what it is now has to do.
        let found = match then {
            Some(then) => Some(then),
            None => reader.aggregate(tx, stream, Until::End).await?,
        };
        let (entry, _) = found.ok_or_else(|| corrupt("an answer without its stream"))?;
        changed.push(Changed { id: change.id, sequence: entry.sequence, state: entry.state });
    }
    Ok(Committed {
        first_position: response.first_position,
        last_position: response.last_position,
        recorded_at: response.at,
        changed,
        replayed: true,
        receipts: load::receipts(tx, response.first_position, response.last_position).await?,
    })
}
