//! Problem details (RFC 9457): the only form in which a request is refused, whatever refuses it.
//!
//! A [`Problem`] travels in the response's extensions; the outermost layer writes it, adds the request's id, and
//! logs the cause of a 5xx once. A client is never told a cause: `detail` is a sentence of ours, without the
//! offending value, and without personal data.

use std::{borrow::Cow, error::Error, fmt::Write as _, sync::Arc};

use axum::response::{IntoResponse, Response};
use daybook_domain::{DomainError, FieldError};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    eventstore::StoreError,
    ledger::LedgerError,
    tenancy::{TenancyError, is_passing},
};

/// What a handler answers with when it refuses.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// The content type of a problem.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:ident, $code:literal, $title:literal;)*) => {
        /// The stable codes of the contract, each with its status and title.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// The status it is answered with.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The code as clients see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The title, the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// Not JSON, or JSON no reader agrees on; a bad cursor or header.
    Malformed = BAD_REQUEST, "malformed", "The request cannot be read";
    /// No credentials, or bad ones.
    Unauthenticated = UNAUTHORIZED, "unauthenticated", "Authentication is required";
    /// Known but not allowed.
    Forbidden = FORBIDDEN, "forbidden", "Not allowed";
    /// The tenant's plan does not have it.
    PlanLimit = FORBIDDEN, "plan_limit", "Not in the plan";
    /// A redacted support session changes nothing.
    SupportReadOnly = FORBIDDEN, "support_read_only", "The support session is read only";
    /// The tenant named is not the caller's.
    TenantMismatch = FORBIDDEN, "tenant_mismatch", "The credentials are of another tenant";
    /// Absent, or another tenant's.
    NotFound = NOT_FOUND, "not_found", "Not found";
    /// The route has no such method.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed";
    /// No unit is free.
    SlotTaken = CONFLICT, "slot_taken", "The slot is taken";
    /// The schedule is closed then.
    Closed = CONFLICT, "closed", "Closed at this time";
    /// The state does not allow it.
    WrongState = CONFLICT, "wrong_state", "The current state does not allow this";
    /// A unique value is in use.
    AlreadyExists = CONFLICT, "already_exists", "Already exists";
    /// Nobody would be left to manage the accounts.
    LastAdmin = CONFLICT, "last_admin", "The last owner stays";
    /// The same key is being decided.
    IdempotencyInFlight = CONFLICT, "idempotency_in_flight", "A request with this key is in flight";
    /// The hold ran out and its place is gone.
    HoldExpired = GONE, "hold_expired", "The hold has expired";
    /// The plan does not keep history that far back.
    RetentionExpired = GONE, "retention_expired", "Past what the plan keeps";
    /// The version given is stale.
    VersionConflict = PRECONDITION_FAILED, "version_conflict", "The version is not the current one";
    /// More bytes than allowed.
    TooLarge = PAYLOAD_TOO_LARGE, "too_large", "The body is too large";
    /// Not JSON by its own account.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body must be JSON";
    /// Input that no state could accept.
    ValidationFailed = UNPROCESSABLE_ENTITY, "validation_failed", "The request is not valid";
    /// The key belongs to another request.
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The key was used with another body";
    /// `If-Match` is missing.
    PreconditionRequired = PRECONDITION_REQUIRED, "precondition_required", "If-Match is required";
    /// More requests than are allowed in the time.
    RateLimited = TOO_MANY_REQUESTS, "rate_limited", "Too many requests";
    /// The head of the request has too many bytes or fields.
    HeadersTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "The request's headers are too large";
    /// The address of the request has too many bytes.
    UriTooLong = URI_TOO_LONG, "uri_too_long", "The request's address is too long";
    /// A fault of ours.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong";
    /// The database is away, or a projection is behind.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "Not available right now";
}

/// A refusal on its way out.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    alternatives: Vec<Alternative>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    replayed: bool,
    cause: Option<Arc<dyn Error + Send + Sync>>,
    note: Option<&'static str>,
}

/// Where and when the same booking would be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alternative {
    /// The resource.
    pub resource_id: Uuid,
    /// The first night, of a stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_in: Option<chrono::NaiveDate>,
    /// The day of leaving, of a stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_out: Option<chrono::NaiveDate>,
    /// The start, of an appointment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<chrono::DateTime<chrono::FixedOffset>>,
    /// The end, of an appointment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<chrono::DateTime<chrono::FixedOffset>>,
}

/// The body of every refusal.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody<'a> {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:daybook:problem:slot_taken")]
    pub kind: String,
    /// The same for every problem of this kind.
    pub title: &'a str,
    /// The status, again.
    pub status: u16,
    /// What is wrong here, for people.
    pub detail: &'a str,
    /// A stable code for programs.
    #[schema(example = "slot_taken")]
    pub code: &'a str,
    /// The request's id, as in `X-Request-Id`.
    pub request_id: Uuid,
    /// Each field that is wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldProblem>)]
    pub errors: &'a [FieldError],
    /// Up to three other ways to the same booking.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub alternatives: &'a [Alternative],
}

/// One wrong field, for the schema; written as [`FieldError`].
#[derive(Debug, ToSchema)]
pub struct FieldProblem {
    /// RFC 6901 pointer into the body (`/check_out`), or `?name` of a query parameter.
    pub pointer: String,
    /// A stable code.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            alternatives: Vec::new(),
            headers: Vec::new(),
            replayed: false,
            cause: None,
            note: None,
        }))
    }

    /// The request cannot be read.
    pub fn malformed(detail: &'static str) -> Self {
        Self::new(Code::Malformed, detail)
    }

    /// Absent, or another tenant's: the two look the same.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "There is nothing here.")
    }

    /// A change that was asked for in a redacted support session.
    pub fn read_only() -> Self {
        Self::new(Code::SupportReadOnly, "A redacted support session reads, and changes nothing.")
    }

    /// What nobody does in a support session or as somebody else.
    pub fn not_in_masquerade() -> Self {
        Self::new(
            Code::Forbidden,
            "Accounts, roles, keys, grants, approvals and what goes with them are not changed in a support session or as \
             somebody else.",
        )
    }

    /// What is for people's own accounts, asked for without one.
    pub fn no_account() -> Self {
        Self::new(
            Code::Forbidden,
            "This is for people's own accounts; an API key has none, nor has a support session.",
        )
    }

    /// One wrong field.
    pub fn field(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { pointer: pointer.into(), code: code.into(), detail: detail.into() }])
    }

    /// Wrong fields.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::new(Code::ValidationFailed, "One or more fields are not valid.");
        problem.0.errors = errors;
        problem
    }

    /// Not now; the same request may work in a second.
    pub fn unavailable(detail: &'static str) -> Self {
        Self::new(Code::Unavailable, detail).with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// A fault of ours, with what to log.
    pub fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::new(Code::Internal, "The fault is logged under the request's id.").caused_by(Arc::new(cause))
    }

    fn caused_by(mut self, cause: Arc<dyn Error + Send + Sync>) -> Self {
        self.0.cause = Some(cause);
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Names other ways to the same booking.
    #[must_use]
    pub fn with_alternatives(mut self, alternatives: Vec<Alternative>) -> Self {
        self.0.alternatives = alternatives;
        self
    }

    /// Adds what was missing or exceeded (a permission, a limit), for the security log; the client is not told.
    #[must_use]
    pub fn with_note(mut self, note: &'static str) -> Self {
        self.0.note = Some(note);
        self
    }

    /// What was missing or exceeded.
    pub fn note(&self) -> Option<&'static str> {
        self.0.note
    }

    /// The kind of problem.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Each wrong field.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// The answer, once the request's id is known. Logs the cause of a 5xx.
    pub fn render(&self, request_id: Uuid) -> Response {
        let parts = &*self.0;
        let status = parts.code.status();
        if status.is_server_error() {
            let code = parts.code.as_str();
            // Without a cause nothing broke: a read was asked for what is not there yet, or took too long.
            match parts.cause.as_deref().map(chain) {
                Some(cause) => tracing::error!(%request_id, code, cause, "{}", parts.detail),
                None => tracing::warn!(%request_id, code, "{}", parts.detail),
            }
        }
        let body = ProblemBody {
            kind: format!("urn:daybook:problem:{}", parts.code.as_str()),
            title: parts.code.title(),
            status: status.as_u16(),
            detail: &parts.detail,
            code: parts.code.as_str(),
            request_id,
            errors: &parts.errors,
            alternatives: &parts.alternatives,
        };
        // A struct of strings always serialises.
        let mut response = (status, serde_json::to_vec(&body).unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        for (name, value) in &parts.headers {
            headers.insert(name.clone(), value.clone());
        }
        if parts.replayed {
            headers.insert(super::headers::IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// An error and its sources, for the log.
fn chain(error: &(dyn Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<DomainError> for Problem {
    fn from(error: DomainError) -> Self {
        match error {
            DomainError::Validation { errors } => Self::fields(errors),
            DomainError::NotFound { what } => Self::new(Code::NotFound, format!("There is no such {what}.")),
            DomainError::SlotTaken => {
                Self::new(Code::SlotTaken, "No unit is free for the whole of the time asked for.")
            }
            DomainError::Closed { date, .. } => {
                Self::new(Code::Closed, format!("It is closed on {date}, or for a part of that day."))
            }
            DomainError::HoldExpired => {
                Self::new(Code::HoldExpired, "The hold ran out, and its place has gone to another booking.")
            }
            DomainError::WrongState { state, detail } => {
                Self::new(Code::WrongState, format!("{detail} (the state is {state})"))
            }
            DomainError::AlreadyExists { what } => {
                Self::new(Code::AlreadyExists, format!("This {what} is in use."))
            }
            DomainError::ReasonRequired => {
                Self::field("/reason", "required", "a reason is required for this")
            }
            DomainError::Forbidden { detail } => {
                Self::new(Code::Forbidden, format!("Not allowed: {detail}."))
            }
            DomainError::ReadOnly => Self::read_only(),
            DomainError::SessionOver => {
                Self::new(Code::Unauthenticated, "The session that this was asked in is over.")
            }
            DomainError::LastAdmin => Self::new(
                Code::LastAdmin,
                "Nobody else could manage the accounts: the last active owner stays.",
            ),
            DomainError::VersionConflict => {
                Self::new(Code::VersionConflict, "It has changed since the version given in If-Match.")
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { error, replayed } => {
                let mut problem = Self::from(error);
                problem.0.replayed = replayed;
                problem
            }
            StoreError::KeyReused => Self::new(
                Code::IdempotencyKeyReused,
                "This Idempotency-Key was used with another body on this route.",
            ),
            StoreError::KeyInFlight => Self::new(
                Code::IdempotencyInFlight,
                "A request with this Idempotency-Key is being answered; repeat it in a moment.",
            )
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1")),
            StoreError::Database { ref source, .. } => of_database(is_passing(source), error),
            StoreError::Tenancy(error) => Self::from(*error),
            StoreError::Corrupt { .. } | StoreError::Sealing(_) => Self::internal(error),
            StoreError::ShuttingDown | StoreError::BatchFailed(_) => of_database(true, error),
        }
    }
}

impl From<TenancyError> for Problem {
    fn from(error: TenancyError) -> Self {
        match error {
            TenancyError::Database { ref source, .. } | TenancyError::Migration { ref source, .. } => {
                of_database(is_passing(source), error)
            }
            TenancyError::ForeignMigration { .. } => Self::internal(error),
            TenancyError::Store(error) => Self::from(error),
            TenancyError::UnknownTenant(_) => Self::not_found(),
        }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::NotYet => Self::unavailable("This is not under a signed checkpoint yet.")
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("10")),
            LedgerError::NotThere => Self::not_found(),
            LedgerError::Gone => {
                Self::new(Code::RetentionExpired, "Events were pruned here; their hashes are in the tree.")
            }
            LedgerError::Contended => Self::unavailable("Others sign this log at the same time."),
            LedgerError::Tenancy(error) => Self::from(error),
            LedgerError::Database { ref source, .. } => of_database(is_passing(source), error),
            LedgerError::Refused { .. }
            | LedgerError::Copy(_)
            | LedgerError::Sign(_)
            | LedgerError::Interrupted(_) => Self::internal(error),
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        of_database(is_passing(&error), error)
    }
}

fn of_database(passing: bool, cause: impl Error + Send + Sync + 'static) -> Problem {
    if passing {
        Problem::unavailable("The database cannot answer right now.").caused_by(Arc::new(cause))
    } else {
        Problem::internal(cause)
    }
}

#[cfg(test)]
mod tests;
