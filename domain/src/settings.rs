//! The settings of a tenant, and that a secret was set: never what it is.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Decider, DomainError, Event, carried::CarriedOver, impl_cqrs_aggregate, text::Name};

/// The most secrets a tenant keeps.
pub const MAX_SECRETS: usize = 50;

/// The state of a tenant's settings. One stream a tenant, under the tenant's own id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether guests may see what is free and book without an account.
    pub public_bookings: bool,
    /// What stands in mails as the name of the house; the tenant's name where there is none.
    pub display_name: Option<String>,
    /// Whether the platform's support may act as a user of this tenant without an approved window.
    pub hijack_without_approval: bool,
    /// The names of the secrets that are set.
    pub secrets: BTreeSet<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_bookings: true,
            display_name: None,
            hijack_without_approval: false,
            secrets: BTreeSet::new(),
        }
    }
}

/// What can be asked of the settings.
#[derive(Clone, Debug)]
pub enum SettingsCommand {
    /// Change what is given; an inner `None` removes it.
    Change {
        /// Whether guests may book without an account.
        public_bookings: Option<bool>,
        /// The name of the house.
        display_name: Option<Option<Name>>,
        /// Whether support may act as a user without an approved window.
        hijack_without_approval: Option<bool>,
    },
    /// A secret was given.
    SetSecret {
        /// Its name.
        name: SecretName,
    },
    /// A secret is to be forgotten.
    RemoveSecret {
        /// Its name.
        name: SecretName,
    },
}

/// The name of a secret: `stripe_key`, `smtp_password`, `oauth.google`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretName(String);

impl SecretName {
    /// Parses it.
    ///
    /// # Errors
    /// `invalid_name` unless it is 1 to 64 lower-case letters, digits, `_`, `-` and `.`, a letter first.
    pub fn new(text: &str) -> Result<Self, DomainError> {
        let proper = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b));
        if proper {
            Ok(Self(text.to_owned()))
        } else {
            Err(DomainError::field(
                "/name",
                "invalid_name",
                "a secret's name is 1 to 64 lower-case letters, digits, _, - and ., a letter first",
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What can have happened to the settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum SettingsEvent {
    /// What is given was changed.
    #[serde(rename = "settings.changed")]
    Changed {
        /// Whether guests may book without an account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        public_bookings: Option<bool>,
        /// The name of the house; empty when it was removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// Whether support may act as a user without an approved window.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hijack_without_approval: Option<bool>,
    },
    /// A secret was set, or another value of it.
    #[serde(rename = "secret.set")]
    SecretSet {
        /// Its name.
        name: SecretName,
    },
    /// A secret was forgotten.
    #[serde(rename = "secret.removed")]
    SecretRemoved {
        /// Its name.
        name: SecretName,
    },
    /// Its state, when what was before was pruned.
    #[serde(rename = "settings.carried_over")]
    CarriedOver(Box<CarriedOver<Settings>>),
}

impl Event for SettingsEvent {
    const TYPES: &'static [(&'static str, u16)] =
        &[("settings.changed", 1), ("secret.set", 1), ("secret.removed", 1), ("settings.carried_over", 1)];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "settings.changed",
            Self::SecretSet { .. } => "secret.set",
            Self::SecretRemoved { .. } => "secret.removed",
            Self::CarriedOver(_) => "settings.carried_over",
        }
    }
}

/// What a decision about settings needs to know.
#[derive(Clone, Debug)]
pub struct SettingsContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
}

impl Decider for Settings {
    const TYPE: &'static str = "settings";
    type Command = SettingsCommand;
    type Event = SettingsEvent;
    type Context = SettingsContext;

    fn decide(
        &self,
        command: &SettingsCommand,
        _context: &SettingsContext,
    ) -> Result<Vec<SettingsEvent>, DomainError> {
        match command {
            SettingsCommand::Change { public_bookings, display_name, hijack_without_approval } => {
                let public_bookings = public_bookings.filter(|new| *new != self.public_bookings);
                let display_name = display_name
                    .as_ref()
                    .filter(|new| new.as_ref().map(Name::as_str) != self.display_name.as_deref())
                    .map(|new| new.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default());
                let hijack_without_approval =
                    hijack_without_approval.filter(|new| *new != self.hijack_without_approval);
                if public_bookings.is_none() && display_name.is_none() && hijack_without_approval.is_none() {
                    return Ok(Vec::new());
                }
                Ok(vec![SettingsEvent::Changed { public_bookings, display_name, hijack_without_approval }])
            }
            SettingsCommand::SetSecret { name } => {
                if !self.secrets.contains(name.as_str()) && self.secrets.len() >= MAX_SECRETS {
                    return Err(DomainError::field("/name", "too_many", "a tenant keeps at most 50 secrets"));
                }
                Ok(vec![SettingsEvent::SecretSet { name: name.clone() }])
            }
            SettingsCommand::RemoveSecret { name } if !self.secrets.contains(name.as_str()) => {
                Err(DomainError::not_found("secret"))
            }
            SettingsCommand::RemoveSecret { name } => {
                Ok(vec![SettingsEvent::SecretRemoved { name: name.clone() }])
            }
        }
    }

    fn apply(&mut self, event: &SettingsEvent) {
        match event {
            SettingsEvent::Changed { public_bookings, display_name, hijack_without_approval } => {
                self.public_bookings = public_bookings.unwrap_or(self.public_bookings);
                self.hijack_without_approval =
                    hijack_without_approval.unwrap_or(self.hijack_without_approval);
                if let Some(name) = display_name {
                    self.display_name = Some(name.clone()).filter(|name| !name.is_empty());
                }
            }
            SettingsEvent::SecretSet { name } => drop(self.secrets.insert(name.as_str().to_owned())),
            SettingsEvent::SecretRemoved { name } => drop(self.secrets.remove(name.as_str())),
            SettingsEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl_cqrs_aggregate!(Settings, SettingsEvent);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn given(events: Vec<SettingsEvent>) -> cqrs_es::test::AggregateTestExecutor<Settings> {
        TestFramework::with(SettingsContext { now: DateTime::UNIX_EPOCH }).given(events)
    }

    #[test]
    fn only_what_differs_is_an_event() {
        let change = SettingsCommand::Change {
            public_bookings: Some(true),
            display_name: Some(None),
            hijack_without_approval: Some(true),
        };
        given(vec![]).when(change).then_expect_events(vec![SettingsEvent::Changed {
            public_bookings: None,
            display_name: None,
            hijack_without_approval: Some(true),
        }]);
    }

    #[test]
    fn a_secret_that_was_never_set_is_not_removed() {
        let name = SecretName::new("stripe_key").unwrap();
        given(vec![])
            .when(SettingsCommand::RemoveSecret { name: name.clone() })
            .then_expect_error(DomainError::not_found("secret"));
        given(vec![SettingsEvent::SecretSet { name: name.clone() }])
            .when(SettingsCommand::RemoveSecret { name: name.clone() })
            .then_expect_events(vec![SettingsEvent::SecretRemoved { name }]);
        for wrong in ["", "Stripe", "a b", "1a", "a/b", &"x".repeat(65)] {
            assert!(SecretName::new(wrong).is_err(), "{wrong}");
        }
    }
}
