//! The units of commands an import asks for. Pure.

use chrono::{DateTime, Duration, NaiveDate, Utc};
use chrono_tz::Tz;
use daybook_domain::{
    Currency, DomainError, Money, Name, Nights,
    booking::{BookingCommand, RequestedTime},
    customer::CustomerCommand,
    envelope::Metadata,
    local_time::start_of_day,
    offering::{
        CancellationPolicy, DEFAULT_HOLD_MINUTES, OfferingCommand, OfferingMode, OfferingTerms, PolicyTier,
        PricePer,
    },
    resource::{ResourceCommand, ResourceKind},
};

use super::{
    hotel_demand::{GuestKey, History, PoolKey, Row},
    identity::{ImportId, key_of},
    plan::{Planned, Step},
};
use crate::eventstore::{Command, Unit};

/// Where both hotels stand.
pub const ZONE: Tz = chrono_tz::Europe::Lisbon;

/// Whenever it is cancelled, the whole price is kept.
const KEEPS_DEPOSIT: PolicyTier = PolicyTier { hours_before: 87_600, fee_percent: 100 };

/// A unit that makes something before the first booking, with its name for people.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What it makes.
    pub what: String,
    /// The unit.
    pub unit: Unit,
}

/// Makes the units of one import.
pub struct Commands<'a> {
    import: &'a ImportId,
    history: &'a History,
    metadata: Metadata,
}

impl<'a> Commands<'a> {
    /// For an import of a history.
    pub fn new(import: &'a ImportId, history: &'a History) -> Self {
        let metadata = Metadata {
            actor: "cli:import".to_owned(),
            source: Some("import".to_owned()),
            correlation_id: Some(import.id().to_string()),
            ..Metadata::default()
        };
        Self { import, history, metadata }
    }

    /// The pools with their offerings, then the customers: all there when the first booking is made, on the day
    /// `first`.
    ///
    /// # Errors
    /// When a name of the file is none the domain accepts.
    pub fn setup(&self, capacities: &[u32], first: NaiveDate) -> Result<Vec<Setup>, DomainError> {
        let mut all = Vec::with_capacity(self.history.pools.len() + self.history.guests.len());
        for (index, pool) in self.history.pools.iter().enumerate() {
            let capacity = capacities.get(index).copied().unwrap_or(1);
            let keeps_deposits = self
                .history
                .rows
                .iter()
                .any(|row| row.pool == index && row.non_refundable && row.invalid().is_none());
            let mut commands = vec![self.resource(pool, capacity)?, self.offering(pool, false)?];
            if keeps_deposits {
                commands.push(self.offering(pool, true)?);
            }
            all.push(self.made(pool.name(), format!("pool:{index}"), commands, first));
        }
        for (index, guest) in self.history.guests.iter().enumerate() {
            let commands = vec![self.customer(guest)?];
            all.push(self.made(guest.name(), format!("guest:{index}"), commands, first));
        }
        Ok(all)
    }

    /// The unit of one step. `again` tells that it is asked a second time, under a key of its own.
    ///
    /// # Errors
    /// When the row's nights are none the domain accepts.
    pub fn step(&self, planned: Planned, again: bool) -> Result<Unit, DomainError> {
        let row = &self.history.rows[planned.row];
        let id = self.import.booking(row);
        let command = match planned.step {
            Step::Book => Command::create(id, self.book(row)?),
            Step::CheckIn => Command::to(id, BookingCommand::CheckIn { unit: None }),
            Step::CheckOut => Command::to(id, BookingCommand::CheckOut),
            Step::Cancel => Command::to(id, BookingCommand::Cancel { waive_fee: false }),
            Step::NoShow => Command::to(id, BookingCommand::NoShow),
        };
        let occurred_at = at(planned.day, planned.ordinal);
        Ok(self.unit(step_key(row.line, planned.step, again), vec![command], occurred_at))
    }

    fn resource(&self, pool: &PoolKey, capacity: u32) -> Result<Command, DomainError> {
        let create = ResourceCommand::Create {
            name: Name::new(&pool.name(), "/name")?,
            kind: ResourceKind::Pool,
            capacity: Some(capacity),
            time_zone: ZONE,
        };
        // Not as a fresh id: an import that was begun before, and whose keys have expired, is to be found out.
        Ok(Command::to(self.import.resource(pool), create))
    }

    fn offering(&self, pool: &PoolKey, non_refundable: bool) -> Result<Command, DomainError> {
        let name = if non_refundable { format!("{} · non-refundable", pool.name()) } else { pool.name() };
        let tiers = if non_refundable { vec![KEEPS_DEPOSIT] } else { Vec::new() };
        let terms = OfferingTerms {
            name: Name::new(&name, "/name")?,
            mode: OfferingMode::Nights,
            resource_ids: vec![self.import.resource(pool)],
            // Every row brings the price that was agreed.
            price: Money::zero(Currency::EUR),
            price_per: PricePer::Night,
            cancellation_policy: CancellationPolicy { tiers },
            hold_minutes: DEFAULT_HOLD_MINUTES,
            ..OfferingTerms::default()
        };
        let create = OfferingCommand::Create { terms: Box::new(terms) };
        Ok(Command::to(self.import.offering(pool, non_refundable), create))
    }

    fn customer(&self, guest: &GuestKey) -> Result<Command, DomainError> {
        let register =
            CustomerCommand::Register { name: Name::new(&guest.name(), "/name")?, email: None, phone: None };
        Ok(Command::to(self.import.customer(guest), register))
    }

    fn book(&self, row: &Row) -> Result<BookingCommand, DomainError> {
        let pool = &self.history.pools[row.pool];
        Ok(BookingCommand::Book {
            offering_id: self.import.offering(pool, row.non_refundable),
            resource_id: Some(self.import.resource(pool)),
            unit: None,
            customer_id: self.import.customer(&self.history.guests[row.guest]),
            when: RequestedTime::Nights(Nights::new(row.arrival, row.departure())?),
            guests: row.persons,
            hold: false,
            notes: None,
            price_override: Some(Money { amount: row.booked_cents(), currency: Currency::EUR }),
        })
    }

    fn made(&self, what: String, key: String, commands: Vec<Command>, first: NaiveDate) -> Setup {
        Setup { what, unit: self.unit(key, commands, at(first, 0)) }
    }

    fn unit(&self, key: String, commands: Vec<Command>, occurred_at: DateTime<Utc>) -> Unit {
        Unit {
            commands,
            metadata: self.metadata.clone(),
            occurred_at: Some(occurred_at),
            idempotency: Some(self.import.key(key)),
            attached: Vec::new(),
            within: None,
        }
    }
}

/// The idempotency key of a step, asked for the first time or again.
pub fn step_key(line: u64, step: Step, again: bool) -> String {
    let key = key_of(line, step);
    if again { format!("{key}:again") } else { key }
}

/// When the step of that place within the day happened: the start of the day and as many milliseconds.
fn at(day: NaiveDate, ordinal: u32) -> DateTime<Utc> {
    start_of_day(day, ZONE) + Duration::milliseconds(ordinal.into())
}

#[cfg(test)]
mod tests {
    use daybook_domain::registry::AnyCommand;

    use super::*;
    use crate::{
        eventstore::Intent,
        import::{
            PoolSizing,
            hotel_demand::parse,
            plan::plan,
            testing::{file, line},
        },
    };

    fn prepared(text: &str) -> (ImportId, History) {
        (ImportId::new(text.as_bytes(), "t_1", PoolSizing::Live, None), parse(text.as_bytes(), None).unwrap())
    }

    fn asked(command: &Command) -> &AnyCommand {
        match &command.intent {
            Intent::Ask(asked) => asked,
            Intent::Decided(_) | Intent::CarryOver { .. } => panic!("an import asks"),
        }
    }

    #[test]
    fn each_pool_is_a_resource_with_its_offerings() {
        let kept = line().assigned("B").set("deposit_type", "Non Refund");
        let (import, history) = prepared(&file(&[line(), kept]));
        let setup = Commands::new(&import, &history).setup(&[3, 4], history.rows[0].booked_on).unwrap();
        let shape: Vec<_> = setup.iter().map(|made| (made.what.as_str(), made.unit.commands.len())).collect();
        assert_eq!(
            shape,
            [("City Hotel · A", 2), ("City Hotel · B", 3), ("Guest PRT, Transient, City Hotel", 1)]
        );
        let AnyCommand::Resource(ResourceCommand::Create { capacity, time_zone, .. }) =
            asked(&setup[1].unit.commands[0])
        else {
            panic!("a resource first")
        };
        assert_eq!((*capacity, *time_zone), (Some(4), chrono_tz::Europe::Lisbon));
        let AnyCommand::Offering(OfferingCommand::Create { terms }) = asked(&setup[1].unit.commands[2])
        else {
            panic!("then its offerings")
        };
        let far_ahead = at(history.rows[0].booked_on, 0) - Duration::days(700);
        assert_eq!(terms.cancellation_policy.fee_percent_at(far_ahead, at(history.rows[0].arrival, 0)), 100);
    }

    #[test]
    fn steps_carry_their_own_time_and_say_where_they_come_from() {
        let (import, history) = prepared(&file(&[line().arriving(1, 200)]));
        let steps = plan(&history.rows);
        let commands = Commands::new(&import, &history);
        let book = commands.step(steps[0], false).unwrap();
        // 15 June 2015 in Lisbon is an hour ahead of UTC.
        assert_eq!(book.occurred_at.unwrap().to_rfc3339(), "2015-06-14T23:00:00.001+00:00");
        assert_eq!(book.metadata.actor, "cli:import");
        assert_eq!(book.metadata.source.as_deref(), Some("import"));
        assert_eq!(book.metadata.correlation_id, Some(import.id().to_string()));
        let AnyCommand::Booking(BookingCommand::Book { price_override, guests, when, .. }) =
            asked(&book.commands[0])
        else {
            panic!("a booking")
        };
        assert_eq!((price_override.unwrap().amount, *guests), (30_150, 2));
        let nights = Nights::new(history.rows[0].arrival, history.rows[0].departure()).unwrap();
        assert_eq!(*when, RequestedTime::Nights(nights));
        assert_eq!(commands.step(steps[1], false).unwrap().commands[0].id, book.commands[0].id);
    }

    #[test]
    fn a_step_asked_again_has_a_key_of_its_own() {
        let (import, history) = prepared(&file(&[line()]));
        let step = plan(&history.rows)[1];
        let key = |again| Commands::new(&import, &history).step(step, again).unwrap().idempotency.unwrap();
        assert_eq!((key(false).key.as_str(), key(true).key.as_str()), ("2:check-in", "2:check-in:again"));
        assert_eq!(key(false).scope, key(true).scope);
        assert_ne!(key(false).request_hash, key(true).request_hash);
    }
}
