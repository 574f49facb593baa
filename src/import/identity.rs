//! The ids of an import: all of them follow from what is imported, so that an import that was killed makes the same
//! ones again and finds what it has done. Pure.

use chrono::NaiveDate;
use daybook_domain::{BookingId, CustomerId, OfferingId, ResourceId};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::{
    hotel_demand::{GuestKey, PoolKey, Row},
    plan::Step,
    pools::PoolSizing,
};
use crate::eventstore::IdempotencyKey;

/// Part of every request's hash: a binary whose rules make other commands of the same file is refused instead of
/// mixing two readings of it. Raise it with such a change.
const RULES: &str = "hotel-demand/1";

/// What identifies an import: the file's (uncompressed) content, the log it goes to, and the options that decide what
/// becomes of a row. The same file with other pools or another limit is another import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportId {
    id: Uuid,
    digest: [u8; 32],
}

impl ImportId {
    /// The id of an import of `text` into `log`.
    pub fn new(text: &[u8], log: &str, sizing: PoolSizing, limit: Option<usize>) -> Self {
        let limit = limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        let digest = hash(&[
            b"daybook import",
            &Sha256::digest(text),
            log.as_bytes(),
            sizing.to_string().as_bytes(),
            limit.as_bytes(),
        ]);
        Self { id: custom_id(&digest), digest }
    }

    /// The id, as it stands in the events' metadata as the correlation id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The scope of the import's idempotency keys.
    pub fn scope(&self) -> String {
        format!("import:{}", self.id.simple())
    }

    /// The resource that is a pool.
    pub fn resource(&self, pool: &PoolKey) -> ResourceId {
        ResourceId(self.derive("resource", &[&pool.hotel, &pool.room_type]))
    }

    /// The offering of a pool, with or without a deposit that is kept.
    pub fn offering(&self, pool: &PoolKey, non_refundable: bool) -> OfferingId {
        let terms = if non_refundable { "non-refundable" } else { "free" };
        OfferingId(self.derive("offering", &[&pool.hotel, &pool.room_type, terms]))
    }

    /// A synthetic customer.
    pub fn customer(&self, guest: &GuestKey) -> CustomerId {
        CustomerId(self.derive("customer", &[&guest.hotel, &guest.customer_type, &guest.country]))
    }

    /// The booking of a row.
    ///
    /// It begins with the day of booking, as a UUIDv7 begins with its time: bookings made one after the other then
    /// stand side by side in every index.
    pub fn booking(&self, row: &Row) -> BookingId {
        let mut bytes = *self.derive("booking", &[&row.line.to_string()]).as_bytes();
        let days = row.booked_on.signed_duration_since(NaiveDate::default()).num_milliseconds();
        bytes[..6].copy_from_slice(&days.to_be_bytes()[2..]);
        BookingId(Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// An idempotency key by its name: that of a step ([`key_of`]), or of what is made before.
    pub fn key(&self, key: String) -> IdempotencyKey {
        let request_hash = self.request_hash(&key);
        IdempotencyKey { scope: self.scope(), key, request_hash }
    }

    /// What a request under a key is bound to. Its content follows from the import, the key and the rules.
    pub fn request_hash(&self, key: &str) -> [u8; 32] {
        hash(&[&self.digest, RULES.as_bytes(), key.as_bytes()])
    }

    fn derive(&self, kind: &str, parts: &[&str]) -> Uuid {
        let mut all: Vec<&[u8]> = vec![&self.digest, kind.as_bytes()];
        all.extend(parts.iter().map(|part| part.as_bytes()));
        custom_id(&hash(&all))
    }
}

/// The name of one step of a row among the import's keys: `<line>:<step>`.
pub fn key_of(line: u64, step: Step) -> String {
    format!("{line}:{}", step.as_str())
}

/// SHA-256 of parts, each led by its length, so that no two lists of parts read the same.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A UUIDv8 (RFC 9562 section 5.8): the bits are ours.
fn custom_id(digest: &[u8; 32]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, num::NonZeroU32};

    use super::*;
    use crate::import::{
        hotel_demand::parse,
        testing::{file, line},
    };

    fn import(text: &str) -> ImportId {
        ImportId::new(text.as_bytes(), "t_1", PoolSizing::Live, None)
    }

    #[test]
    fn a_resumed_import_makes_the_same_ids() {
        let text = file(&[line(), line().assigned("B")]);
        let history = parse(text.as_bytes(), None).unwrap();
        let (first, again) = (import(&text), import(&text));
        assert_eq!(first, again);
        for row in &history.rows {
            assert_eq!(first.booking(row), again.booking(row));
            assert_eq!(first.key(key_of(row.line, Step::Book)), again.key(key_of(row.line, Step::Book)));
        }
        assert_eq!(first.resource(&history.pools[1]), again.resource(&history.pools[1]));
        assert_eq!(first.customer(&history.guests[0]), again.customer(&history.guests[0]));
    }

    #[test]
    fn another_file_log_or_option_is_another_import() {
        let text = file(&[line()]);
        let text = text.as_bytes();
        let size = |size| PoolSizing::Fixed(NonZeroU32::new(size).unwrap());
        let all = [
            ImportId::new(text, "t_1", PoolSizing::Live, None),
            ImportId::new(b"other", "t_1", PoolSizing::Live, None),
            ImportId::new(text, "t_2", PoolSizing::Live, None),
            ImportId::new(text, "t_1", PoolSizing::Honoured, None),
            ImportId::new(text, "t_1", size(1), None),
            ImportId::new(text, "t_1", size(2), None),
            ImportId::new(text, "t_1", PoolSizing::Live, Some(1)),
        ];
        assert_eq!(all.iter().map(ImportId::id).collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn rows_and_steps_have_ids_of_their_own() {
        let text = file(&[line(), line(), line().assigned("B")]);
        let history = parse(text.as_bytes(), None).unwrap();
        let import = import(&text);
        let ids: HashSet<_> = history.rows.iter().map(|row| import.booking(row)).collect();
        assert_eq!(ids.len(), 3);
        let keys = [(2, Step::Book), (2, Step::Cancel), (3, Step::Book)]
            .map(|(line, step)| import.key(key_of(line, step)));
        assert_eq!(keys.iter().map(|key| &key.key).collect::<HashSet<_>>().len(), 3);
        assert_eq!(keys.iter().map(|key| key.request_hash).collect::<HashSet<_>>().len(), 3);
        assert_ne!(import.offering(&history.pools[0], true), import.offering(&history.pools[0], false));
    }

    #[test]
    fn bookings_sort_by_the_day_they_were_made() {
        let text = file(&[line().arriving(9, 1), line().arriving(9, 5), line().arriving(9, 3)]);
        let history = parse(text.as_bytes(), None).unwrap();
        let import = import(&text);
        let mut rows = history.rows.clone();
        rows.sort_by_key(|row| import.booking(row));
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [3, 4, 2]);
        assert_eq!(import.booking(&rows[0]).0.get_version_num(), 8);
    }
}
