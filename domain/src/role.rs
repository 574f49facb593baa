//! A role of a tenant's own: a named bundle of permissions for staff.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, DomainError, Event, RoleId,
    carried::CarriedOver,
    impl_cqrs_aggregate,
    permission::{Permissions, Tier},
    text::Name,
};

/// The state of a role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// Its id, once it was created.
    pub id: Option<RoleId>,
    /// Its name.
    pub name: String,
    /// What it allows.
    pub permissions: Permissions,
    /// Archived roles cannot be given any more.
    pub archived: bool,
}

impl Role {
    /// Whether it can be given.
    pub fn can_be_given(&self) -> bool {
        self.id.is_some() && !self.archived
    }

    /// No other role that can be given has its name.
    pub fn unique_keys(&self) -> Vec<(&'static str, String)> {
        if self.can_be_given() { vec![("role_name", self.name.to_lowercase())] } else { Vec::new() }
    }
}

/// What can be asked of a role.
#[derive(Clone, Debug)]
pub enum RoleCommand {
    /// Define it.
    Create {
        /// Its name.
        name: Name,
        /// What it allows.
        permissions: Permissions,
        /// What whoever asks may do themselves: nobody gives what they do not have.
        held: Permissions,
    },
    /// Change what is given.
    Update {
        /// A new name.
        name: Option<Name>,
        /// What it allows from now on.
        permissions: Option<Permissions>,
        /// What whoever asks may do themselves.
        held: Permissions,
    },
    /// Give it to nobody any more.
    Archive,
}

/// What can have happened to a role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum RoleEvent {
    /// It was defined.
    #[serde(rename = "role.created")]
    Created {
        /// Its id.
        role_id: RoleId,
        /// Its name.
        name: Name,
        /// What it allows.
        permissions: Permissions,
    },
    /// What is given was changed.
    #[serde(rename = "role.updated")]
    Updated {
        /// The new name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
        /// What it allows from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permissions: Option<Permissions>,
    },
    /// It is given to nobody any more.
    #[serde(rename = "role.archived")]
    Archived,
    /// Its state, when what was before was pruned.
    #[serde(rename = "role.carried_over")]
    CarriedOver(Box<CarriedOver<Role>>),
}

impl Event for RoleEvent {
    const TYPES: &'static [(&'static str, u16)] =
        &[("role.created", 1), ("role.updated", 1), ("role.archived", 1), ("role.carried_over", 1)];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "role.created",
            Self::Updated { .. } => "role.updated",
            Self::Archived => "role.archived",
            Self::CarriedOver(_) => "role.carried_over",
        }
    }
}

/// What a decision about a role needs to know.
#[derive(Clone, Debug)]
pub struct RoleContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The role's id.
    pub id: RoleId,
    /// Accounts that have it and are not gone.
    pub users: u32,
}

impl Decider for Role {
    const TYPE: &'static str = "role";
    type Command = RoleCommand;
    type Event = RoleEvent;
    type Context = RoleContext;

    fn decide(&self, command: &RoleCommand, context: &RoleContext) -> Result<Vec<RoleEvent>, DomainError> {
        match command {
            RoleCommand::Create { .. } if self.id.is_some() => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            RoleCommand::Create { name, permissions, held } => {
                check(permissions, held)?;
                Ok(vec![RoleEvent::Created {
                    role_id: context.id,
                    name: name.clone(),
                    permissions: permissions.clone(),
                }])
            }
            RoleCommand::Update { .. } | RoleCommand::Archive if self.id.is_none() => {
                Err(DomainError::not_found(Self::TYPE))
            }
            RoleCommand::Update { .. } if self.archived => {
                Err(DomainError::wrong_state("archived", "the role is archived"))
            }
            RoleCommand::Update { name, permissions, held } => {
                let name = name.clone().filter(|name| name.as_str() != self.name);
                let permissions = permissions.clone().filter(|permissions| *permissions != self.permissions);
                if let Some(permissions) = &permissions {
                    check(permissions, held)?;
                }
                if name.is_none() && permissions.is_none() {
                    return Ok(Vec::new());
                }
                Ok(vec![RoleEvent::Updated { name, permissions }])
            }
            RoleCommand::Archive if self.archived => Ok(Vec::new()),
            RoleCommand::Archive if context.users > 0 => {
                Err(DomainError::wrong_state("in_use", "accounts have this role"))
            }
            RoleCommand::Archive => Ok(vec![RoleEvent::Archived]),
        }
    }

    fn apply(&mut self, event: &RoleEvent) {
        match event {
            RoleEvent::Created { role_id, name, permissions } => {
                *self = Self {
                    id: Some(*role_id),
                    name: name.as_str().to_owned(),
                    permissions: permissions.clone(),
                    archived: false,
                };
            }
            RoleEvent::Updated { name, permissions } => {
                if let Some(name) = name {
                    name.as_str().clone_into(&mut self.name);
                }
                if let Some(permissions) = permissions {
                    self.permissions.clone_from(permissions);
                }
            }
            RoleEvent::Archived => self.archived = true,
            RoleEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

fn check(permissions: &Permissions, held: &Permissions) -> Result<(), DomainError> {
    if !permissions.within(&Tier::custom_role_ceiling()) {
        return Err(DomainError::field(
            "/permissions",
            "above_staff",
            "a role of staff does not manage accounts, roles, keys, domains, settings or secrets",
        ));
    }
    if !permissions.within(held) {
        return Err(DomainError::field(
            "/permissions",
            "not_held",
            "nobody gives a permission that they do not have",
        ));
    }
    Ok(())
}

impl_cqrs_aggregate!(Role, RoleEvent);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn with(users: u32) -> TestFramework<Role> {
        TestFramework::with(RoleContext { now: DateTime::UNIX_EPOCH, id: RoleId::default(), users })
    }

    fn permissions(texts: &[&str]) -> Permissions {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn created(texts: &[&str]) -> RoleEvent {
        RoleEvent::Created {
            role_id: RoleId::default(),
            name: Name::new("Porter", "/name").unwrap(),
            permissions: permissions(texts),
        }
    }

    fn create(texts: &[&str], held: &Permissions) -> RoleCommand {
        RoleCommand::Create {
            name: Name::new("Porter", "/name").unwrap(),
            permissions: permissions(texts),
            held: held.clone(),
        }
    }

    #[test]
    fn a_role_bundles_what_its_maker_has() {
        let owner = Tier::TenantOwner.permissions();
        with(0)
            .given_no_previous_events()
            .when(create(&["bookings:read:assigned"], &owner))
            .then_expect_events(vec![created(&["bookings:read:assigned"])]);
        with(0)
            .given_no_previous_events()
            .when(create(&["bookings:read:tenant"], &permissions(&["bookings:read:own"])))
            .then_expect_error(DomainError::field(
                "/permissions",
                "not_held",
                "nobody gives a permission that they do not have",
            ));
    }

    #[test]
    fn a_role_of_staff_manages_no_accounts() {
        for above in
            ["users:create:tenant", "secrets:update:tenant", "tenants:read:platform", "roles:read:tenant"]
        {
            let decided = Role::default().decide(
                &create(&[above], &Tier::TenantOwner.permissions()),
                &RoleContext { now: DateTime::UNIX_EPOCH, id: RoleId::default(), users: 0 },
            );
            assert!(matches!(decided, Err(DomainError::Validation { .. })), "{above}");
        }
    }

    #[test]
    fn a_role_that_somebody_has_stays() {
        with(1)
            .given(vec![created(&[])])
            .when(RoleCommand::Archive)
            .then_expect_error(DomainError::wrong_state("in_use", "accounts have this role"));
        with(0)
            .given(vec![created(&[])])
            .when(RoleCommand::Archive)
            .then_expect_events(vec![RoleEvent::Archived]);
    }
}
