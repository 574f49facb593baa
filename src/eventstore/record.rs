//! Recording what was decided: the leaf of each event fixed, its personal values sealed, its unique values claimed.

use chrono::{DateTime, Utc};
use daybook_domain::{
    BookingId, DomainError, SubjectId,
    booking::Booking,
    envelope::Metadata,
    registry::{AnyEvent, AnyState, Registered as _, unique_taken},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    StoreError,
    append::{NewEvent, NewSealed},
    batch::{Undo, Work},
    cache::Entry,
    leaf::{CARRIED_MARGIN, Leaf, MAX_LEAF, format_time},
    load, lookups, seal,
};
use crate::random;

impl Work<'_, '_> {
    /// Folds decided events into the working set and fixes their leaves.
    pub(super) async fn record(
        &mut self,
        id: Uuid,
        before: Entry,
        decided: Vec<AnyEvent>,
        metadata: &Metadata,
        occurred_at: Option<DateTime<Utc>>,
    ) -> Result<Entry, StoreError> {
        if decided.is_empty() {
            return Ok(before);
        }
        let mut after = before.clone();
        for event in decided {
            after.state.apply(&event);
            after.sequence += 1;
            self.head.position += 1;
            self.fix_leaf(id, after.sequence, event, metadata, occurred_at).await?;
        }
        self.claim_unique(id, &before.state, &after.state).await?;
        if let (AnyState::Booking(_), Some(booking)) = (&before.state, Booking::of(&after.state)) {
            let old = self.cache.occupancies.set(BookingId(id), booking.claim());
            self.undo.push(Undo::Claim(BookingId(id), old));
        }
        if matches!(after.state, AnyState::Schedule(_)) {
            self.cache.schedule_of.clear();
        }
        if !self.touched_ids.contains_key(&id) {
            self.touched_ids.insert(id, self.touched.len());
            self.touched.push((id, before.state));
            self.undo.push(Undo::Touched(id));
        }
        let old = self.cache.states.put(id, after.clone());
        self.undo.push(Undo::State(id, old));
        Ok(after)
    }

    async fn fix_leaf(
        &mut self,
        aggregate_id: Uuid,
        sequence: i64,
        mut event: AnyEvent,
        metadata: &Metadata,
        occurred_at: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let position = self.head.position;
        let event_id = Uuid::now_v7();
        let (carried, mut unknown) = (event.carried_past().is_some(), false);
        let mut personal = Vec::new();
        event.visit_personal(&mut |field, subject, slot| {
            unknown |= slot.is_sealed();
            personal.extend(slot.value().map(|value| (field, subject, value)));
        });
        // It would be lost with the event that has it.
        if carried && unknown {
            return Err(StoreError::Sealing("a personal value to be carried over is not known"));
        }
        let mut commitments = std::collections::BTreeMap::new();
        for (field, subject, value) in personal {
            let key = self.subject_key(subject).await?;
            let sealed = seal::seal(
                &key,
                self.schema.log_id(),
                event_id,
                field,
                &value,
                &random_bytes()?,
                &random_bytes()?,
            )?;
            commitments.insert(field.to_owned(), hex::encode(sealed.commitment));
            self.sealed.push(NewSealed { position, field, subject, ciphertext: sealed.ciphertext });
        }
        let aggregate_type = event.aggregate_type();
        let recorded_at = self.head.recorded_at;
        let payload = event.payload().map_err(|source| StoreError::Corrupt {
            what: "an event that does not serialise",
            position,
            source: Some(source.into()),
        })?;
        let leaf = Leaf {
            tenant: self.schema.log_id(),
            position: position.to_string(),
            id: event_id,
            event_type: event.type_name().to_owned(),
            version: event.version(),
            aggregate_type: aggregate_type.as_str().to_owned(),
            aggregate_id,
            sequence: sequence.to_string(),
            recorded_at: format_time(recorded_at),
            occurred_at: format_time(occurred_at.unwrap_or(recorded_at)),
            metadata: metadata.clone(),
            payload,
            commitments,
            nonce: hex::encode(random_bytes::<16>()?),
        }
        .encode()?;
        // What a command may not write is kept free for the state that is carried over: it says a little more than the event.
        let most = if carried { MAX_LEAF } else { MAX_LEAF - CARRIED_MARGIN };
        if leaf.len() > most {
            return Err(
                DomainError::field("", "too_long", "all of it together is too long for one event").into()
            );
        }
        self.events.push(NewEvent {
            position,
            event_id,
            aggregate_type,
            aggregate_id,
            sequence,
            event_type: event.type_name(),
            event_version: i32::from(event.version()),
            recorded_at,
            updated_at: self.unchanged_since.filter(|_| carried).unwrap_or(recorded_at),
            actor: metadata.actor.clone(),
            on_behalf_of: metadata.on_behalf_of.clone(),
            leaf,
        });
        Ok(())
    }

    /// The subject's key: cached, stored, or made now and written with this batch.
    async fn subject_key(&mut self, subject: SubjectId) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        if let Some(key) = self.cache.subject_keys.get(&subject) {
            return Ok(key.clone());
        }
        let stored = load::subject_keys(self.tx, &self.schema, self.store.keys(), &[subject.0]).await?;
        let key = match stored.into_iter().next() {
            Some((_, Some(key))) => key,
            Some((_, None)) => {
                return Err(DomainError::wrong_state("erased", "this person's data was erased").into());
            }
            None => {
                let key = Zeroizing::new(random_bytes::<32>()?);
                let wrapped = self
                    .store
                    .keys()
                    .wrap_subject_key(subject.0, self.schema.log_id().0, &key, random_bytes()?)
                    .map_err(|_| StoreError::Sealing("a subject key cannot be wrapped"))?;
                self.new_keys.push((subject, wrapped));
                self.undo.push(Undo::SubjectKey(subject));
                key
            }
        };
        self.cache.subject_keys.put(subject, key.clone());
        Ok(key)
    }

    async fn claim_unique(
        &mut self,
        id: Uuid,
        before: &AnyState,
        after: &AnyState,
    ) -> Result<(), StoreError> {
        let (old, new) = (before.unique_keys(), after.unique_keys());
        if old == new {
            return Ok(());
        }
        for (kind, value) in old.iter().filter(|key| !new.contains(key)) {
            let key = (*kind, self.hmac(kind, value));
            let previous = self.unique.insert(key, None);
            self.undo.push(Undo::Unique(key, previous));
        }
        for (kind, value) in new.iter().filter(|key| !old.contains(key)) {
            let key = (*kind, self.hmac(kind, value));
            let owner = match self.unique.get(&key) {
                Some(owner) => *owner,
                None => lookups::unique_owner(self.tx, key.0, &key.1).await?,
            };
            if owner.is_some_and(|owner| owner != id) {
                return Err(unique_taken(kind).into());
            }
            let previous = self.unique.insert(key, Some(id));
            self.undo.push(Undo::Unique(key, previous));
        }
        Ok(())
    }

    pub(super) fn hmac(&self, kind: &str, value: &str) -> [u8; 32] {
        self.store.keys().hmac_unique(kind, self.schema.log_id().0, value.as_bytes())
    }

    /// Who owns a unique value, seen from inside the batch.
    pub(super) async fn unique_owner(
        &mut self,
        kind: &'static str,
        value: &str,
    ) -> Result<Option<Uuid>, StoreError> {
        let key = (kind, self.hmac(kind, value));
        match self.unique.get(&key) {
            Some(owner) => Ok(*owner),
            None => lookups::unique_owner(self.tx, key.0, &key.1).await,
        }
    }
}

fn random_bytes<const N: usize>() -> Result<[u8; N], StoreError> {
    random::bytes::<N>().map_err(|_| StoreError::Sealing("the system has no randomness"))
}
