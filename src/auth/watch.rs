//! A credential that is looked at again while its answer is still being written.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use daybook_domain::TenantId;
use http::request::Parts;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    authorize::{self, Authorized},
    principal::Principal,
    routes::{self, Requirement},
};
use crate::{
    app::AppState,
    http::problem::{Code, Problem, Result},
};

/// The credential of a request whose answer takes long, with what its route requires. Extracted by a handler; whoever
/// writes the answer asks [`Watched::still`] before each part of it.
#[derive(Clone, Debug)]
pub struct Watched {
    token: SecretString,
    tenant: Option<TenantId>,
    requirement: Requirement,
}

impl Watched {
    /// The caller as they are now; `None` once they would not be let in any more: the credential has expired, was
    /// ended or revoked, its account or tenant is not active, what the route requires is no longer theirs. No older than
    /// the directory's answers are, which is well below a second.
    ///
    /// # Errors
    /// When PostgreSQL cannot be asked: nobody is to be told more then.
    pub async fn still(&self, state: &AppState) -> Result<Option<Arc<Principal>>> {
        let Some(principal) = state.auth().resolve(self.token.expose_secret()).await? else {
            return Ok(None);
        };
        let same = principal.tenant == self.tenant;
        Ok((same && authorize::allowed(&principal, self.requirement).is_ok()).then_some(principal))
    }
}

impl FromRequestParts<AppState> for Watched {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &AppState) -> Result<Self> {
        let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let (Some(Authorized { principal, .. }), Some(requirement)) =
            (parts.extensions.get::<Authorized>(), routes::requirement(&parts.method, path))
        else {
            return Err(Problem::new(Code::Unauthenticated, "This route knows no caller."));
        };
        let token = authorize::bearer(&parts.headers)?.into();
        Ok(Self { token, tenant: principal.tenant, requirement })
    }
}
