//! Whom a request names before it has proved anything: the tenant of a slug, or of the page it comes from.

use daybook_domain::TenantId;
use http::{HeaderMap, header};

use crate::{
    access_log::whose,
    app::AppState,
    http::{
        headers::X_TENANT_SLUG,
        problem::{Code, Problem, Result},
    },
};

/// What a name that came with a request says about whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Nothing: there is no name, or it is the platform's.
    Nobody,
    /// It names a tenant that there is not, or one that is switched off: that is nobody's request, and not the platform's.
    Unknown,
    /// An active tenant.
    Tenant(TenantId),
}

impl Named {
    /// Whose accounts a request without credentials is about: the platform's (`None`) or a tenant's, and whether there are
    /// any. Who names a tenant that there is not has none, and must not be told so, nor sooner than others.
    pub fn accounts(self) -> (Option<TenantId>, bool) {
        match self {
            Self::Nobody => (None, true),
            Self::Unknown => (None, false),
            Self::Tenant(tenant) => (Some(tenant), true),
        }
    }
}

/// Whom the page names that a request comes from, by its verified domain.
pub(super) async fn by_origin(state: &AppState, headers: &HeaderMap) -> Result<Named> {
    match headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) {
        Some(origin) => Ok(state.origins().named(origin).await?),
        None => Ok(Named::Nobody),
    }
}

/// Whom an unauthenticated request is for: as `X-Tenant-Slug` says, else by the verified domain it comes from.
///
/// # Errors
/// `tenant_mismatch` when the two do not name the same tenant; `unavailable` when the database is away.
pub async fn named_tenant(state: &AppState, headers: &HeaderMap) -> Result<Named> {
    let named = by_slug_or_origin(state, headers).await?;
    if let Named::Tenant(tenant) = named {
        whose::names(tenant);
    }
    Ok(named)
}

async fn by_slug_or_origin(state: &AppState, headers: &HeaderMap) -> Result<Named> {
    let by_origin = by_origin(state, headers).await?;
    let Some(slug) = headers.get(X_TENANT_SLUG) else { return Ok(by_origin) };
    let tenant = match slug.to_str() {
        Ok(slug) => state.tenant_of_slug(slug).await?,
        Err(_) => None,
    };
    let by_slug = match tenant {
        Some(tenant) if state.auth().active_tenant(tenant).await?.is_some() => Named::Tenant(tenant),
        _ => Named::Unknown,
    };
    if by_origin != Named::Nobody && by_origin != by_slug {
        return Err(Problem::new(Code::TenantMismatch, "X-Tenant-Slug names another tenant than Origin."));
    }
    Ok(by_slug)
}
