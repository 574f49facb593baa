//! Who calls, in which tenant, and with which command: [`CallContext`] is the one extractor that proves it.

use axum::{extract::FromRequestParts, http::request::Parts};
use daybook_domain::envelope::Metadata;
use daybook_projections::Schema;
use http::{HeaderMap, HeaderValue, header};
use uuid::Uuid;

use super::{
    client_address::ClientAddress,
    etag::IfMatch,
    headers::{TRACEPARENT, X_TENANT_SLUG},
    idempotency::ScopedKey,
    problem::{Code, Problem, Result},
};
use crate::{
    app::AppState,
    eventstore::{Command, Unit},
    tenancy::Caller,
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

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let token = bearer(&parts.headers)?;
        let caller = state.directory().resolve_token(token).await?.ok_or_else(|| {
            unauthenticated(HeaderValue::from_static(r#"Bearer realm="daybook", error="invalid_token""#))
        })?;
        if let Some(slug) = parts.headers.get(X_TENANT_SLUG) {
            let named = match slug.to_str() {
                Ok(slug) => state.tenant_of_slug(slug).await?,
                Err(_) => None,
            };
            if named != Some(caller.tenant) {
                return Err(Problem::new(
                    Code::TenantMismatch,
                    "X-Tenant-Slug names another tenant than the token's.",
                ));
            }
        }
        let request_id = parts.extensions.get::<RequestId>().map_or(Uuid::nil(), |id| id.0);
        Ok(Self { schema: caller.schema(), caller, request_id })
    }
}

impl FromRequestParts<AppState> for CommandContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let call = CallContext::from_request_parts(parts, state).await?;
        let headers = &parts.headers;
        let metadata = Metadata {
            actor: call.caller.actor(),
            ip: ClientAddress::of(&parts.extensions).0.map(|ip| ip.to_string()),
            user_agent: user_agent(headers),
            source: Some("api".into()),
            request_id: Some(call.request_id),
            correlation_id: trace_id(headers),
            ..Metadata::default()
        };
        let key = ScopedKey::parse(headers, &parts.method, parts.uri.path(), &call.caller)?;
        Ok(Self { call, if_match: IfMatch::parse(headers)?, metadata, key })
    }
}

impl CommandContext {
    /// The commands as one unit, with the reason given in the body and the body's hash.
    ///
    /// # Errors
    /// `validation_failed` at `/reason` when it is too long or not text.
    pub fn unit(self, commands: Vec<Command>, reason: Option<String>, hash: [u8; 32]) -> Result<Unit> {
        let mut metadata = self.metadata;
        metadata.reason = checked_reason(reason)?;
        Ok(Unit { commands, metadata, occurred_at: None, idempotency: self.key.map(|key| key.bind(hash)) })
    }
}

/// A reason of blanks is no reason.
fn checked_reason(reason: Option<String>) -> Result<Option<String>> {
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

fn unauthenticated(challenge: HeaderValue) -> Problem {
    Problem::new(Code::Unauthenticated, "Send a valid access token as Authorization: Bearer.")
        .with_header(header::WWW_AUTHENTICATE, challenge)
}

fn bearer(headers: &HeaderMap) -> Result<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let credentials = match (values.next(), values.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    };
    credentials
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| (1..=512).contains(&token.len()))
        .ok_or_else(|| unauthenticated(HeaderValue::from_static(r#"Bearer realm="daybook""#)))
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
