//! What happens in the sample tenant, step by step: each a command that its people gave at some time.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeZone as _, Utc};
use daybook_domain::{TenantId, UserId, envelope::Metadata, permission::Tier};
use uuid::Uuid;

use super::content::ZONE;
use crate::eventstore::{Command, Unit};

/// One of its people.
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    pub id: UserId,
    pub tier: Tier,
}

/// One unit.
#[derive(Debug)]
pub struct Step {
    pub unit: Unit,
    /// A worker of any node may have come first, which is as well.
    pub may_have_happened: bool,
}

/// The steps so far, each with its time.
pub struct Script {
    tenant: TenantId,
    /// By the database's clock; nothing happens later.
    pub now: DateTime<Utc>,
    day: NaiveDate,
    steps: Vec<(DateTime<Utc>, Step)>,
}

impl Script {
    pub fn new(tenant: TenantId, now: DateTime<Utc>, day: NaiveDate) -> Self {
        Self { tenant, now, day, steps: Vec::new() }
    }

    /// The date so many days from today.
    pub fn date(&self, offset: i64) -> NaiveDate {
        let days = Days::new(offset.unsigned_abs());
        let moved =
            if offset < 0 { self.day.checked_sub_days(days) } else { self.day.checked_add_days(days) };
        moved.unwrap_or(self.day)
    }

    /// When it is so many minutes past midnight, local, on the date so many days from today.
    pub fn at(&self, offset: i64, minutes: i64) -> DateTime<Utc> {
        let local = self.date(offset).and_time(NaiveTime::MIN) + chrono::TimeDelta::minutes(minutes);
        ZONE.from_local_datetime(&local).earliest().map_or(self.now, |at| at.to_utc())
    }

    /// The id of something that was made then: the same for the same tenant and name.
    pub fn id(&self, name: &str, made: DateTime<Utc>) -> Uuid {
        let hash = Uuid::new_v5(&self.tenant.0, name.as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hash.as_bytes()[..10]);
        let millis = u64::try_from(made.timestamp_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// Somebody does something, then or just now.
    pub fn step(&mut self, at: DateTime<Utc>, by: Actor, command: Command) {
        self.push(at, Some(by), command, None, false);
    }

    /// Somebody does something and says why.
    pub fn step_because(&mut self, at: DateTime<Utc>, by: Actor, command: Command, why: &str) {
        self.push(at, Some(by), command, Some(why), false);
    }

    /// What workers do by themselves as well.
    pub fn step_of_the_system(&mut self, at: DateTime<Utc>, command: Command) {
        self.push(at, None, command, None, true);
    }

    fn push(
        &mut self,
        at: DateTime<Utc>,
        by: Option<Actor>,
        command: Command,
        why: Option<&str>,
        may_have_happened: bool,
    ) {
        let at = at.min(self.now);
        let metadata = Metadata {
            actor: by.map_or_else(|| "system:sample".to_owned(), |by| format!("user:{}", by.id)),
            role: by.map(|by| by.tier.as_str().to_owned()),
            reason: why.map(str::to_owned),
            source: Some("sample".to_owned()),
            ..Metadata::default()
        };
        let unit = Unit { occurred_at: Some(at), ..Unit::of(command, metadata) };
        self.steps.push((at, Step { unit, may_have_happened }));
    }

    /// The steps by time; of the same time, as they were told.
    pub fn finish(mut self) -> Vec<Step> {
        self.steps.sort_by_key(|(at, _)| *at);
        self.steps.into_iter().map(|(_, step)| step).collect()
    }
}
