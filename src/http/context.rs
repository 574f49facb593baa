//! Who calls, in which tenant, and with which command: [`CallContext`] is the one extractor that proves it.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use daybook_domain::{
    Decider as _, SessionId, TenantId, UserId, envelope::Metadata, permission_grant::PermissionGrant,
};
use daybook_projections::Schema;
use http::{HeaderMap, header};
use uuid::Uuid;

use super::{
    client_address::ClientAddress,
    etag::IfMatch,
    headers::TRACEPARENT,
    idempotency::ScopedKey,
    problem::{Code, Problem, Result},
};
use crate::{
    app::AppState,
    auth::{Caller, Principal, authorize::Authorized},
    eventstore::{Command, Unit},
    keys::Keys,
    security_log::{SecurityEvent, SecurityEventKind},
};

/// The longest reason.
pub const MAX_REASON: usize = 500;
const MAX_USER_AGENT: usize = 200;

/// The request's id; put into the request's extensions before anything else happens.
#[derive(Clone, Copy, Debug)]
pub struct RequestId(pub Uuid);

/// A caller that proved who it is, and the tenant whose log and read models it may reach.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The caller.
    pub caller: Caller,
    /// The schema of its tenant.
    pub schema: Schema,
    /// The request's id.
    pub request_id: Uuid,
}

/// A [`CallContext`] that brings a command: also from where, under which key, on which version.
#[derive(Clone, Debug)]
pub struct CommandContext {
    /// The caller.
    pub call: CallContext,
    /// The version the caller saw.
    pub if_match: IfMatch,
    metadata: Metadata,
    key: Option<ScopedKey>,
}

impl FromRequestParts<AppState> for CallContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &AppState) -> Result<Self> {
        let Some(Authorized { principal, scope, .. }) = parts.extensions.get::<Authorized>() else {
            return Err(Problem::new(Code::Unauthenticated, "This route knows no caller."));
        };
        let Some(tenant) = principal.tenant else {
            return Err(Problem::new(Code::Forbidden, "This is for accounts of a tenant."));
        };
        let caller = Caller { tenant, principal: principal.clone(), scope: *scope };
        let request_id = parts.extensions.get::<RequestId>().map_or(Uuid::nil(), |id| id.0);
        Ok(Self { schema: caller.schema(), caller, request_id })
    }
}

impl FromRequestParts<AppState> for CommandContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let call = CallContext::from_request_parts(parts, state).await?;
        let mut metadata = call.caller.principal.metadata(client(parts));
        // What somebody does by a grant says so, for whoever asks how they could.
        if metadata.causation_id.is_none() {
            metadata.causation_id = parts
                .extensions
                .get::<Authorized>()
                .and_then(|authorized| authorized.grant)
                .map(|grant| format!("{}:{grant}", PermissionGrant::TYPE));
        }
        let headers = &parts.headers;
        let key =
            ScopedKey::parse(headers, &parts.method, parts.uri.path(), &call.caller.principal.caller())?;
        Ok(Self { call, if_match: IfMatch::parse(headers)?, metadata, key })
    }
}

/// Where a request is from, whoever sends it.
#[derive(Clone, Debug)]
pub struct Anonymous(Metadata);

impl<S: Send + Sync> FromRequestParts<S> for Anonymous {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        Ok(Self(client(parts)))
    }
}

/// Where a request is from, for the events it may lead to.
pub(crate) fn client(parts: &Parts) -> Metadata {
    Metadata {
        ip: ClientAddress::of(&parts.extensions).0.map(|ip| ip.to_string()),
        user_agent: user_agent(&parts.headers),
        source: Some("api".into()),
        request_id: parts.extensions.get::<RequestId>().map(|id| id.0),
        correlation_id: trace_id(&parts.headers),
        ..Metadata::default()
    }
}

impl Anonymous {
    /// The request's id.
    pub fn request_id(&self) -> Uuid {
        self.0.request_id.unwrap_or_default()
    }

    /// The client's address.
    pub fn ip(&self) -> Option<&str> {
        self.0.ip.as_deref()
    }

    /// The client's user agent.
    pub fn user_agent(&self) -> Option<&str> {
        self.0.user_agent.as_deref()
    }

    /// The metadata of what a user does who has just proved who they are.
    pub fn metadata(&self, user: UserId) -> Metadata {
        Metadata { actor: format!("user:{user}"), ..self.0.clone() }
    }

    /// The metadata of what somebody does who is known by something else.
    pub fn metadata_of(&self, actor: String) -> Metadata {
        Metadata { actor, ..self.0.clone() }
    }
}

/// A command of one of the platform's own people, to the platform's log.
#[derive(Clone, Debug)]
pub struct PlatformCommand {
    /// Who.
    pub principal: Arc<Principal>,
    /// The version they saw.
    pub if_match: IfMatch,
    metadata: Metadata,
    key: Option<ScopedKey>,
}

impl FromRequestParts<AppState> for PlatformCommand {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let SignedIn(principal) = SignedIn::from_request_parts(parts, state).await?;
        if principal.tenant.is_some() {
            return Err(Problem::new(Code::Forbidden, "This is for accounts of the platform."));
        }
        let metadata = principal.metadata(client(parts));
        let headers = &parts.headers;
        let key = ScopedKey::parse(headers, &parts.method, parts.uri.path(), &principal.caller())?;
        Ok(Self { principal, if_match: IfMatch::parse(headers)?, metadata, key })
    }
}

impl PlatformCommand {
    /// A line of the security log about what this command does in a tenant.
    pub fn security(&self, event: SecurityEventKind, tenant: TenantId) -> SecurityEvent {
        SecurityEvent::of(event, Some(tenant), &self.metadata)
    }

    /// The id that follows from the request's idempotency key, where it has one.
    pub fn idempotent_id(&self, keys: &Keys) -> Option<Uuid> {
        self.key.as_ref().map(|key| key.id(keys))
    }

    /// The metadata of commands whose answer cannot be made again, and which therefore have no idempotency key.
    ///
    /// # Errors
    /// `validation_failed` at `/reason` when it is too long or not text.
    pub fn metadata(self, reason: Option<String>) -> Result<Metadata> {
        Ok(Metadata { reason: checked_reason(reason)?, ..self.metadata })
    }

    /// The commands as one unit.
    ///
    /// # Errors
    /// `validation_failed` at `/reason` when it is too long or not text.
    pub fn unit(self, commands: Vec<Command>, reason: Option<String>, hash: [u8; 32]) -> Result<Unit> {
        let metadata = Metadata { reason: checked_reason(reason)?, ..self.metadata };
        let idempotency = self.key.map(|key| key.bind(hash));
        let within = self.principal.within();
        Ok(Unit { commands, metadata, occurred_at: None, idempotency, attached: Vec::new(), within })
    }
}

/// A signed-in user's command to their own account.
#[derive(Clone, Debug)]
pub struct OwnCommand {
    /// The user.
    pub user: UserId,
    /// The session they use.
    pub session: SessionId,
    /// Their tenant; `None` for the platform's own people.
    pub tenant: Option<TenantId>,
    metadata: Metadata,
}

impl FromRequestParts<AppState> for OwnCommand {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let SignedIn(principal) = SignedIn::from_request_parts(parts, state).await?;
        let Some((user, session)) = principal.session() else {
            return Err(Problem::new(Code::Forbidden, "An API key has no account."));
        };
        let client = Anonymous::from_request_parts(parts, state).await?;
        let role = Some(principal.tier.as_str().to_owned());
        let metadata = Metadata { role, ..client.metadata(user) };
        Ok(Self { user, session, tenant: principal.tenant, metadata })
    }
}

impl OwnCommand {
    /// The schema of their account.
    pub fn schema(&self) -> Schema {
        self.tenant.map_or_else(Schema::platform, Schema::tenant)
    }

    /// A line of the security log about what this command does.
    pub fn security(&self, event: SecurityEventKind) -> SecurityEvent {
        SecurityEvent::of(event, self.tenant, &self.metadata)
    }

    /// The unit of a command to their account.
    pub fn unit(&self, command: impl FnOnce(UserId) -> Command) -> Unit {
        Unit::of(command(self.user), self.metadata.clone())
    }
}

/// A user who is signed in, of a tenant or of the platform.
#[derive(Clone, Debug)]
pub struct SignedIn(pub Arc<Principal>);

impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        match parts.extensions.get::<Authorized>() {
            Some(Authorized { principal, .. }) => Ok(Self(principal.clone())),
            None => Err(Problem::new(Code::Unauthenticated, "This route knows no caller.")),
        }
    }
}

impl CommandContext {
    /// A line of the security log about what this command does.
    pub fn security(&self, event: SecurityEventKind) -> SecurityEvent {
        SecurityEvent::of(event, Some(self.call.caller.tenant), &self.metadata)
    }

    /// The metadata of a command whose answer cannot be made again, and which therefore has no idempotency key.
    ///
    /// # Errors
    /// `validation_failed` at `/reason` when it is too long or not text.
    pub fn metadata(self, reason: Option<String>) -> Result<Metadata> {
        Ok(Metadata { reason: checked_reason(reason)?, ..self.metadata })
    }

    /// The commands as one unit, with the reason given in the body and the body's hash.
    ///
    /// # Errors
    /// `validation_failed` at `/reason` when it is too long or not text.
    pub fn unit(self, commands: Vec<Command>, reason: Option<String>, hash: [u8; 32]) -> Result<Unit> {
        let mut metadata = self.metadata;
        metadata.reason = checked_reason(reason)?;
        let idempotency = self.key.map(|key| key.bind(hash));
        let within = self.call.caller.principal.within();
        Ok(Unit { commands, metadata, occurred_at: None, idempotency, attached: Vec::new(), within })
    }
}

/// A reason of blanks is no reason.
pub(super) fn checked_reason(reason: Option<String>) -> Result<Option<String>> {
    let Some(reason) = reason else { return Ok(None) };
    let reason = reason.trim();
    if reason.chars().count() > MAX_REASON {
        return Err(Problem::field("/reason", "too_long", "a reason has at most 500 characters"));
    }
    if reason.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(Problem::field("/reason", "control_character", "a reason has no control characters"));
    }
    Ok((!reason.is_empty()).then(|| reason.to_owned()))
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(MAX_USER_AGENT).collect())
}

/// The trace id of a `traceparent` (version-traceid-parent-flags); nothing of a malformed one.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let proper = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && trace.bytes().any(|b| b != b'0')
        && parent.bytes().any(|b| b != b'0');
    proper.then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_trace_is_followed_if_it_is_one() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = |text: String| trace_id(&with(TRACEPARENT, &[&text]));
        assert_eq!(parent(format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        assert_eq!(parent(format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))), None);
        assert_eq!(parent(format!("00-{id}-x-01")), None);
    }

    #[test]
    fn a_reason_is_short_text() {
        assert_eq!(checked_reason(Some("  ".into())).unwrap(), None);
        assert_eq!(checked_reason(Some(" why ".into())).unwrap().as_deref(), Some("why"));
        assert!(
            checked_reason(Some("x".repeat(501))).is_err() && checked_reason(Some("a\u{1}".into())).is_err()
        );
    }
}
