//! A tenant, in the platform's log.

mod domains;

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::{
    Currency, Decider, DomainError, DomainId, Event, Hostname, TenantId, TokenId, carried::CarriedOver,
    impl_cqrs_aggregate, text::Slug,
};

pub use domains::{Domain, MAX_DOMAINS};

/// For how long a tenant that moved to a smaller plan still has the history, and the exports, of the larger one.
pub const DOWNGRADE_GRACE: Duration = Duration::days(14);

/// A plan that a tenant was on until not long ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedPlan {
    /// The plan.
    pub plan: String,
    /// Since when it is not its plan any more.
    pub at: DateTime<Utc>,
}

/// The state of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id, once it was created.
    pub id: Option<TenantId>,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// The plans it left within [`DOWNGRADE_GRACE`] of the last change, each once. Snapshots from before that have none.
    #[serde(default)]
    pub ended_plans: Vec<EndedPlan>,
    /// Whether anything of it may be used.
    pub active: bool,
    /// Whether it is a demo tenant.
    pub temporary: bool,
    /// Its time zone.
    pub time_zone: Tz,
    /// Its currency.
    pub currency: Currency,
    /// The label of its data region.
    pub region: String,
    /// Its bootstrap tokens, and whether each is revoked.
    pub tokens: BTreeMap<TokenId, bool>,
    /// The domains it claims, proved or not. Snapshots from before there were any have none.
    #[serde(default)]
    pub domains: BTreeMap<DomainId, Domain>,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            id: None,
            slug: String::new(),
            name: String::new(),
            plan: String::new(),
            ended_plans: Vec::new(),
            active: false,
            temporary: false,
            time_zone: Tz::Europe__Brussels,
            currency: Currency::EUR,
            region: "eu".into(),
            tokens: BTreeMap::new(),
            domains: BTreeMap::new(),
        }
    }
}

impl Tenant {
    /// No other tenant has its slug, or a domain that it has proved. A mere claim keeps nobody else away: it would let
    /// anyone hold names that are not theirs.
    pub fn unique_keys(&self) -> Vec<(&'static str, String)> {
        let slug = self.id.map(|_| ("tenant_slug", self.slug.clone()));
        let verified = self.domains.values().filter(|domain| domain.is_verified());
        slug.into_iter().chain(verified.map(|domain| ("hostname", domain.hostname.to_string()))).collect()
    }
}

/// What can be asked of a tenant.
#[derive(Clone, Debug)]
pub enum TenantCommand {
    /// Create it, active.
    Create {
        /// Its slug.
        slug: Slug,
        /// Its name.
        name: String,
        /// Its plan.
        plan: String,
        /// Whether it is a demo tenant.
        temporary: bool,
        /// Its time zone.
        time_zone: Tz,
        /// Its currency.
        currency: Currency,
        /// The label of its data region.
        region: String,
    },
    /// Let it be used again.
    Activate,
    /// Stop every use of it.
    Deactivate,
    /// Give it another name.
    Rename {
        /// The name.
        name: String,
    },
    /// Move it to another plan.
    ChangePlan {
        /// The plan.
        plan: String,
    },
    /// Claim a host, which is to be proved by a record in DNS.
    ClaimDomain {
        /// The claim's id.
        domain_id: DomainId,
        /// The host.
        hostname: Hostname,
        /// What the record has to say. It is public: it stands in DNS.
        token: String,
    },
    /// The record of a claim was found: the host is the tenant's, and no other's.
    VerifyDomain {
        /// The claim.
        domain_id: DomainId,
    },
    /// The record of a host that was proved is gone.
    LapseDomain {
        /// The claim.
        domain_id: DomainId,
    },
    /// Give a claim up.
    ReleaseDomain {
        /// The claim.
        domain_id: DomainId,
    },
    /// Make a domain that was proved the one the tenant is first known by.
    MakePrimaryDomain {
        /// The claim.
        domain_id: DomainId,
    },
}

/// What can have happened to a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum TenantEvent {
    /// It was created.
    #[serde(rename = "tenant.created")]
    Created {
        /// Its id.
        tenant_id: TenantId,
        /// Its slug.
        slug: Slug,
        /// Its name.
        name: String,
        /// Its plan.
        plan: String,
        /// Whether it is a demo tenant.
        temporary: bool,
        /// Its time zone.
        time_zone: Tz,
        /// Its currency.
        currency: Currency,
        /// The label of its data region.
        region: String,
    },
    /// It may be used again.
    #[serde(rename = "tenant.activated")]
    Activated,
    /// Every use of it was stopped.
    #[serde(rename = "tenant.deactivated")]
    Deactivated,
    /// It got another name.
    #[serde(rename = "tenant.renamed")]
    Renamed {
        /// The name.
        name: String,
    },
    /// It moved to another plan.
    #[serde(rename = "tenant.plan_changed")]
    PlanChanged {
        /// The plan.
        plan: String,
        /// When. Events from before there was a grace do not say, and leave none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<DateTime<Utc>>,
    },
    /// A bootstrap token was issued; before there were API keys.
    #[serde(rename = "tenant.token_issued")]
    TokenIssued {
        /// The token's id.
        token_id: TokenId,
        /// What it is for.
        label: String,
    },
    /// A bootstrap token was revoked; before there were API keys.
    #[serde(rename = "tenant.token_revoked")]
    TokenRevoked {
        /// The token's id.
        token_id: TokenId,
    },
    /// It claimed a host.
    #[serde(rename = "tenant.domain_claimed")]
    DomainClaimed {
        /// The claim's id.
        domain_id: DomainId,
        /// The host.
        hostname: Hostname,
        /// What the record in DNS has to say.
        token: String,
        /// When.
        claimed_at: DateTime<Utc>,
    },
    /// It proved that a host is its own.
    #[serde(rename = "tenant.domain_verified")]
    DomainVerified {
        /// The claim.
        domain_id: DomainId,
        /// When.
        verified_at: DateTime<Utc>,
    },
    /// The proof of a host is gone.
    #[serde(rename = "tenant.domain_lapsed")]
    DomainLapsed {
        /// The claim.
        domain_id: DomainId,
    },
    /// It gave a claim up.
    #[serde(rename = "tenant.domain_released")]
    DomainReleased {
        /// The claim.
        domain_id: DomainId,
    },
    /// It is first known by this domain.
    #[serde(rename = "tenant.domain_made_primary")]
    DomainMadePrimary {
        /// The claim.
        domain_id: DomainId,
    },
    /// Its state, when what was before was pruned.
    #[serde(rename = "tenant.carried_over")]
    CarriedOver(Box<CarriedOver<Tenant>>),
}

impl Event for TenantEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("tenant.created", 1),
        ("tenant.activated", 1),
        ("tenant.deactivated", 1),
        ("tenant.plan_changed", 1),
        ("tenant.renamed", 1),
        ("tenant.token_issued", 1),
        ("tenant.token_revoked", 1),
        ("tenant.domain_claimed", 1),
        ("tenant.domain_verified", 1),
        ("tenant.domain_lapsed", 1),
        ("tenant.domain_released", 1),
        ("tenant.domain_made_primary", 1),
        ("tenant.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "tenant.created",
            Self::Activated => "tenant.activated",
            Self::Deactivated => "tenant.deactivated",
            Self::PlanChanged { .. } => "tenant.plan_changed",
            Self::Renamed { .. } => "tenant.renamed",
            Self::TokenIssued { .. } => "tenant.token_issued",
            Self::TokenRevoked { .. } => "tenant.token_revoked",
            Self::DomainClaimed { .. } => "tenant.domain_claimed",
            Self::DomainVerified { .. } => "tenant.domain_verified",
            Self::DomainLapsed { .. } => "tenant.domain_lapsed",
            Self::DomainReleased { .. } => "tenant.domain_released",
            Self::DomainMadePrimary { .. } => "tenant.domain_made_primary",
            Self::CarriedOver(_) => "tenant.carried_over",
        }
    }
}

/// What a decision about a tenant needs to know.
#[derive(Clone, Debug)]
pub struct TenantContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The tenant's id.
    pub id: TenantId,
    /// The names of the plans there are.
    pub known_plans: Vec<String>,
}

impl Decider for Tenant {
    const TYPE: &'static str = "tenant";
    type Command = TenantCommand;
    type Event = TenantEvent;
    type Context = TenantContext;

    fn decide(
        &self,
        command: &TenantCommand,
        context: &TenantContext,
    ) -> Result<Vec<TenantEvent>, DomainError> {
        if !matches!(command, TenantCommand::Create { .. }) && self.id.is_none() {
            return Err(DomainError::not_found(Self::TYPE));
        }
        match command {
            TenantCommand::Create { .. } if self.id.is_some() => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            TenantCommand::Create { slug, name, plan, temporary, time_zone, currency, region } => {
                let name = check_name(name)?;
                check_plan(plan, context)?;
                Ok(vec![TenantEvent::Created {
                    tenant_id: context.id,
                    slug: slug.clone(),
                    name: name.to_owned(),
                    plan: plan.clone(),
                    temporary: *temporary,
                    time_zone: *time_zone,
                    currency: *currency,
                    region: region.clone(),
                }])
            }
            TenantCommand::Activate if self.active => Ok(Vec::new()),
            TenantCommand::Activate => Ok(vec![TenantEvent::Activated]),
            TenantCommand::Deactivate if !self.active => Ok(Vec::new()),
            TenantCommand::Deactivate => Ok(vec![TenantEvent::Deactivated]),
            TenantCommand::Rename { name } => {
                let name = check_name(name)?;
                Ok(if name == self.name {
                    Vec::new()
                } else {
                    vec![TenantEvent::Renamed { name: name.to_owned() }]
                })
            }
            TenantCommand::ChangePlan { plan } => {
                check_plan(plan, context)?;
                Ok(if *plan == self.plan {
                    Vec::new()
                } else {
                    vec![TenantEvent::PlanChanged { plan: plan.clone(), at: Some(context.now) }]
                })
            }
            TenantCommand::ClaimDomain { domain_id, hostname, token } => {
                self.claim_domain(*domain_id, hostname, token, context.now)
            }
            TenantCommand::VerifyDomain { domain_id } => self.verify_domain(*domain_id, context.now),
            TenantCommand::LapseDomain { domain_id } => self.lapse_domain(*domain_id),
            TenantCommand::ReleaseDomain { domain_id } => self.release_domain(*domain_id),
            TenantCommand::MakePrimaryDomain { domain_id } => self.make_primary_domain(*domain_id),
        }
    }

    fn apply(&mut self, event: &TenantEvent) {
        match event {
            TenantEvent::Created { tenant_id, slug, name, plan, temporary, time_zone, currency, region } => {
                *self = Self {
                    id: Some(*tenant_id),
                    slug: slug.as_str().to_owned(),
                    name: name.clone(),
                    plan: plan.clone(),
                    ended_plans: Vec::new(),
                    active: true,
                    temporary: *temporary,
                    time_zone: *time_zone,
                    currency: *currency,
                    region: region.clone(),
                    tokens: BTreeMap::new(),
                    domains: BTreeMap::new(),
                };
            }
            TenantEvent::Activated => self.active = true,
            TenantEvent::Deactivated => self.active = false,
            TenantEvent::Renamed { name } => self.name.clone_from(name),
            TenantEvent::PlanChanged { plan, at } => {
                let left = std::mem::replace(&mut self.plan, plan.clone());
                if let Some(at) = *at {
                    self.ended_plans.retain(|ended| ended.plan != left && ended.at + DOWNGRADE_GRACE > at);
                    self.ended_plans.push(EndedPlan { plan: left, at });
                }
            }
            TenantEvent::TokenIssued { token_id, .. } => drop(self.tokens.insert(*token_id, false)),
            TenantEvent::TokenRevoked { token_id } => drop(self.tokens.insert(*token_id, true)),
            TenantEvent::DomainClaimed { domain_id, hostname, token, claimed_at } => {
                let domain = Domain::claimed(hostname.clone(), token.clone(), *claimed_at);
                self.domains.insert(*domain_id, domain);
            }
            TenantEvent::DomainVerified { domain_id, verified_at } => {
                if let Some(domain) = self.domains.get_mut(domain_id) {
                    domain.verified_at = Some(*verified_at);
                }
            }
            TenantEvent::DomainLapsed { domain_id } => {
                if let Some(domain) = self.domains.get_mut(domain_id) {
                    domain.verified_at = None;
                    domain.primary = false;
                }
            }
            TenantEvent::DomainReleased { domain_id } => drop(self.domains.remove(domain_id)),
            TenantEvent::DomainMadePrimary { domain_id } => {
                for (id, domain) in &mut self.domains {
                    domain.primary = id == domain_id;
                }
            }
            TenantEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

fn check_name(name: &str) -> Result<&str, DomainError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err(DomainError::field("/name", "invalid_name", "a name has 1 to 200 characters"));
    }
    Ok(name)
}

fn check_plan(plan: &str, context: &TenantContext) -> Result<(), DomainError> {
    if context.known_plans.iter().any(|known| known == plan) {
        Ok(())
    } else {
        Err(DomainError::field("/plan", "unknown_plan", "no such plan"))
    }
}

impl_cqrs_aggregate!(Tenant, TenantEvent);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn context() -> TenantContext {
        TenantContext {
            now: DateTime::UNIX_EPOCH,
            id: TenantId::default(),
            known_plans: vec!["free".into(), "business".into()],
        }
    }

    fn created() -> TenantEvent {
        TenantEvent::Created {
            tenant_id: TenantId::default(),
            slug: Slug::new("camp-river", "/slug").unwrap(),
            name: "Camping River".into(),
            plan: "free".into(),
            temporary: false,
            time_zone: Tz::Europe__Brussels,
            currency: Currency::EUR,
            region: "eu".into(),
        }
    }

    #[test]
    fn switching_off_twice_is_one_event() {
        TestFramework::<Tenant>::with(context())
            .given(vec![created()])
            .when(TenantCommand::Deactivate)
            .then_expect_events(vec![TenantEvent::Deactivated]);
        TestFramework::<Tenant>::with(context())
            .given(vec![created(), TenantEvent::Deactivated])
            .when(TenantCommand::Deactivate)
            .then_expect_events(vec![]);
    }

    #[test]
    fn the_plans_of_the_last_two_weeks_are_known() {
        let at = |hours| DateTime::UNIX_EPOCH + Duration::hours(hours);
        let mut tenant = Tenant::default();
        tenant.apply(&created());
        for (plan, hours) in [("business", 1), ("free", 2), ("business", 3), ("starter", 4), ("free", 4)] {
            tenant.apply(&TenantEvent::PlanChanged { plan: plan.into(), at: Some(at(hours)) });
        }
        let ended: Vec<_> = tenant.ended_plans.iter().map(|ended| (ended.plan.as_str(), ended.at)).collect();
        assert_eq!(ended, [("free", at(3)), ("business", at(4)), ("starter", at(4))]);
        tenant.apply(&TenantEvent::PlanChanged { plan: "starter".into(), at: Some(at(3 + 14 * 24)) });
        let ended: Vec<_> = tenant.ended_plans.iter().map(|ended| ended.plan.as_str()).collect();
        assert_eq!(ended, ["business", "starter", "free"]);
        tenant.apply(&TenantEvent::PlanChanged { plan: "free".into(), at: None });
        assert_eq!(tenant.plan, "free");
    }

    #[test]
    fn a_plan_must_exist() {
        TestFramework::<Tenant>::with(context())
            .given(vec![created()])
            .when(TenantCommand::ChangePlan { plan: "platinum".into() })
            .then_expect_error(DomainError::field("/plan", "unknown_plan", "no such plan"));
    }
}
