//! An API key: what a program of a tenant's may do. The secret itself never comes here.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ApiKeyId, Decider, DomainError, Event,
    carried::CarriedOver,
    impl_cqrs_aggregate,
    permission::{Permissions, Tier},
    text::Name,
};

/// The most calls an hour that can be asked for.
pub const MAX_HOURLY: u32 = 10_000_000;

/// How many calls an hour a key may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HourlyLimit {
    /// As many as the tenant's plan says.
    #[default]
    Plan,
    /// So many.
    Calls(u32),
    /// Any number; only the operator of the platform gives such a key.
    Unlimited,
}

/// The state of an API key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id, once it was issued.
    pub id: Option<ApiKeyId>,
    /// What it is for.
    pub name: String,
    /// What it is looked up by: the first characters of the key, after `ck_`.
    pub prefix: String,
    /// What it may do.
    pub permissions: Permissions,
    /// The tier it acts as towards accounts: its maker's.
    pub tier: Tier,
    /// How many calls an hour.
    pub hourly: HourlyLimit,
    /// When it stops working by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub revoked: bool,
}

impl Default for ApiKey {
    fn default() -> Self {
        Self {
            id: None,
            name: String::new(),
            prefix: String::new(),
            permissions: Permissions::default(),
            tier: Tier::Customer,
            hourly: HourlyLimit::Plan,
            expires_at: None,
            revoked: false,
        }
    }
}

/// What can be asked of an API key.
#[derive(Clone, Debug)]
pub enum ApiKeyCommand {
    /// Issue it.
    Issue {
        /// What it is for.
        name: Name,
        /// What it is looked up by.
        prefix: String,
        /// What it may do.
        permissions: Permissions,
        /// What whoever asks may do themselves.
        held: Permissions,
        /// The tier of whoever asks.
        tier: Tier,
        /// How many calls an hour.
        hourly: HourlyLimit,
        /// When it stops working by itself.
        expires_at: Option<DateTime<Utc>>,
        /// Whether the operator of the platform asks.
        by_operator: bool,
    },
    /// Let it work no more.
    Revoke,
}

/// What can have happened to an API key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum ApiKeyEvent {
    /// It was issued.
    #[serde(rename = "api_key.issued")]
    Issued {
        /// Its id.
        api_key_id: ApiKeyId,
        /// What it is for.
        name: Name,
        /// What it is looked up by.
        prefix: String,
        /// What it may do.
        permissions: Permissions,
        /// The tier it acts as towards accounts.
        tier: Tier,
        /// How many calls an hour.
        hourly: HourlyLimit,
        /// When it stops working by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<DateTime<Utc>>,
    },
    /// It works no more.
    #[serde(rename = "api_key.revoked")]
    Revoked,
    /// Its state, when what was before was pruned.
    #[serde(rename = "api_key.carried_over")]
    CarriedOver(Box<CarriedOver<ApiKey>>),
}

impl Event for ApiKeyEvent {
    const TYPES: &'static [(&'static str, u16)] =
        &[("api_key.issued", 1), ("api_key.revoked", 1), ("api_key.carried_over", 1)];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Issued { .. } => "api_key.issued",
            Self::Revoked => "api_key.revoked",
            Self::CarriedOver(_) => "api_key.carried_over",
        }
    }
}

/// What a decision about an API key needs to know.
#[derive(Clone, Debug)]
pub struct ApiKeyContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The key's id.
    pub id: ApiKeyId,
}

impl Decider for ApiKey {
    const TYPE: &'static str = "api_key";
    type Command = ApiKeyCommand;
    type Event = ApiKeyEvent;
    type Context = ApiKeyContext;

    fn decide(
        &self,
        command: &ApiKeyCommand,
        context: &ApiKeyContext,
    ) -> Result<Vec<ApiKeyEvent>, DomainError> {
        match command {
            ApiKeyCommand::Issue { .. } if self.id.is_some() => {
                Err(DomainError::AlreadyExists { what: "API key".into() })
            }
            ApiKeyCommand::Issue {
                name,
                prefix,
                permissions,
                held,
                tier,
                hourly,
                expires_at,
                by_operator,
            } => {
                if !permissions.within(held) {
                    return Err(DomainError::field(
                        "/permissions",
                        "not_held",
                        "nobody gives a permission that they do not have",
                    ));
                }
                if permissions.is_empty() {
                    return Err(DomainError::field("/permissions", "empty", "a key may do something"));
                }
                let unbounded = match hourly {
                    HourlyLimit::Plan => false,
                    HourlyLimit::Calls(calls) => !(1..=MAX_HOURLY).contains(calls),
                    HourlyLimit::Unlimited => !by_operator,
                };
                if unbounded {
                    return Err(DomainError::field(
                        "/calls_per_hour",
                        "out_of_range",
                        "not a number of calls",
                    ));
                }
                if expires_at.is_some_and(|at| at <= context.now) {
                    return Err(DomainError::field(
                        "/expires_at",
                        "in_the_past",
                        "a key expires later than now",
                    ));
                }
                Ok(vec![ApiKeyEvent::Issued {
                    api_key_id: context.id,
                    name: name.clone(),
                    prefix: prefix.clone(),
                    permissions: permissions.clone(),
                    tier: *tier,
                    hourly: *hourly,
                    expires_at: *expires_at,
                }])
            }
            ApiKeyCommand::Revoke if self.id.is_none() => Err(DomainError::not_found("API key")),
            ApiKeyCommand::Revoke if self.revoked => Ok(Vec::new()),
            ApiKeyCommand::Revoke => Ok(vec![ApiKeyEvent::Revoked]),
        }
    }

    fn apply(&mut self, event: &ApiKeyEvent) {
        match event {
            ApiKeyEvent::Issued { api_key_id, name, prefix, permissions, tier, hourly, expires_at } => {
                *self = Self {
                    id: Some(*api_key_id),
                    name: name.as_str().to_owned(),
                    prefix: prefix.clone(),
                    permissions: permissions.clone(),
                    tier: *tier,
                    hourly: *hourly,
                    expires_at: *expires_at,
                    revoked: false,
                };
            }
            ApiKeyEvent::Revoked => self.revoked = true,
            ApiKeyEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl_cqrs_aggregate!(ApiKey, ApiKeyEvent);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn issue(permission: &str, hourly: HourlyLimit, expires: i64) -> ApiKeyCommand {
        ApiKeyCommand::Issue {
            name: Name::new("Site", "/name").unwrap(),
            prefix: "abcd1234".into(),
            permissions: [permission.parse().unwrap()].into_iter().collect(),
            held: Tier::TenantManager.permissions(),
            tier: Tier::TenantManager,
            hourly,
            expires_at: DateTime::from_timestamp(expires, 0),
            by_operator: false,
        }
    }

    fn refused(command: ApiKeyCommand) -> bool {
        let context =
            ApiKeyContext { now: DateTime::from_timestamp(1_000, 0).unwrap(), id: ApiKeyId::default() };
        matches!(ApiKey::default().decide(&command, &context), Err(DomainError::Validation { .. }))
    }

    #[test]
    fn a_key_may_at_most_what_its_maker_may() {
        assert!(!refused(issue("bookings:read:tenant", HourlyLimit::Plan, 2_000)));
        assert!(refused(issue("secrets:update:tenant", HourlyLimit::Plan, 2_000)));
        assert!(refused(issue("bookings:read:tenant", HourlyLimit::Unlimited, 2_000)));
        assert!(refused(issue("bookings:read:tenant", HourlyLimit::Calls(0), 2_000)));
        assert!(refused(issue("bookings:read:tenant", HourlyLimit::Plan, 1_000)));
    }

    #[test]
    fn revoking_twice_is_one_event() {
        let context = ApiKeyContext { now: DateTime::UNIX_EPOCH, id: ApiKeyId::default() };
        let issued = ApiKey::default()
            .decide(&issue("bookings:read:tenant", HourlyLimit::Plan, 2_000), &context)
            .unwrap();
        TestFramework::<ApiKey>::with(context.clone())
            .given(issued.clone())
            .when(ApiKeyCommand::Revoke)
            .then_expect_events(vec![ApiKeyEvent::Revoked]);
        TestFramework::<ApiKey>::with(context)
            .given([issued, vec![ApiKeyEvent::Revoked]].concat())
            .when(ApiKeyCommand::Revoke)
            .then_expect_events(vec![]);
    }
}
