//! Header names of the contract, and the security headers that stand on every answer.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The request's id, made by the server.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names the tenant the caller means; checked against the credentials.
pub const X_TENANT_SLUG: HeaderName = HeaderName::from_static("x-tenant-slug");
/// The signed link of a guest to their own booking.
pub const X_GUEST_TOKEN: HeaderName = HeaderName::from_static("x-guest-token");
/// The log's position after a command.
pub const X_LOG_POSITION: HeaderName = HeaderName::from_static("x-log-position");
/// Position and leaf hash of each event of a command.
pub const X_LOG_RECEIPT: HeaderName = HeaderName::from_static("x-log-receipt");
/// The position a read must have seen.
pub const X_MIN_POSITION: HeaderName = HeaderName::from_static("x-min-position");
/// The position a client of a stream of events was told last.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Where the part of the log begins that the plan keeps: a list of history begins there at the earliest.
pub const X_READABLE_FROM: HeaderName = HeaderName::from_static("x-readable-from");
/// The id of an export.
pub const X_EXPORT_ID: HeaderName = HeaderName::from_static("x-export-id");
/// The position an export ends with.
pub const X_EXPORT_UNTIL: HeaderName = HeaderName::from_static("x-export-until");
/// The key under which a POST may be repeated.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks the answer to a repeated request.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Trusted only from the right, and only as many hops as are configured.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What is left of a limit.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The limit that it is left of.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// On every answer, whatever its status. The API answers JSON only, so nothing may be loaded or framed.
const SECURITY: [(HeaderName, HeaderValue); 7] = [
    (
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000; includeSubDomains; preload"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("geolocation=(), microphone=(), camera=()"),
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Marks an answer, in its extensions, that is a page for people: it may load its own files, and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Page;

/// Swagger UI sets styles on elements and draws its icons from `data:` URLs; its scripts are all files.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// Sets the security headers, and `no-store` unless the handler chose otherwise.
pub fn secure(headers: &mut HeaderMap, page: Option<Page>) {
    headers.reserve(SECURITY.len() + 2);
    for (name, value) in &SECURITY {
        headers.insert(name.clone(), value.clone());
    }
    if page.is_some() {
        headers.insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
