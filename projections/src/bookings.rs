//! Bookings: one row each, as they are now. Inline.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use daybook_domain::{
    Disclosed,
    booking::{BookedTime, Booking},
};
use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Combined, Schema,
    inline::{Row, column, int},
};

/// A booking as it is now.
#[derive(Clone, Debug)]
pub struct BookingRow {
    /// The booking.
    pub id: Uuid,
    /// What is booked.
    pub offering_id: Uuid,
    /// Where it is placed.
    pub resource_id: Uuid,
    /// The unit it is pinned to.
    pub unit: Option<i32>,
    /// Who booked.
    pub customer_id: Uuid,
    /// How far it has come (`confirmed`).
    pub status: String,
    /// The date of arrival, of a stay.
    pub check_in: Option<NaiveDate>,
    /// The date of departure, of a stay.
    pub check_out: Option<NaiveDate>,
    /// When the guest's interval begins.
    pub starts_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
    /// The resource's zone when it was booked.
    pub time_zone: String,
    /// How many guests.
    pub guests: i32,
    /// The price in minor units.
    pub price_amount: i64,
    /// The currency of price and fee.
    pub currency: String,
    /// The cancellation fee owed, in minor units.
    pub fee_amount: Option<i64>,
    /// The cancellation policy as it was when the place was taken: text that goes into answers as it is.
    pub policy: Json<Box<RawValue>>,
    /// The guest's note. Personal.
    pub notes: Disclosed<String>,
    /// When the hold runs out.
    pub hold_expires_at: Option<DateTime<Utc>>,
    /// The sequence of its last event.
    pub version: i64,
    /// When its first event was recorded.
    pub created_at: DateTime<Utc>,
    /// When its last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// Which bookings are listed; every field that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookingFilter {
    /// Of this status.
    pub status: Option<String>,
    /// On this resource.
    pub resource_id: Option<Uuid>,
    /// Of this offering.
    pub offering_id: Option<Uuid>,
    /// Of this customer.
    pub customer_id: Option<Uuid>,
    /// Whose guest's interval ends after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Whose guest's interval begins before this instant.
    pub to: Option<DateTime<Utc>>,
    /// On one of these resources: those the reader is confined to.
    pub among: Option<Vec<Uuid>>,
}

impl BookingFilter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// From when to when, if that is little enough to look at all of it for a page.
    fn window(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let (from, to) = (self.from?, self.to?);
        (to - from <= LONGEST_WINDOW).then_some((from, to))
    }
}

/// Past it a page is found sooner by walking through all bookings by id.
const LONGEST_WINDOW: TimeDelta = TimeDelta::days(92);

macro_rules! select {
    ($where:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            BookingRow,
            "SELECT id, offering_id, resource_id, unit, customer_id, status, check_in, check_out, starts_at, ends_at, \
             time_zone, guests, price_amount, currency, fee_amount, policy AS \"policy: Json<Box<RawValue>>\", notes, \
             hold_expires_at, version, created_at, updated_at FROM bookings " + $where,
            $($argument),*
        )
    };
}

/// One booking.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<BookingRow>, sqlx::Error> {
    select!("WHERE id = $1", id).fetch_optional(connection).await
}

/// Bookings in the order of their ids, which is that of their making, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &BookingFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<BookingRow>, sqlx::Error> {
    // No id is nil, so that the condition is always one the index answers.
    let after = after.unwrap_or_default();
    // Statements of their own where an index gives the order, so that the general one's plan is not theirs.
    if filter.is_empty() {
        return select!("WHERE id > $1 ORDER BY id LIMIT $2", after, limit).fetch_all(connection).await;
    }
    if let Some(among) = &filter.among {
        return select!(
            "WHERE resource_id = ANY($1) AND id > $2
               AND ($4::text IS NULL OR status = $4)
               AND ($5::uuid IS NULL OR resource_id = $5)
               AND ($6::uuid IS NULL OR offering_id = $6)
               AND ($7::timestamptz IS NULL OR ends_at > $7)
               AND ($8::timestamptz IS NULL OR starts_at < $8)
               AND ($9::uuid IS NULL OR customer_id = $9)
             ORDER BY id LIMIT $3",
            among,
            after,
            limit,
            filter.status.as_deref(),
            filter.resource_id,
            filter.offering_id,
            filter.from,
            filter.to,
            filter.customer_id
        )
        .fetch_all(connection)
        .await;
    }
    if let Some(customer_id) = filter.customer_id {
        return select!(
            "WHERE customer_id = $1 AND id > $2
               AND ($4::text IS NULL OR status = $4)
               AND ($5::uuid IS NULL OR resource_id = $5)
               AND ($6::uuid IS NULL OR offering_id = $6)
               AND ($7::timestamptz IS NULL OR ends_at > $7)
               AND ($8::timestamptz IS NULL OR starts_at < $8)
             ORDER BY id LIMIT $3",
            customer_id,
            after,
            limit,
            filter.status.as_deref(),
            filter.resource_id,
            filter.offering_id,
            filter.from,
            filter.to
        )
        .fetch_all(connection)
        .await;
    }
    if let Some(resource_id) = filter.resource_id {
        return select!(
            "WHERE resource_id = $1 AND id > $2
               AND ($4::text IS NULL OR status = $4)
               AND ($5::uuid IS NULL OR offering_id = $5)
               AND ends_at > coalesce($6, '-infinity'::timestamptz)
               AND starts_at < coalesce($7, 'infinity'::timestamptz)
             ORDER BY id LIMIT $3",
            resource_id,
            after,
            limit,
            filter.status.as_deref(),
            filter.offering_id,
            filter.from,
            filter.to
        )
        .fetch_all(connection)
        .await;
    }
    if let Some((from, to)) = filter.window() {
        // Each class of lengths is a narrow range of `bookings_by_time`. The fence keeps it that way.
        return select!(
            "WHERE id = ANY (ARRAY(
                 SELECT b.id
                 FROM (VALUES (0, interval '36 hours'), (1, '84 hours'), (2, '180 hours'), (3, '372 hours'),
                              (4, '756 hours'), (5, '100 years')) AS c (class, longest)
                 CROSS JOIN LATERAL (
                     SELECT x.id FROM bookings AS x
                     WHERE booking_length_class(x.starts_at, x.ends_at) = c.class
                       AND x.starts_at > $5::timestamptz - c.longest
                       AND x.starts_at < $6 AND x.ends_at > $5
                       AND x.id > $1
                       AND ($3::text IS NULL OR x.status = $3)
                       AND ($4::uuid IS NULL OR x.offering_id = $4)
                     OFFSET 0
                 ) AS b
                 ORDER BY b.id LIMIT $2
             )) ORDER BY id",
            after,
            limit,
            filter.status.as_deref(),
            filter.offering_id,
            from,
            to
        )
        .fetch_all(connection)
        .await;
    }
    select!(
        "WHERE id > $1
           AND ($3::text IS NULL OR status = $3)
           AND ($4::uuid IS NULL OR offering_id = $4)
           AND ($5::timestamptz IS NULL OR ends_at > $5)
           AND ($6::timestamptz IS NULL OR starts_at < $6)
         ORDER BY id LIMIT $2",
        after,
        limit,
        filter.status.as_deref(),
        filter.offering_id,
        filter.from,
        filter.to
    )
    .fetch_all(connection)
    .await
}

/// Adds the writing of rows to a statement.
pub(crate) fn write(combined: &mut Combined, schema: &Schema, rows: &[Row<'_, Booking>]) {
    let sql = schema.sql(
        "INSERT INTO {s}.bookings (id, offering_id, resource_id, unit, customer_id, status, mode, check_in, check_out,
                                   starts_at, ends_at, time_zone, guests, price_amount, currency, fee_amount, policy,
                                   notes, hold_expires_at, version, position, created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::uuid[], $6::text[], $7::text[],
                              $8::date[], $9::date[], $10::timestamptz[], $11::timestamptz[], $12::text[],
                              $13::integer[], $14::bigint[], $15::text[], $16::bigint[], $17::jsonb[], $18::text[],
                              $19::timestamptz[], $20::bigint[], $21::bigint[], $22::timestamptz[], $23::timestamptz[]) AS w
         ON CONFLICT (id) DO UPDATE
         SET resource_id = EXCLUDED.resource_id, unit = EXCLUDED.unit, status = EXCLUDED.status, mode = EXCLUDED.mode,
             check_in = EXCLUDED.check_in, check_out = EXCLUDED.check_out, starts_at = EXCLUDED.starts_at,
             ends_at = EXCLUDED.ends_at, time_zone = EXCLUDED.time_zone, guests = EXCLUDED.guests,
             price_amount = EXCLUDED.price_amount, currency = EXCLUDED.currency, fee_amount = EXCLUDED.fee_amount,
             policy = EXCLUDED.policy, notes = EXCLUDED.notes, hold_expires_at = EXCLUDED.hold_expires_at,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    let nights = |booking: &Booking| match &booking.when {
        BookedTime::Nights { nights, .. } => Some((nights.check_in(), nights.check_out())),
        BookedTime::Slot { .. } => None,
    };
    let mode = |booking: &Booking| match &booking.when {
        BookedTime::Nights { .. } => "nights",
        BookedTime::Slot { .. } => "slot",
    };
    combined
        .rows(&sql, rows.len())
        .column(column!(rows, row => row.id))
        .column(column!(rows, row => row.state.offering_id.0))
        .column(column!(rows, row => row.state.resource_id.0))
        .column(column!(rows, row => row.state.unit.map(int)))
        .column(column!(rows, row => row.state.customer_id.0))
        .column(column!(rows, row => row.state.status.as_str()))
        .column(column!(rows, row => mode(row.state)))
        .column(column!(rows, row => nights(row.state).map(|(check_in, _)| check_in)))
        .column(column!(rows, row => nights(row.state).map(|(_, check_out)| check_out)))
        .column(column!(rows, row => row.state.during.start()))
        .column(column!(rows, row => row.state.during.end()))
        .column(column!(rows, row => row.state.when.zone().name()))
        .column(column!(rows, row => int(row.state.guests)))
        .column(column!(rows, row => row.state.price.amount))
        .column(column!(rows, row => row.state.price.currency.to_string()))
        .column(column!(rows, row => row.state.fee.map(|fee| fee.amount)))
        .column(column!(rows, row => Json(&row.state.policy)))
        .column(column!(rows, row => row.state.notes.as_ref().and_then(|notes| notes.expose()).map(|notes| notes.as_str())))
        .column(column!(rows, row => row.state.hold_expires_at))
        .column(column!(rows, row => row.version))
        .column(column!(rows, row => row.position))
        .column(column!(rows, row => row.created_at))
        .column(column!(rows, row => row.updated_at));
}
