//! A legal hold: as long as it stands, nothing it covers is pruned or erased.
//!
//! It covers the events from a position on, and one customer or everybody. Who asks for an erasure under a hold is heard,
//! and waits: the erasure is done when the last hold against it is released.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    CustomerId, Decider, DomainError, Event, HoldId, carried::CarriedOver, impl_cqrs_aggregate, text::Name,
};

/// What is held: as it stands in the event, and for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its id.
    pub hold_id: HoldId,
    /// What it is known as, such as a case's number. It stays in the log: no place for personal data.
    pub name: Name,
    /// Whose data it keeps from being erased; everybody's where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
    /// The first position of the log that it keeps from being pruned; all of the log where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "position_as_string")]
    pub from_position: Option<i64>,
    /// Why, in the words of whoever placed it. In the event's metadata as well; here because it belongs to the hold.
    pub reason: String,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
}

impl Held {
    /// The first position it keeps.
    pub fn from(&self) -> i64 {
        self.from_position.unwrap_or(1)
    }
}

/// How a hold ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Why.
    pub reason: String,
    /// When.
    pub released_at: DateTime<Utc>,
}

/// The state of a legal hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegalHold {
    /// What is held, once it was placed.
    pub held: Option<Held>,
    /// How it ended, if it did.
    pub release: Option<Release>,
}

impl LegalHold {
    /// Whether it stands and keeps this customer's data from being erased.
    pub fn covers(&self, customer: CustomerId) -> bool {
        self.release.is_none()
            && self.held.as_ref().is_some_and(|held| held.customer_id.is_none_or(|held| held == customer))
    }
}

/// What can be asked of a legal hold. Why is in what the command comes with.
#[derive(Clone, Debug)]
pub enum LegalHoldCommand {
    /// Place it.
    Place {
        /// What it is known as.
        name: Name,
        /// Whose data it keeps; everybody's without.
        customer_id: Option<CustomerId>,
        /// The first position it keeps; the whole log without.
        from_position: Option<i64>,
    },
    /// Release it.
    Release,
}

/// What can have happened to a legal hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum LegalHoldEvent {
    /// It was placed.
    #[serde(rename = "legal_hold.placed")]
    Placed(Held),
    /// It was released.
    #[serde(rename = "legal_hold.released")]
    Released(Release),
    /// Its state, when what was before was pruned.
    #[serde(rename = "legal_hold.carried_over")]
    CarriedOver(Box<CarriedOver<LegalHold>>),
}

impl Event for LegalHoldEvent {
    const TYPES: &'static [(&'static str, u16)] =
        &[("legal_hold.placed", 1), ("legal_hold.released", 1), ("legal_hold.carried_over", 1)];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Placed(_) => "legal_hold.placed",
            Self::Released(_) => "legal_hold.released",
            Self::CarriedOver(_) => "legal_hold.carried_over",
        }
    }
}

/// Where the customer stands that a hold is to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// No customer is named.
    Everybody,
    /// There is such a customer.
    Known,
    /// There is none.
    Unknown,
    /// Who they were is gone already.
    Erased,
}

/// What a decision about a legal hold needs to know.
#[derive(Clone, Debug)]
pub struct LegalHoldContext {
    /// The time of the decision, by the database's clock.
    pub now: DateTime<Utc>,
    /// The hold's id.
    pub id: HoldId,
    /// Why, in the words of whoever asks.
    pub reason: Option<String>,
    /// Where the customer stands who is named.
    pub customer: Kept,
}

impl LegalHoldContext {
    fn reason(&self) -> Result<String, DomainError> {
        let reason = self.reason.clone().filter(|reason| !reason.trim().is_empty());
        reason.ok_or(DomainError::ReasonRequired)
    }
}

impl Decider for LegalHold {
    const TYPE: &'static str = "legal_hold";
    type Command = LegalHoldCommand;
    type Event = LegalHoldEvent;
    type Context = LegalHoldContext;

    fn decide(
        &self,
        command: &LegalHoldCommand,
        context: &LegalHoldContext,
    ) -> Result<Vec<LegalHoldEvent>, DomainError> {
        match (command, &self.held) {
            (LegalHoldCommand::Place { .. }, Some(_)) => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            (LegalHoldCommand::Place { name, customer_id, from_position }, None) => {
                let reason = context.reason()?;
                if from_position.is_some_and(|position| position < 1) {
                    return Err(DomainError::field(
                        "/from_position",
                        "out_of_range",
                        "positions begin with 1",
                    ));
                }
                match context.customer {
                    Kept::Everybody | Kept::Known => {}
                    Kept::Unknown => {
                        return Err(DomainError::field(
                            "/customer_id",
                            "unknown_customer",
                            "no such customer",
                        ));
                    }
                    // Whoever places it must hear that it comes too late.
                    Kept::Erased => {
                        return Err(DomainError::wrong_state("erased", "this person's data was erased"));
                    }
                }
                Ok(vec![LegalHoldEvent::Placed(Held {
                    hold_id: context.id,
                    name: name.clone(),
                    customer_id: *customer_id,
                    from_position: *from_position,
                    reason,
                    placed_at: context.now,
                })])
            }
            (LegalHoldCommand::Release, None) => Err(DomainError::not_found(Self::TYPE)),
            (LegalHoldCommand::Release, Some(_)) if self.release.is_some() => {
                Err(DomainError::wrong_state("released", "the hold was released"))
            }
            (LegalHoldCommand::Release, Some(_)) => Ok(vec![LegalHoldEvent::Released(Release {
                reason: context.reason()?,
                released_at: context.now,
            })]),
        }
    }

    fn apply(&mut self, event: &LegalHoldEvent) {
        match event {
            LegalHoldEvent::Placed(held) => *self = Self { held: Some(held.clone()), release: None },
            LegalHoldEvent::Released(release) => self.release = Some(release.clone()),
            LegalHoldEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl_cqrs_aggregate!(LegalHold, LegalHoldEvent);

/// 64-bit numbers are strings in events: as JSON numbers they would lose digits.
mod position_as_string {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
    pub fn serialize<S: Serializer>(position: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        match position {
            Some(position) => serializer.collect_str(position),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
