//! Offerings: what can be booked on which resources, and on what terms.

pub mod archive;
pub mod create;
pub mod get;
pub mod list;
pub mod update;

use chrono::{DateTime, Utc};
use daybook_domain::{
    OfferingId,
    offering::{CancellationPolicy, Offering, OfferingMode, PolicyTier, PricePer},
    registry::Registered as _,
};
use daybook_projections::offerings::OfferingRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    money::MoneyBody,
    problem::{Problem, Result},
    respond::{subject, wrong_type},
};
use crate::{app::AppState, eventstore::Committed};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list, create::create)).routes(routes!(
        get::get,
        update::update,
        archive::archive
    ))
}

/// How it is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Stays: local dates, `[check_in, check_out)`.
    Nights,
    /// Appointments: instants.
    Slot,
}

impl From<Mode> for OfferingMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Nights => Self::Nights,
            Mode::Slot => Self::Slot,
        }
    }
}

impl From<OfferingMode> for Mode {
    fn from(mode: OfferingMode) -> Self {
        match mode {
            OfferingMode::Nights => Self::Nights,
            OfferingMode::Slot => Self::Slot,
        }
    }
}

/// What the price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Each night.
    Night,
    /// The whole booking.
    Booking,
}

impl From<Per> for PricePer {
    fn from(per: Per) -> Self {
        match per {
            Per::Night => Self::Night,
            Per::Booking => Self::Booking,
        }
    }
}

impl From<PricePer> for Per {
    fn from(per: PricePer) -> Self {
        match per {
            PricePer::Night => Self::Night,
            PricePer::Booking => Self::Booking,
        }
    }
}

/// What cancelling costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBody {
    /// The steps; none means that cancelling is free.
    pub tiers: Vec<TierBody>,
}

/// Cancelling less than so many hours before the start costs this share of the price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TierBody {
    /// Elapsed hours before the start.
    pub hours_before: u32,
    /// 0 to 100.
    pub fee_percent: u8,
}

impl From<PolicyBody> for CancellationPolicy {
    fn from(policy: PolicyBody) -> Self {
        let tier =
            |tier: TierBody| PolicyTier { hours_before: tier.hours_before, fee_percent: tier.fee_percent };
        Self { tiers: policy.tiers.into_iter().map(tier).collect() }
    }
}

impl From<&CancellationPolicy> for PolicyBody {
    fn from(policy: &CancellationPolicy) -> Self {
        let tier =
            |tier: &PolicyTier| TierBody { hours_before: tier.hours_before, fee_percent: tier.fee_percent };
        Self { tiers: policy.tiers.iter().map(tier).collect() }
    }
}

/// An offering.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Offering)]
pub struct OfferingBody {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// By nights or by slots.
    pub mode: Mode,
    /// The resources it is bookable on, in the order they are tried.
    pub resource_ids: Vec<Uuid>,
    /// Length of a slot; null where the booking says when it ends.
    pub duration_minutes: Option<u32>,
    /// Kept free before the guest's interval.
    pub buffer_before_minutes: u32,
    /// Kept free after it.
    pub buffer_after_minutes: u32,
    /// How long before its start it must be booked.
    pub min_notice_minutes: u32,
    /// How long before its start it can be booked.
    pub max_advance_days: Option<u32>,
    /// The price.
    pub price: MoneyBody,
    /// What the price is for.
    pub price_per: Per,
    /// Whether staff confirm each booking.
    pub requires_approval: bool,
    /// What cancelling costs.
    pub cancellation_policy: PolicyBody,
    /// How long a hold lasts.
    pub hold_minutes: u32,
    /// Whether it takes no more bookings.
    pub archived: bool,
    /// Its version, as in `ETag`.
    pub version: i64,
    /// When it was created; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// When it last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<DateTime<Utc>>,
}

impl OfferingBody {
    fn new(id: Uuid, offering: &Offering, version: i64) -> Self {
        Self {
            id,
            name: offering.name.as_str().to_owned(),
            mode: offering.mode.into(),
            resource_ids: offering.resource_ids.iter().map(|id| id.0).collect(),
            duration_minutes: offering.duration_minutes,
            buffer_before_minutes: offering.buffer_before_minutes,
            buffer_after_minutes: offering.buffer_after_minutes,
            min_notice_minutes: offering.min_notice_minutes,
            max_advance_days: offering.max_advance_days,
            price: offering.price.into(),
            price_per: offering.price_per.into(),
            requires_approval: offering.requires_approval,
            cancellation_policy: (&offering.cancellation_policy).into(),
            hold_minutes: offering.hold_minutes,
            archived: offering.archived,
            version,
            created_at: None,
            updated_at: None,
        }
    }

    /// The offering as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let offering = Offering::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self::new(changed.id, offering, changed.sequence))
    }

    /// The offering of a row.
    ///
    /// # Errors
    /// When the row is of another shape.
    pub fn from_row(row: OfferingRow) -> Result<Self> {
        let terms = row.terms().map_err(Problem::internal)?;
        let offering = Offering { id: Some(OfferingId(row.id)), archived: row.archived, terms };
        let mut body = Self::new(row.id, &offering, row.version);
        body.created_at = Some(row.created_at);
        body.updated_at = Some(row.updated_at);
        Ok(body)
    }
}
