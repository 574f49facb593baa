//! An offering: what is bookable on which resources, how, when and for how much.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, DomainError, Event, FieldError, Money, OfferingId, ResourceId, carried::CarriedOver,
    impl_cqrs_aggregate, text::Name,
};

/// Whether it is booked by nights or by timed slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferingMode {
    /// Stays: local dates, `[check_in, check_out)`.
    #[default]
    Nights,
    /// Appointments: instants.
    Slot,
}

impl OfferingMode {
    /// The name in events and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nights => "nights",
            Self::Slot => "slot",
        }
    }
}

/// What the price is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PricePer {
    /// Each night.
    Night,
    /// The whole booking.
    #[default]
    Booking,
}

/// One step of a cancellation policy: cancelling less than `hours_before` hours before the start costs
/// `fee_percent` of the price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTier {
    /// Elapsed hours before the start.
    pub hours_before: u32,
    /// The share of the price, 0 to 100.
    pub fee_percent: u8,
}

/// What cancelling costs. A booking keeps the policy it was made under.
///
/// With tiers `[{72, 50}, {24, 100}]`: 100 hours before the start nothing, 48 hours before 50 %, 10 hours before
/// (and at any time after the start) 100 %.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancellationPolicy {
    /// The steps, by falling `hours_before`.
    pub tiers: Vec<PolicyTier>,
}

impl CancellationPolicy {
    /// The fee for cancelling at `at` what starts at `start`: that of the tier with the fewest hours which are
    /// still more than the hours left, in elapsed time.
    pub fn fee_percent_at(&self, at: DateTime<Utc>, start: DateTime<Utc>) -> u8 {
        let left = (start - at).num_milliseconds();
        self.tiers
            .iter()
            .filter(|tier| left < i64::from(tier.hours_before) * 3_600_000)
            .min_by_key(|tier| tier.hours_before)
            .map_or(0, |tier| tier.fee_percent)
    }
}

/// Everything an offering says, as its events carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferingTerms {
    /// Its name.
    pub name: Name,
    /// By nights or by slots.
    pub mode: OfferingMode,
    /// The resources it is bookable on, in the order they are tried.
    pub resource_ids: Vec<ResourceId>,
    /// Length of a slot; without it the booking gives its end.
    pub duration_minutes: Option<u32>,
    /// Added to the resource's occupancy before the guest's interval.
    pub buffer_before_minutes: u32,
    /// Added after it.
    pub buffer_after_minutes: u32,
    /// Elapsed time that must lie between booking and start.
    pub min_notice_minutes: u32,
    /// Elapsed days that may lie between booking and start.
    pub max_advance_days: Option<u32>,
    /// The price.
    pub price: Money,
    /// What the price is for.
    pub price_per: PricePer,
    /// Whether staff confirm each booking.
    pub requires_approval: bool,
    /// What cancelling costs.
    pub cancellation_policy: CancellationPolicy,
    /// How long a hold lasts.
    pub hold_minutes: u32,
}

/// How long a hold lasts when the offering does not say.
pub const DEFAULT_HOLD_MINUTES: u32 = 15;

/// The state of an offering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offering {
    /// Its id, once it was created.
    pub id: Option<OfferingId>,
    /// Archived offerings take no new bookings.
    pub archived: bool,
    /// What it says.
    #[serde(flatten)]
    pub terms: OfferingTerms,
}

impl std::ops::Deref for Offering {
    type Target = OfferingTerms;

    fn deref(&self) -> &OfferingTerms {
        &self.terms
    }
}

/// Changes to an offering; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct OfferingChange {
    /// A new name.
    pub name: Option<Name>,
    /// Other resources.
    pub resource_ids: Option<Vec<ResourceId>>,
    /// Another length of a slot, or none.
    pub duration_minutes: Option<Option<u32>>,
    /// Another buffer before.
    pub buffer_before_minutes: Option<u32>,
    /// Another buffer after.
    pub buffer_after_minutes: Option<u32>,
    /// Another notice.
    pub min_notice_minutes: Option<u32>,
    /// Another window, or none.
    pub max_advance_days: Option<Option<u32>>,
    /// Another price.
    pub price: Option<Money>,
    /// What the price is for.
    pub price_per: Option<PricePer>,
    /// Whether staff confirm.
    pub requires_approval: Option<bool>,
    /// Another policy, for bookings made from now on.
    pub cancellation_policy: Option<CancellationPolicy>,
    /// Another length of holds.
    pub hold_minutes: Option<u32>,
}

/// What can be asked of an offering.
#[derive(Clone, Debug)]
pub enum OfferingCommand {
    /// Create it.
    Create {
        /// What it says.
        terms: Box<OfferingTerms>,
    },
    /// Change what is given.
    Update(Box<OfferingChange>),
    /// Take no new bookings.
    Archive,
}

/// What can have happened to an offering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum OfferingEvent {
    /// It was created.
    #[serde(rename = "offering.created")]
    Created {
        /// Its id.
        offering_id: OfferingId,
        /// What it says.
        terms: Box<OfferingTerms>,
    },
    /// It says something else now.
    #[serde(rename = "offering.updated")]
    Updated {
        /// All that it says now.
        terms: Box<OfferingTerms>,
    },
    /// It takes no new bookings.
    #[serde(rename = "offering.archived")]
    Archived,
    /// Its state, when what was before was pruned.
    #[serde(rename = "offering.carried_over")]
    CarriedOver(Box<CarriedOver<Offering>>),
}

impl Event for OfferingEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("offering.created", 1),
        ("offering.updated", 1),
        ("offering.archived", 1),
        ("offering.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "offering.created",
            Self::Updated { .. } => "offering.updated",
            Self::Archived => "offering.archived",
            Self::CarriedOver(_) => "offering.carried_over",
        }
    }
}

/// What a decision about an offering needs to know.
#[derive(Clone, Debug)]
pub struct OfferingContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The offering's id.
    pub id: OfferingId,
    /// The resources named that exist, and whether each takes bookings.
    pub resources: Vec<(ResourceId, bool)>,
}

impl Decider for Offering {
    const TYPE: &'static str = "offering";
    type Command = OfferingCommand;
    type Event = OfferingEvent;
    type Context = OfferingContext;

    fn decide(
        &self,
        command: &OfferingCommand,
        context: &OfferingContext,
    ) -> Result<Vec<OfferingEvent>, DomainError> {
        match command {
            OfferingCommand::Create { .. } if self.id.is_some() => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            OfferingCommand::Create { terms } => {
                validate(terms, Some(&context.resources))?;
                Ok(vec![OfferingEvent::Created { offering_id: context.id, terms: terms.clone() }])
            }
            OfferingCommand::Update(_) | OfferingCommand::Archive if self.id.is_none() => {
                Err(DomainError::not_found(Self::TYPE))
            }
            OfferingCommand::Update(_) | OfferingCommand::Archive if self.archived => {
                Err(DomainError::wrong_state("archived", "the offering is archived"))
            }
            OfferingCommand::Update(change) => {
                let terms = self.terms.changed_by(change);
                if terms == self.terms {
                    return Ok(Vec::new());
                }
                // Resources that it already had may have been archived since; that is no reason to refuse.
                validate(&terms, change.resource_ids.is_some().then_some(&context.resources))?;
                Ok(vec![OfferingEvent::Updated { terms: Box::new(terms) }])
            }
            OfferingCommand::Archive => Ok(vec![OfferingEvent::Archived]),
        }
    }

    fn apply(&mut self, event: &OfferingEvent) {
        match event {
            OfferingEvent::Created { offering_id, terms } => {
                *self = Self { id: Some(*offering_id), archived: false, terms: terms.as_ref().clone() };
            }
            OfferingEvent::Updated { terms } => self.terms = terms.as_ref().clone(),
            OfferingEvent::Archived => self.archived = true,
            OfferingEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl OfferingTerms {
    fn changed_by(&self, change: &OfferingChange) -> Self {
        let change = change.clone();
        Self {
            name: change.name.unwrap_or_else(|| self.name.clone()),
            mode: self.mode,
            resource_ids: change.resource_ids.unwrap_or_else(|| self.resource_ids.clone()),
            duration_minutes: change.duration_minutes.unwrap_or(self.duration_minutes),
            buffer_before_minutes: change.buffer_before_minutes.unwrap_or(self.buffer_before_minutes),
            buffer_after_minutes: change.buffer_after_minutes.unwrap_or(self.buffer_after_minutes),
            min_notice_minutes: change.min_notice_minutes.unwrap_or(self.min_notice_minutes),
            max_advance_days: change.max_advance_days.unwrap_or(self.max_advance_days),
            price: change.price.unwrap_or(self.price),
            price_per: change.price_per.unwrap_or(self.price_per),
            requires_approval: change.requires_approval.unwrap_or(self.requires_approval),
            cancellation_policy: change
                .cancellation_policy
                .unwrap_or_else(|| self.cancellation_policy.clone()),
            hold_minutes: change.hold_minutes.unwrap_or(self.hold_minutes),
        }
    }
}

/// Checks terms as a whole and reports every field that fails.
fn validate(terms: &OfferingTerms, resources: Option<&Vec<(ResourceId, bool)>>) -> Result<(), DomainError> {
    let mut errors = Vec::new();
    let mut require = |ok: bool, pointer: &str, code: &str, detail: &str| {
        if !ok {
            errors.push(FieldError { pointer: pointer.into(), code: code.into(), detail: detail.into() });
        }
    };
    let ids = &terms.resource_ids;
    require(
        (1..=200).contains(&ids.len()),
        "/resource_ids",
        "invalid_resources",
        "an offering has 1 to 200 resources",
    );
    for (index, id) in ids.iter().enumerate() {
        let pointer = format!("/resource_ids/{index}");
        require(!ids[..index].contains(id), &pointer, "duplicate_resource", "the resource is named twice");
        let bookable = resources.is_none_or(|known| known.contains(&(*id, true)));
        require(bookable, &pointer, "unknown_resource", "no such resource, or it is archived");
    }
    match terms.mode {
        OfferingMode::Nights => {
            require(
                terms.duration_minutes.is_none(),
                "/duration_minutes",
                "not_for_nights",
                "stays have no duration in minutes",
            );
        }
        OfferingMode::Slot => {
            let fits = terms.duration_minutes.is_none_or(|minutes| (1..=1440).contains(&minutes));
            require(fits, "/duration_minutes", "invalid_duration", "a slot lasts 1 to 1,440 minutes");
            let per_booking = terms.price_per == PricePer::Booking;
            require(per_booking, "/price_per", "not_for_slots", "a slot is priced per booking");
        }
    }
    require(terms.price.amount >= 0, "/price/amount", "negative_price", "a price is not negative");
    require(
        terms.buffer_before_minutes <= 10_080,
        "/buffer_before_minutes",
        "too_long",
        "a buffer is at most a week",
    );
    require(
        terms.buffer_after_minutes <= 10_080,
        "/buffer_after_minutes",
        "too_long",
        "a buffer is at most a week",
    );
    require(
        terms.min_notice_minutes <= 525_600,
        "/min_notice_minutes",
        "too_long",
        "notice is at most a year",
    );
    let window = terms.max_advance_days.is_none_or(|days| (1..=1100).contains(&days));
    require(window, "/max_advance_days", "invalid_window", "the advance window is 1 to 1,100 days");
    require(
        (1..=1440).contains(&terms.hold_minutes),
        "/hold_minutes",
        "invalid_hold",
        "a hold lasts 1 to 1,440 minutes",
    );
    let tiers = &terms.cancellation_policy.tiers;
    require(tiers.len() <= 10, "/cancellation_policy/tiers", "too_many", "a policy has at most 10 tiers");
    for (index, tier) in tiers.iter().enumerate() {
        let pointer = format!("/cancellation_policy/tiers/{index}");
        require(tier.fee_percent <= 100, &pointer, "invalid_percent", "a fee is 0 to 100 percent");
        require(tier.hours_before <= 87_600, &pointer, "too_long", "a tier begins at most ten years before");
        let falls = index == 0 || tiers[index - 1].hours_before > tier.hours_before;
        require(falls, &pointer, "not_sorted", "tiers are sorted by falling hours_before, each once");
    }
    if errors.is_empty() { Ok(()) } else { Err(DomainError::Validation { errors }) }
}

impl_cqrs_aggregate!(Offering, OfferingEvent);

#[cfg(test)]
mod tests {
    use chrono::Duration;
    use cqrs_es::test::TestFramework;
    use uuid::Uuid;

    use super::*;
    use crate::Currency;

    const PITCH: ResourceId = ResourceId(Uuid::from_u128(1));

    fn context() -> OfferingContext {
        OfferingContext {
            now: DateTime::UNIX_EPOCH,
            id: OfferingId::default(),
            resources: vec![(PITCH, true)],
        }
    }

    fn terms() -> OfferingTerms {
        OfferingTerms {
            name: Name::new("Pitch by the river", "/name").unwrap(),
            resource_ids: vec![PITCH],
            price: Money { amount: 2_500, currency: Currency::EUR },
            price_per: PricePer::Night,
            hold_minutes: DEFAULT_HOLD_MINUTES,
            ..OfferingTerms::default()
        }
    }

    fn create(terms: OfferingTerms) -> OfferingCommand {
        OfferingCommand::Create { terms: Box::new(terms) }
    }

    fn created() -> OfferingEvent {
        OfferingEvent::Created { offering_id: OfferingId::default(), terms: Box::new(terms()) }
    }

    fn codes(error: DomainError) -> Vec<String> {
        match error {
            DomainError::Validation { errors } => errors.into_iter().map(|e| e.code).collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_offering_is_created_with_its_terms() {
        TestFramework::<Offering>::with(context())
            .given_no_previous_events()
            .when(create(terms()))
            .then_expect_events(vec![created()]);
    }

    #[test]
    fn every_wrong_field_is_reported() {
        let tier = |hours_before, fee_percent| PolicyTier { hours_before, fee_percent };
        let wrong = OfferingTerms {
            resource_ids: vec![PITCH, PITCH, ResourceId(Uuid::from_u128(9))],
            duration_minutes: Some(60),
            price: Money { amount: -1, currency: Currency::EUR },
            cancellation_policy: CancellationPolicy { tiers: vec![tier(24, 101), tier(24, 5)] },
            ..terms()
        };
        let error = Offering::default().decide(&create(wrong), &context()).unwrap_err();
        assert_eq!(
            codes(error),
            [
                "duplicate_resource",
                "unknown_resource",
                "not_for_nights",
                "negative_price",
                "invalid_percent",
                "not_sorted"
            ]
        );
    }

    #[test]
    fn an_update_carries_all_terms_and_only_when_they_differ() {
        let rename = |name: &str| {
            OfferingCommand::Update(Box::new(OfferingChange {
                name: Some(Name::new(name, "/name").unwrap()),
                ..OfferingChange::default()
            }))
        };
        TestFramework::<Offering>::with(context())
            .given(vec![created()])
            .when(rename("Pitch by the river"))
            .then_expect_events(vec![]);
        let renamed = OfferingTerms { name: Name::new("Pitch", "/name").unwrap(), ..terms() };
        TestFramework::<Offering>::with(context())
            .given(vec![created()])
            .when(rename("Pitch"))
            .then_expect_events(vec![OfferingEvent::Updated { terms: Box::new(renamed) }]);
    }

    #[test]
    fn the_fee_is_that_of_the_nearest_tier() {
        let policy = CancellationPolicy {
            tiers: vec![
                PolicyTier { hours_before: 72, fee_percent: 50 },
                PolicyTier { hours_before: 24, fee_percent: 100 },
            ],
        };
        let start = DateTime::UNIX_EPOCH + Duration::days(30);
        let fee = |hours: i64| policy.fee_percent_at(start - Duration::hours(hours), start);
        assert_eq!(
            [fee(100), fee(72), fee(71), fee(24), fee(23), fee(0), fee(-5)],
            [0, 0, 50, 50, 100, 100, 100]
        );
        assert_eq!(CancellationPolicy::default().fee_percent_at(start, start), 0);
    }
}
