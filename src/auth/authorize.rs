//! The gate before every handler: who calls, in which tenant, and whether the route's requirement is met.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use daybook_domain::{
    GrantId,
    permission::{Permission, Scope, Tier},
    support_session::SupportMode,
};
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};

use super::{
    api_key,
    named::{self, Named},
    principal::{Credential, Principal},
    routes::{self, Requirement},
    sightings::{self, Asked},
};
use crate::{
    access_log::{KeyCaller, whose},
    app::AppState,
    http::{
        context,
        disclosure::{self, Disclosure},
        headers::X_TENANT_SLUG,
        hijack, path,
        problem::{Code, Problem, Result},
    },
    limits::Allowance,
};

const INVALID: &str = r#"Bearer realm="daybook", error="invalid_token""#;

/// A caller who met the requirement of the route; in the request's extensions.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// Who.
    pub principal: Arc<Principal>,
    /// To how much.
    pub scope: Scope,
    /// By which grant, where not by themselves.
    pub grant: Option<GrantId>,
}

/// Refuses whoever the route is not for, and lets the others through with what is known of them.
pub async fn authorize(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match check(&state, &parts).await {
        Ok(None) => disclosure::scope(Disclosure::Clear, next.run(Request::from_parts(parts, body))).await,
        Ok(Some((authorized, allowance))) => {
            let caller = authorized.principal.clone();
            let asked = asked(&caller, &parts);
            parts.extensions.insert(authorized);
            if let Some(asked) = &asked {
                parts.extensions.insert(asked.clone());
            }
            let shown = Disclosure::to(&caller);
            let mut response = disclosure::scope(shown, next.run(Request::from_parts(parts, body))).await;
            if let Some(asked) = asked {
                response = sightings::record(&state, &caller, asked, response).await;
            }
            response.extensions_mut().insert(KnownCaller(caller));
            if let Some(allowance) = allowance {
                allowance.add_to(response.headers_mut());
            }
            response
        }
        Err(Refusal { problem, caller }) => {
            let mut response = problem.into_response();
            if let Some(caller) = caller {
                if let Some(asked) = asked(&caller, &parts) {
                    response = sightings::record(&state, &caller, asked, response).await;
                }
                response.extensions_mut().insert(KnownCaller(caller));
            }
            response
        }
    }
}

/// What is written down of a request in a support session or a hijack; `None` in any other.
fn asked(caller: &Principal, parts: &Parts) -> Option<Asked> {
    caller.within()?;
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let metadata = caller.metadata(context::client(parts));
    let about = parts.uri.path().split('/').filter_map(path::uuid).collect();
    Some(Asked { method: parts.method.clone(), route, about, metadata })
}

/// Whose request was answered, in the answer's extensions: a refusal is written down with who was refused.
#[derive(Clone, Debug)]
pub struct KnownCaller(pub Arc<Principal>);

/// A refusal by the gate, and of whom, once that is known.
struct Refusal {
    problem: Problem,
    caller: Option<Arc<Principal>>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, caller: None }
    }
}

async fn check(state: &AppState, parts: &Parts) -> Result<Option<(Authorized, Option<Allowance>)>, Refusal> {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let requirement = match routes::requirement(&parts.method, path) {
        Some(Requirement::Public) => {
            if !path.starts_with(routes::PUBLIC) || !parts.headers.contains_key(header::AUTHORIZATION) {
                return Ok(None);
            }
            // Guests have no session here: a key says whose booking site it is.
            if !bearer(&parts.headers)?.starts_with(api_key::PREFIX) {
                return Err(unauthenticated(HeaderValue::from_static(INVALID)).into());
            }
            Requirement::Public
        }
        Some(requirement) => requirement,
        // Another method of a route that is known: the router's own answer says which there are.
        None if routes::knows(path) => return Ok(None),
        None => {
            tracing::error!(path, "a route without a requirement was called; it answers nobody");
            return Err(Problem::new(Code::Forbidden, "This route is not open.").into());
        }
    };
    let principal = authenticate(state, &parts.headers).await?;
    let of_caller = |problem: Problem| Refusal { problem, caller: Some(principal.clone()) };
    let allowance = count(state, &principal, parts).await.map_err(of_caller)?;
    let marked = |problem: Problem| match &allowance {
        Some(allowance) => of_caller(allowance.mark(problem)),
        None => of_caller(problem),
    };
    tenant_agrees(state, &principal, &parts.headers).await.map_err(marked)?;
    may_in_masquerade(&principal, parts, path, requirement).map_err(marked)?;
    let scope = allowed(&principal, requirement).map_err(marked)?;
    let grant = match requirement.of_side(principal.tenant.is_some()) {
        Requirement::Tenant(resource, action, _) => principal.grant_behind(resource, action, scope),
        Requirement::Public
        | Requirement::SignedIn
        | Requirement::Platform(..)
        | Requirement::Either { .. } => None,
    };
    Ok(Some((Authorized { principal, scope, grant }, allowance)))
}

/// Counts a call with an API key, and sees to it that it is logged, however it is answered.
async fn count(state: &AppState, principal: &Principal, parts: &Parts) -> Result<Option<Allowance>> {
    let Credential::ApiKey(key) = principal.credential else { return Ok(None) };
    if let (Some(tenant), Some(caller)) = (principal.tenant, parts.extensions.get::<KeyCaller>()) {
        caller.set(tenant, key);
    }
    match principal.calls_per_hour {
        Some(calls) => state.limits().check_api_call(key, calls).await.map(Some),
        None => Ok(None),
    }
}

/// The caller behind the one credential of a request.
///
/// # Errors
/// `unauthenticated` without a valid one.
pub async fn authenticate(state: &AppState, headers: &HeaderMap) -> Result<Arc<Principal>> {
    let token = bearer(headers)?;
    if let Some(principal) = state.auth().resolve(token).await? {
        whose::is_of(&principal);
        return Ok(principal);
    }
    hijack::settle(state, token).await;
    Err(unauthenticated(HeaderValue::from_static(INVALID)))
}

/// What whoever is in a support session or a hijack must not do, whatever they are, or whoever they act as: what would
/// let them in again, or others, and take data out at large. In a redacted session nothing is changed at all.
///
/// # Errors
/// `support_read_only` or `forbidden`.
fn may_in_masquerade(
    principal: &Principal,
    parts: &Parts,
    path: &str,
    requirement: Requirement,
) -> Result<()> {
    if principal.within().is_none() {
        return Ok(());
    }
    let side = requirement.of_side(principal.tenant.is_some());
    if let Requirement::Tenant(resource, ..) | Requirement::Platform(resource, _) = side
        && resource.takes_out()
    {
        return Err(Problem::not_in_masquerade());
    }
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    // Leaving is open to everybody; and an attempt to go on to another account is refused, and written down, where it is
    // decided.
    if routes::LEAVES.contains(&(parts.method.as_str(), path)) {
        return Ok(());
    }
    if matches!(principal.credential, Credential::Support { mode: SupportMode::Redacted, .. }) {
        return Err(Problem::read_only());
    }
    let lets_in = match side {
        Requirement::SignedIn => true,
        Requirement::Tenant(resource, ..) | Requirement::Platform(resource, _) => resource.lets_in(),
        Requirement::Public | Requirement::Either { .. } => false,
    };
    if lets_in { Err(Problem::not_in_masquerade()) } else { Ok(()) }
}

/// A slug or an origin that names another tenant than the credential's is a contradiction, not a choice.
async fn tenant_agrees(state: &AppState, principal: &Principal, headers: &HeaderMap) -> Result<()> {
    let mismatch = |what: &str| {
        Problem::new(Code::TenantMismatch, format!("{what} names another tenant than the credentials."))
    };
    if let Some(slug) = headers.get(X_TENANT_SLUG) {
        let named = match slug.to_str() {
            Ok(slug) => state.tenant_of_slug(slug).await?,
            Err(_) => None,
        };
        if named.is_none() || named != principal.tenant {
            return Err(mismatch("X-Tenant-Slug"));
        }
    }
    match named::by_origin(state, headers).await? {
        Named::Nobody => Ok(()),
        Named::Tenant(named) if Some(named) == principal.tenant => Ok(()),
        Named::Tenant(_) | Named::Unknown => Err(mismatch("Origin")),
    }
}

/// To how much a caller may do what is required.
///
/// # Errors
/// `forbidden` when they may not.
pub(super) fn allowed(principal: &Principal, requirement: Requirement) -> Result<Scope> {
    match requirement {
        either @ Requirement::Either { .. } => allowed(principal, either.of_side(principal.tenant.is_some())),
        Requirement::Public => Ok(Scope::Own),
        // In a support session one has no account, which is for the handler to say.
        Requirement::SignedIn if principal.account().is_some() || principal.within().is_some() => {
            Ok(Scope::Own)
        }
        Requirement::SignedIn => Err(Problem::no_account()),
        Requirement::Tenant(resource, action, least) => {
            if principal.tenant.is_none() {
                return Err(Problem::new(
                    Code::Forbidden,
                    "The platform's own accounts have no access to a tenant's data.",
                ));
            }
            match principal.permissions.scope(resource, action) {
                // A scope that nothing narrows by is none: it must not count as the whole.
                Some(scope) if scope >= least && (Permission { resource, action, scope }).is_meaningful() => {
                    Ok(scope)
                }
                held => Err(refused(principal, Permission { resource, action, scope: least }, held)),
            }
        }
        Requirement::Platform(resource, action) => match principal.permissions.scope(resource, action) {
            Some(Scope::Platform) if principal.tenant.is_none() => Ok(Scope::Platform),
            held => Err(refused(principal, Permission { resource, action, scope: Scope::Platform }, held)),
        },
    }
}

/// Those who manage accounts are told what is missing and who has it; the others only that it is not theirs to do.
fn refused(principal: &Principal, needed: Permission, held: Option<Scope>) -> Problem {
    if !matches!(
        principal.tier,
        Tier::TenantOwner | Tier::TenantManager | Tier::Superuser | Tier::PlatformManager
    ) {
        return Problem::new(Code::Forbidden, "You may not do this.");
    }
    let tiers: Vec<&str> = Tier::ALL
        .iter()
        .filter(|tier| tier.is_platform() == principal.tenant.is_none())
        .filter(|tier| {
            tier.permissions()
                .scope(needed.resource, needed.action)
                .is_some_and(|scope| scope >= needed.scope)
        })
        .map(|tier| tier.as_str())
        .collect();
    let held =
        held.map_or_else(|| "does not have it at all".to_owned(), |scope| format!("has it for {scope} only"));
    let whose = if tiers.is_empty() { "no tier".to_owned() } else { tiers.join(", ") };
    Problem::new(
        Code::Forbidden,
        format!("This needs {needed}; {} {held}. It comes with: {whose}.", principal.tier),
    )
}

fn unauthenticated(challenge: HeaderValue) -> Problem {
    Problem::new(Code::Unauthenticated, "Send a valid access token as Authorization: Bearer.")
        .with_header(header::WWW_AUTHENTICATE, challenge)
}

/// The one bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let credentials = match (values.next(), values.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    };
    credentials
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| (1..=4_096).contains(&token.len()))
        .ok_or_else(|| unauthenticated(HeaderValue::from_static(r#"Bearer realm="daybook""#)))
}

#[cfg(test)]
mod tests {
    use daybook_domain::{
        ApiKeyId,
        permission::{Action, Resource},
    };

    use super::*;

    fn with(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    fn principal(tier: Tier) -> Principal {
        Principal {
            credential: Credential::ApiKey(ApiKeyId::default()),
            tenant: (!tier.is_platform()).then(daybook_domain::TenantId::default),
            tier,
            permissions: tier.permissions(),
            own: tier.permissions(),
            granted: Vec::new(),
            customer: None,
            assigned: Vec::new(),
            calls_per_hour: None,
            expires_at: None,
            ends: None,
            masked: false,
        }
    }

    #[test]
    fn a_bearer_token_is_the_only_credential() {
        assert_eq!(bearer(&with(header::AUTHORIZATION, &["bearer abc"])).unwrap(), "abc");
        for wrong in [&[][..], &["abc"], &["Basic abc"], &["Bearer "], &["Bearer a", "Bearer b"]] {
            assert_eq!(
                bearer(&with(header::AUTHORIZATION, wrong)).unwrap_err().code(),
                Code::Unauthenticated
            );
        }
    }

    #[test]
    fn a_scope_that_is_too_narrow_is_refused_and_explained_to_admins() {
        let needed = Requirement::Tenant(Resource::Bookings, Action::Update, Scope::Assigned);
        assert!(allowed(&principal(Tier::TenantManager), needed).is_ok());
        assert_eq!(allowed(&principal(Tier::Customer), needed).unwrap_err().code(), Code::Forbidden);
        let secrets = Requirement::Tenant(Resource::Secrets, Action::Update, Scope::Tenant);
        let text = format!("{:?}", allowed(&principal(Tier::TenantManager), secrets).unwrap_err());
        assert!(text.contains("secrets:update:tenant") && text.contains("tenant_owner"), "{text}");
        let text = format!("{:?}", allowed(&principal(Tier::TenantStaff), secrets).unwrap_err());
        assert!(!text.contains("secrets:update"), "{text}");
    }

    #[test]
    fn the_platform_has_no_access_to_a_tenants_data() {
        for requirement in routes::ROUTES.iter().map(|(_, _, requirement)| *requirement) {
            let tenants = matches!(requirement, Requirement::Tenant(..));
            assert!(!tenants || allowed(&principal(Tier::Superuser), requirement).is_err());
            let platforms = matches!(requirement, Requirement::Platform(..));
            assert!(!platforms || allowed(&principal(Tier::TenantOwner), requirement).is_err());
        }
    }
}
