//! `logs/security.log`: what concerns the security of the server, one JSON line an event, in files that are kept small.
//!
//! It names people by their ids and clients by their addresses; never an e-mail address, a password, a token or any
//! other value that a client sent.

use std::{borrow::Cow, net::IpAddr, num::NonZeroU32, path::Path, sync::Arc, time::SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use daybook_domain::{TenantId, envelope::Metadata};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::Extensions;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    auth::Principal,
    http::{
        client_address::{ClientAddress, LimitKey},
        context::RequestId,
        problem::{Code, Problem},
    },
    rotating_log::{RotatingLog, RotationSettings},
};

/// The most refusals of one kind that are written for one client in a minute: none may push everything else out.
const REFUSALS_PER_MINUTE: u32 = 20;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityEventKind {
    /// A sign-in with a wrong password, or of nobody.
    LoginFailed,
    /// A sign-in that was refused, or will be, after too many failures.
    LoginLocked,
    /// A sign-in.
    LoginSucceeded,
    /// A refresh token was used again: its family is revoked.
    RefreshReuse,
    /// Known, and not allowed.
    PermissionDenied,
    /// The tenant named is not the caller's.
    TenantMismatch,
    /// More requests than a limit allows.
    RateLimited,
    /// A code that is wrong, or was guessed at as often as is allowed.
    OtpFailed,
    /// Somebody asked for a new password.
    PasswordResetRequested,
    /// A password was changed, by whichever way.
    PasswordChanged,
    /// A request with a cookie came from a page that may not send it.
    OriginRefused,
    /// A session was ended by something else than its own logout.
    SessionRevoked,
    /// An account was made.
    SignedUp,
    /// An account was deleted.
    AccountDeleted,
    /// An API key was made.
    ApiKeyCreated,
    /// An API key was revoked.
    ApiKeyRevoked,
    /// A permission was granted to somebody for a while.
    PermissionGranted,
    /// Such a grant was revoked.
    PermissionGrantRevoked,
    /// Somebody would have granted a permission, or revoked a grant, and was refused.
    PermissionGrantRefused,
    /// One of the platform's people asked to look into a tenant.
    SupportRequested,
    /// A tenant let them in.
    SupportApproved,
    /// A tenant did not let them in.
    SupportDenied,
    /// A support request was taken back, or its window closed.
    SupportRevoked,
    /// One of the platform's people began a support session.
    SupportSessionStarted,
    /// They would have, and were refused.
    SupportSessionRefused,
    /// A support session was ended by somebody.
    SupportSessionEnded,
    /// Somebody began to act as somebody else.
    HijackStarted,
    /// They would have, and were refused.
    HijackRefused,
    /// Somebody acts as somebody else no more.
    HijackEnded,
    /// A support request was to be approved by whoever made it, or by nobody who may.
    SupportApprovalRefused,
}

/// One line of the log.
#[derive(Clone, Debug, Serialize)]
pub struct SecurityEvent {
    event: SecurityEventKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'static, str>>,
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    #[serde(flatten)]
    event: &'a SecurityEvent,
}

impl SecurityEvent {
    /// An event of this kind.
    #[must_use]
    pub fn new(event: SecurityEventKind) -> Self {
        Self { event, tenant: None, actor: None, ip: None, request_id: None, detail: None }
    }

    /// What a command does with this metadata.
    #[must_use]
    pub fn of(event: SecurityEventKind, tenant: Option<TenantId>, metadata: &Metadata) -> Self {
        Self {
            event,
            tenant,
            actor: Some(metadata.actor.clone()),
            ip: metadata.ip.as_deref().and_then(|ip| ip.parse().ok()),
            request_id: metadata.request_id,
            detail: None,
        }
    }

    /// As an event of another kind: a refusal, say, in place of what was asked.
    #[must_use]
    pub fn kind(mut self, event: SecurityEventKind) -> Self {
        self.event = event;
        self
    }

    /// In this tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// By, or to, this principal: an id such as `user:…` or `token:…`, never an e-mail address.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// In the request with these extensions: its id and its client's address.
    #[must_use]
    pub fn request(mut self, extensions: &Extensions) -> Self {
        self.ip = ClientAddress::of(extensions).0;
        self.request_id = extensions.get::<RequestId>().map(|id| id.0);
        self
    }

    /// From this address.
    #[must_use]
    pub fn ip(mut self, ip: Option<IpAddr>) -> Self {
        self.ip = ip;
        self
    }

    /// In the request of this id.
    #[must_use]
    pub fn request_id(mut self, id: Uuid) -> Self {
        self.request_id = Some(id);
        self
    }

    /// What else there is to know: ids and words of ours, nothing that a client wrote.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// A handle to the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct SecurityLog {
    log: RotatingLog,
    refusals: Arc<DefaultKeyedRateLimiter<(SecurityEventKind, LimitKey)>>,
}

impl SecurityLog {
    /// The log of a data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self::with(data_dir, RotationSettings::default())
    }

    /// The log of a data directory, of another size.
    pub fn with(data_dir: &Path, settings: RotationSettings) -> Self {
        let quota = Quota::per_minute(NonZeroU32::new(REFUSALS_PER_MINUTE).unwrap_or(NonZeroU32::MIN));
        Self {
            log: RotatingLog::new("security", data_dir.join("logs/security.log"), settings),
            refusals: Arc::new(RateLimiter::keyed(quota)),
        }
    }

    /// Adds an event. Never waits.
    pub fn record(&self, event: SecurityEvent) {
        metrics::counter!("daybook_security_events_total", "event" => event.event.as_str()).increment(1);
        // When it was recorded, for people to read: nothing is decided by it.
        let now = DateTime::<Utc>::from(SystemTime::now());
        let timestamp = now.to_rfc3339_opts(SecondsFormat::Micros, true);
        self.log.write(&Line { timestamp, event: &event });
    }

    /// Adds what a refusal means for security, if anything; called for each by the envelope. A client that is refused
    /// again and again is written down only so often.
    pub(crate) fn refused(
        &self,
        problem: &Problem,
        caller: Option<&Principal>,
        client: ClientAddress,
        request_id: Uuid,
    ) {
        let kind = match problem.code() {
            Code::RateLimited => SecurityEventKind::RateLimited,
            Code::TenantMismatch => SecurityEventKind::TenantMismatch,
            Code::Forbidden | Code::SupportReadOnly => SecurityEventKind::PermissionDenied,
            _ => return,
        };
        if self.refusals.check_key(&(kind, client.limit_key())).is_err() {
            metrics::counter!("daybook_security_events_suppressed_total", "event" => kind.as_str())
                .increment(1);
            return;
        }
        let mut event = SecurityEvent::new(kind).ip(client.0).request_id(request_id);
        event.detail = problem.note().map(Cow::Borrowed);
        if let Some(caller) = caller {
            event.tenant = caller.tenant;
            event.actor = Some(caller.actor());
        }
        self.record(event);
    }

    /// Forgets clients that have not been refused of late.
    pub(crate) fn prune(&self) {
        self.refusals.retain_recent();
        self.refusals.shrink_to_fit();
    }

    /// Waits until everything recorded before this is written.
    pub async fn flush(&self) {
        self.log.flush().await;
    }
}

impl SecurityEventKind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoginFailed => "login_failed",
            Self::LoginLocked => "login_locked",
            Self::LoginSucceeded => "login_succeeded",
            Self::RefreshReuse => "refresh_reuse",
            Self::PermissionDenied => "permission_denied",
            Self::TenantMismatch => "tenant_mismatch",
            Self::RateLimited => "rate_limited",
            Self::OtpFailed => "otp_failed",
            Self::PasswordResetRequested => "password_reset_requested",
            Self::PasswordChanged => "password_changed",
            Self::OriginRefused => "origin_refused",
            Self::SessionRevoked => "session_revoked",
            Self::SignedUp => "signed_up",
            Self::AccountDeleted => "account_deleted",
            Self::ApiKeyCreated => "api_key_created",
            Self::ApiKeyRevoked => "api_key_revoked",
            Self::PermissionGranted => "permission_granted",
            Self::PermissionGrantRevoked => "permission_grant_revoked",
            Self::PermissionGrantRefused => "permission_grant_refused",
            Self::SupportRequested => "support_requested",
            Self::SupportApproved => "support_approved",
            Self::SupportDenied => "support_denied",
            Self::SupportRevoked => "support_revoked",
            Self::SupportSessionStarted => "support_session_started",
            Self::SupportSessionRefused => "support_session_refused",
            Self::SupportSessionEnded => "support_session_ended",
            Self::HijackStarted => "hijack_started",
            Self::HijackRefused => "hijack_refused",
            Self::HijackEnded => "hijack_ended",
            Self::SupportApprovalRefused => "support_approval_refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    async fn lines(log: &SecurityLog, directory: &Path) -> Vec<Value> {
        log.flush().await;
        let text = std::fs::read_to_string(directory.join("logs/security.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn an_event_is_a_line_of_what_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let log = SecurityLog::new(directory.path());
        let (tenant, id) = (TenantId(Uuid::now_v7()), Uuid::now_v7());
        log.record(
            SecurityEvent::new(SecurityEventKind::LoginFailed)
                .tenant(tenant)
                .actor("user:1")
                .ip(Some([1, 2, 3, 4].into()))
                .request_id(id)
                .detail("wrong password"),
        );
        log.record(SecurityEvent::new(SecurityEventKind::RefreshReuse));
        let mut lines = lines(&log, directory.path()).await;
        for line in &mut lines {
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
        }
        let first = json!({
            "event": "login_failed", "tenant": tenant, "actor": "user:1", "ip": "1.2.3.4", "request_id": id,
            "detail": "wrong password",
        });
        assert_eq!(lines, [first, json!({"event": "refresh_reuse"})]);
    }

    #[tokio::test]
    async fn one_client_cannot_push_everything_else_out() {
        let directory = tempfile::tempdir().unwrap();
        let log = SecurityLog::new(directory.path());
        let client = |last| ClientAddress(Some([10, 0, 0, last].into()));
        for _ in 0..500 {
            log.refused(
                &Problem::new(Code::Forbidden, "no").with_note("a permission"),
                None,
                client(1),
                Uuid::nil(),
            );
        }
        log.refused(&Problem::new(Code::Forbidden, "no"), None, client(2), Uuid::nil());
        log.refused(&Problem::not_found(), None, client(1), Uuid::nil());
        let lines = lines(&log, directory.path()).await;
        let of = |ip: &str| lines.iter().filter(|line| line["ip"] == ip).count();
        assert!((20..25).contains(&of("10.0.0.1")), "{}", of("10.0.0.1"));
        assert_eq!(of("10.0.0.2"), 1);
        assert_eq!(
            (&lines[0]["event"], &lines[0]["detail"]),
            (&json!("permission_denied"), &json!("a permission"))
        );
        assert!(lines.iter().all(|line| line["event"] == "permission_denied"));
    }
}
