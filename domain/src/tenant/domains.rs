//! The domains of a tenant: hosts that it claims, and proves to be its own by a record in DNS.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Tenant, TenantEvent};
use crate::{DomainError, DomainId, Hostname};

/// The most domains of a tenant, proved or not.
pub const MAX_DOMAINS: usize = 50;

/// A host that a tenant claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// The host.
    pub hostname: Hostname,
    /// What the record in DNS has to say.
    pub token: String,
    /// When it was claimed.
    pub claimed_at: DateTime<Utc>,
    /// When it was proved; `None` while it is not, or not any more.
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether the tenant is first known by it.
    pub primary: bool,
}

impl Domain {
    /// A claim as it begins.
    pub fn claimed(hostname: Hostname, token: String, claimed_at: DateTime<Utc>) -> Self {
        Self { hostname, token, claimed_at, verified_at: None, primary: false }
    }

    /// Whether it is proved now.
    pub fn is_verified(&self) -> bool {
        self.verified_at.is_some()
    }
}

type Decision = Result<Vec<TenantEvent>, DomainError>;

impl Tenant {
    fn domain(&self, id: DomainId) -> Result<&Domain, DomainError> {
        self.domains.get(&id).ok_or_else(|| DomainError::not_found("domain"))
    }

    pub(super) fn claim_domain(
        &self,
        domain_id: DomainId,
        hostname: &Hostname,
        token: &str,
        now: DateTime<Utc>,
    ) -> Decision {
        let known = self.domains.contains_key(&domain_id)
            || self.domains.values().any(|domain| domain.hostname == *hostname);
        if known {
            return Err(DomainError::AlreadyExists { what: "hostname".into() });
        }
        if self.domains.len() >= MAX_DOMAINS {
            return Err(DomainError::wrong_state("full", "a tenant has at most 50 domains"));
        }
        Ok(vec![TenantEvent::DomainClaimed {
            domain_id,
            hostname: hostname.clone(),
            token: token.to_owned(),
            claimed_at: now,
        }])
    }

    pub(super) fn verify_domain(&self, domain_id: DomainId, now: DateTime<Utc>) -> Decision {
        Ok(if self.domain(domain_id)?.is_verified() {
            Vec::new()
        } else {
            vec![TenantEvent::DomainVerified { domain_id, verified_at: now }]
        })
    }

    pub(super) fn lapse_domain(&self, domain_id: DomainId) -> Decision {
        Ok(if self.domain(domain_id)?.is_verified() {
            vec![TenantEvent::DomainLapsed { domain_id }]
        } else {
            Vec::new()
        })
    }

    pub(super) fn release_domain(&self, domain_id: DomainId) -> Decision {
        self.domain(domain_id)?;
        Ok(vec![TenantEvent::DomainReleased { domain_id }])
    }

    pub(super) fn make_primary_domain(&self, domain_id: DomainId) -> Decision {
        match self.domain(domain_id)? {
            domain if !domain.is_verified() => Err(DomainError::wrong_state(
                "unverified",
                "a domain becomes the primary one once it is verified",
            )),
            domain if domain.primary => Ok(Vec::new()),
            _ => Ok(vec![TenantEvent::DomainMadePrimary { domain_id }]),
        }
    }
}

#[cfg(test)]
mod tests;
