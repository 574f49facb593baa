//! Erasing a person: what it reaches, what it must wait for, and what is destroyed with the event that says so.
//!
//! The completing events, the destroyed keys, the sealed values and everything of the person in read models, snapshots,
//! letters and credentials are one transaction. What is known by an address alone goes with the last who has the address.
//! It has a batch to itself: nothing else is decided on a state that still knows the person, and what the lane keeps in
//! memory is dropped after it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use daybook_domain::{
    CustomerId, LeadId, SubjectId, UserId,
    carried::FORMER,
    customer::{Customer, CustomerCommand, CustomerContext},
    envelope::Metadata,
    legal_hold::{Kept, LegalHold},
    permission::Tier,
    registry::{AggregateType, AnyCommand, AnyState, Registered as _},
    user::{By, UserCommand},
};
use daybook_projections::{Schema, booking_history};
use uuid::Uuid;

use super::{
    Command, Intent, StoreError, StreamRef, Unit,
    attached::Attached,
    batch::Work,
    load::{Reader, Until},
};
use crate::{
    mail::{Sealer, outbox},
    tenancy::TenantTx,
};

/// The event that tells every process that what it keeps of the log in memory may know somebody who is gone.
pub(super) const ERASED: &str = "customer.erased";

/// The types of the events that say whose an account is.
const NAMING: [&str; 3] = ["user.registered", "user.invited", "user.carried_over"];

/// What the erasure of a customer reaches. Holds their addresses: it is not printed.
pub(super) struct Reach {
    customer: CustomerId,
    /// Every account that ever was theirs; of those that are gone the log still has the sealed values.
    users: Vec<UserId>,
    /// Those that are not gone.
    accounts: Vec<UserId>,
    /// What they asked before they were a customer, by the address they gave.
    leads: Vec<LeadId>,
    /// Those of their addresses that nobody else has.
    addresses: Vec<String>,
}

/// Whether a unit has a batch to itself.
pub(super) fn is_alone(unit: &Unit) -> bool {
    unit.commands.iter().any(|command| {
        matches!(command.intent, Intent::Ask(AnyCommand::Customer(CustomerCommand::CompleteErasure)))
    })
}

/// Lets the projections' step in progress end, and no other begin before this transaction has: what they read before the
/// erasure they would write after it. Before the head is locked, so that nobody else waits for it.
pub(super) async fn stop_projections(tx: &mut TenantTx<'_>) -> Result<(), StoreError> {
    let sql = tx.schema().sql("SELECT name FROM {s}.projection_checkpoints ORDER BY name FOR UPDATE");
    sqlx::query(&sql).execute(&mut **tx).await.map_err(StoreError::db("stop the projections"))?;
    Ok(())
}

/// What a decision about a customer needs to know. Holds are asked about under the lock of the log's head, so of a hold and
/// an erasure that race the one that is committed first counts.
pub(super) async fn customer_context(
    work: &mut Work<'_, '_>,
    id: CustomerId,
    customer: &Customer,
    command: &CustomerCommand,
    unit: &Unit,
    (now, live_bookings): (DateTime<Utc>, u32),
) -> Result<CustomerContext, StoreError> {
    let reason = unit.metadata.reason.clone();
    let (mut works_here, mut held, mut subjects) = (false, false, Vec::new());
    match command {
        CustomerCommand::Register { .. } | CustomerCommand::Update { .. } | CustomerCommand::Archive => {}
        CustomerCommand::RequestErasure => works_here = self::works_here(work, id).await?,
        CustomerCommand::CompleteErasure => {
            held = is_held(work, id).await?;
            works_here = self::works_here(work, id).await?;
            if !held && !works_here && customer.erasure.is_some() && !customer.is_erased() {
                match Reach::find(work, id).await? {
                    Some(reach) => {
                        subjects = reach.subjects();
                        work.erasure = Some(reach);
                    }
                    None => held = true,
                }
            }
        }
    }
    Ok(CustomerContext { now, id, live_bookings, reason, works_here, held, subjects })
}

/// Where the customer stands that a hold names.
pub(super) async fn kept(work: &mut Work<'_, '_>, customer: Option<CustomerId>) -> Result<Kept, StoreError> {
    let Some(customer) = customer else { return Ok(Kept::Everybody) };
    Ok(match work.state::<Customer>(customer.0).await? {
        None => Kept::Unknown,
        Some(customer) if customer.is_erased() => Kept::Erased,
        Some(_) => Kept::Known,
    })
}

/// Whether a legal hold stands against the erasure of a customer: of the read model, and of this batch.
async fn is_held(work: &mut Work<'_, '_>, customer: CustomerId) -> Result<bool, StoreError> {
    if work
        .touched_states()
        .any(|(_, _, after)| LegalHold::of(after).is_some_and(|hold| hold.covers(customer)))
    {
        return Ok(true);
    }
    let sql = work.schema.sql(
        "SELECT EXISTS (SELECT FROM {s}.legal_holds
                        WHERE released_at IS NULL AND (customer_id IS NULL OR customer_id = $1))",
    );
    sqlx::query_scalar(&sql)
        .bind(customer.0)
        .fetch_one(&mut **work.tx)
        .await
        .map_err(StoreError::db("look for legal holds"))
}

/// Whether an account that names the customer is one of those who work for the house.
async fn works_here(work: &mut Work<'_, '_>, customer: CustomerId) -> Result<bool, StoreError> {
    let sql = work.schema.sql(
        "SELECT EXISTS (SELECT FROM {s}.users WHERE customer_id = $1 AND status <> 'deleted' AND tier <> $2)",
    );
    sqlx::query_scalar(&sql)
        .bind(customer.0)
        .bind(Tier::Customer.as_str())
        .fetch_one(&mut **work.tx)
        .await
        .map_err(StoreError::db("look for a customer's accounts"))
}

impl Reach {
    /// `None` where a legal hold keeps another customer who has one of their addresses: that may be the same person, and whose
    /// leads and letters these are nobody can tell.
    async fn find(work: &mut Work<'_, '_>, customer: CustomerId) -> Result<Option<Self>, StoreError> {
        let sql = work.schema.sql("SELECT id FROM {s}.users WHERE customer_id = $1 AND status <> 'deleted'");
        let accounts: Vec<Uuid> = sqlx::query_scalar(&sql)
            .bind(customer.0)
            .fetch_all(&mut **work.tx)
            .await
            .map_err(StoreError::db("look for a customer's accounts"))?;
        // A leaf is canonical, and quotes in its texts are escaped: these bytes are a member of the payload.
        let member = format!(r#""customer_id":"{customer}""#);
        let sql = work.schema.sql(
            "SELECT DISTINCT aggregate_id FROM {s}.events
             WHERE event_type = ANY($1) AND position($2::bytea IN leaf) > 0",
        );
        let mut users: BTreeSet<Uuid> = sqlx::query_scalar::<_, Uuid>(&sql)
            .bind(NAMING)
            .bind(member.as_bytes())
            .fetch_all(&mut **work.tx)
            .await
            .map_err(StoreError::db("look for accounts that were a customer's"))?
            .into_iter()
            .collect();
        users.extend(&accounts);

        let mut addresses = BTreeSet::new();
        let of_customer = StreamRef { aggregate_type: AggregateType::Customer, id: customer.0 };
        let of_users = users.iter().map(|id| StreamRef { aggregate_type: AggregateType::User, id: *id });
        let mut reader = Reader::disclosing(&work.schema, work.store.keys());
        for stream in std::iter::once(of_customer).chain(of_users) {
            for mut event in reader.stream(work.tx, stream, Until::End).await? {
                // Those from before a cut are in what was carried over it.
                event.event.visit_personal(&mut |field, _, slot| match (field, slot.value()) {
                    ("email", Some(value)) => addresses.extend(value.as_str().map(str::to_owned)),
                    (FORMER, Some(value)) => {
                        addresses.extend(serde_json::from_value::<Vec<String>>(value).unwrap_or_default());
                    }
                    _ => {}
                });
            }
        }
        let Some(addresses) = Self::of_nobody_else(work, customer, addresses.into_iter().collect()).await?
        else {
            return Ok(None);
        };
        let sql = work.schema.sql(
            "SELECT id FROM {s}.leads WHERE lower(email) = ANY(SELECT lower(a) FROM unnest($1::text[]) AS t (a)) ORDER BY id",
        );
        let leads: Vec<Uuid> = sqlx::query_scalar(&sql)
            .bind(&addresses)
            .fetch_all(&mut **work.tx)
            .await
            .map_err(StoreError::db("look for a customer's leads"))?;
        Ok(Some(Self {
            customer,
            users: users.into_iter().map(UserId).collect(),
            accounts: accounts.into_iter().map(UserId).collect(),
            leads: leads.into_iter().map(LeadId).collect(),
            addresses,
        }))
    }

    /// Those of a customer's addresses that no other customer has; `None` where a legal hold keeps one who has. A record can be
    /// given any address: what is known by the address alone may be another's, and goes with the last who has it.
    async fn of_nobody_else(
        work: &mut Work<'_, '_>,
        customer: CustomerId,
        addresses: Vec<String>,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let sql = work.schema.sql(
            "SELECT a.address, o.id IS NOT NULL,
                    EXISTS (SELECT FROM {s}.legal_holds h WHERE h.customer_id = o.id AND h.released_at IS NULL)
             FROM unnest($2::text[]) AS a (address)
             LEFT JOIN LATERAL (
                 SELECT c.id FROM {s}.customers c
                 WHERE lower(c.email) = lower(a.address) AND c.id <> $1 AND c.erased_at IS NULL
                 UNION
                 SELECT u.customer_id FROM {s}.users u
                 WHERE u.email_key = lower(a.address) AND u.customer_id <> $1 AND u.status <> 'deleted'
             ) AS o (id) ON true",
        );
        let found: Vec<(String, bool, bool)> = sqlx::query_as(&sql)
            .bind(customer.0)
            .bind(&addresses)
            .fetch_all(&mut **work.tx)
            .await
            .map_err(StoreError::db("look for others who have a customer's addresses"))?;
        if found.iter().any(|(_, _, held)| *held) {
            return Ok(None);
        }
        Ok(Some(found.into_iter().filter(|(_, others, _)| !others).map(|(address, _, _)| address).collect()))
    }

    /// Whose keys are destroyed besides the customer's own.
    fn subjects(&self) -> Vec<SubjectId> {
        let users = self.users.iter().map(|user| SubjectId::from(*user));
        users.chain(self.leads.iter().map(|lead| SubjectId::from(*lead))).collect()
    }

    fn users(&self) -> Vec<Uuid> {
        self.users.iter().map(|user| user.0).collect()
    }

    fn leads(&self) -> Vec<Uuid> {
        self.leads.iter().map(|lead| lead.0).collect()
    }

    /// Destroys what the events at these positions say is destroyed, and every copy of it.
    pub(super) async fn purge(
        &self,
        tx: &mut TenantTx<'_>,
        sealer: &dyn Sealer,
        positions: &[i64],
    ) -> Result<(), StoreError> {
        let schema = tx.schema().clone();
        let purged = StoreError::db("forget a person");
        self.statements(tx, &schema, sealer, positions).await.map_err(purged)?;
        for user in &self.users {
            Attached::ForgetUser(*user).write(tx).await?;
        }
        Ok(())
    }

    async fn statements(
        &self,
        tx: &mut TenantTx<'_>,
        schema: &Schema,
        sealer: &dyn Sealer,
        positions: &[i64],
    ) -> Result<(), sqlx::Error> {
        let (customer, users, leads) = (self.customer.0, self.users(), self.leads());
        let erase = schema.sql("SELECT {s}.erase_subjects($1)");
        for position in positions {
            sqlx::query(&erase).bind(position).execute(&mut **tx).await?;
        }

        let bookings: Vec<Uuid> =
            sqlx::query_scalar(&schema.sql("SELECT id FROM {s}.bookings WHERE customer_id = $1"))
                .bind(customer)
                .fetch_all(&mut **tx)
                .await?;
        let sql = "UPDATE {s}.bookings SET notes = NULL WHERE customer_id = $1 AND notes IS NOT NULL";
        sqlx::query(&schema.sql(sql)).bind(customer).execute(&mut **tx).await?;
        booking_history::forget(tx, &bookings).await?;
        let sql =
            "UPDATE {s}.leads SET name = NULL, email = NULL, phone = NULL, message = NULL WHERE id = ANY($1)";
        sqlx::query(&schema.sql(sql)).bind(&leads).execute(&mut **tx).await?;

        let everything: Vec<Uuid> =
            [vec![customer], users.clone(), leads, bookings].into_iter().flatten().collect();
        let sql = "DELETE FROM {s}.snapshots WHERE aggregate_id = ANY($1)";
        sqlx::query(&schema.sql(sql)).bind(&everything).execute(&mut **tx).await?;
        outbox::forget(tx, schema, &users, sealer, &self.addresses).await?;
        // What was answered about them, but for the request that this is the end of: it may be repeated. Keys are clients'
        // own words.
        let sql = "DELETE FROM {s}.idempotency i
             WHERE i.last_position < (SELECT max(e.position) FROM {s}.events e
                                      WHERE e.aggregate_id = $1 AND e.event_type = 'customer.erasure_requested')
               AND EXISTS (SELECT FROM jsonb_array_elements(i.response -> 'committed') AS of (change)
                           WHERE (change ->> 'id')::uuid = ANY($2))";
        sqlx::query(&schema.sql(sql)).bind(customer).bind(&everything).execute(&mut **tx).await?;
        Ok(())
    }
}

impl Work<'_, '_> {
    /// Ends the accounts of a customer in the very unit that erases them.
    pub(super) async fn end_accounts(&mut self, metadata: &Metadata) -> Result<(), StoreError> {
        let accounts = self.erasure.as_ref().map(|reach| reach.accounts.clone()).unwrap_or_default();
        for user in accounts {
            let before = self.entry(user.0, AggregateType::User).await?;
            let delete = Command::to(user, UserCommand::Delete { by: By::Operator });
            let unit = Unit::of(delete, metadata.clone());
            let decided = super::decide::decide(self, &before.state, &unit.commands[0], &unit).await?;
            self.record(user.0, before, decided, &unit.metadata, None).await?;
        }
        Ok(())
    }
}

/// Whether an aggregate is a customer whose data is gone.
pub(super) fn is_erased(state: &AnyState) -> bool {
    Customer::of(state).is_some_and(|customer| customer.is_erased())
}
