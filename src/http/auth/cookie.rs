//! The refresh cookie, and what keeps other sites from using it.

use cookie::{Cookie, SameSite, time::Duration};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    app::AppState,
    auth::{
        named::{Named, named_tenant},
        refresh_token::Shown,
    },
    http::{
        context::Anonymous,
        problem::{Code, Problem, Result},
    },
    security_log::{SecurityEvent, SecurityEventKind},
};

/// The cookie's name: the prefix makes browsers insist on `Secure`, `Path=/` and no `Domain` (RFC 6265bis, 4.1.3.2).
pub const NAME: &str = "__Host-daybook_refresh";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

fn cookie(value: &str, seconds: i64) -> Result<HeaderValue> {
    let cookie = Cookie::build((NAME, value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::None)
        .max_age(Duration::seconds(seconds))
        .build();
    HeaderValue::try_from(cookie.to_string()).map_err(Problem::internal)
}

/// The header that keeps a refresh token in the browser.
///
/// # Errors
/// `internal` when the token is not visible ASCII, which ours are.
pub fn set(token: &SecretString, seconds: i64) -> Result<HeaderValue> {
    cookie(token.expose_secret(), seconds)
}

/// The header that takes it out of the browser.
///
/// # Errors
/// Never: the value is a constant.
pub fn clear() -> Result<HeaderValue> {
    cookie("", 0)
}

/// The refresh token a request brings.
pub fn read(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(|cookie| cookie.ok())
        .find(|cookie| cookie.name() == NAME)
        .map(|cookie| cookie.value().to_owned())
}

/// Refuses a request that another site's page could have made a browser send: the cookie goes with it wherever it comes
/// from (`SameSite=None`), so it must be JSON, which needs a preflight, and from an origin that is allowed. A browser
/// says where a request is from; a program that says nothing has no cookie jar to abuse.
///
/// # Errors
/// `forbidden`, or `unsupported_media_type`.
pub async fn guard(state: &AppState, headers: &HeaderMap, client: &Anonymous) -> Result<()> {
    let guarded = allowed(state, headers).await;
    if guarded.as_ref().is_err_and(|problem| problem.code() == Code::Forbidden) {
        let metadata = client.metadata_of("anonymous".into());
        state.security_log().record(SecurityEvent::of(SecurityEventKind::OriginRefused, None, &metadata));
    }
    guarded
}

async fn allowed(state: &AppState, headers: &HeaderMap) -> Result<()> {
    let json = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|text| {
        text.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json")
    });
    if !json {
        return Err(Problem::new(Code::UnsupportedMediaType, "Send Content-Type: application/json."));
    }
    let refused = || Problem::new(Code::Forbidden, "This origin may not use the cookie.");
    match headers.get(header::ORIGIN) {
        Some(origin) => {
            let origin = origin.to_str().map_err(|_| refused())?;
            if !state.origin_allowed(origin).await? {
                return Err(refused());
            }
        }
        None => {
            let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
            if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
                return Err(refused());
            }
        }
    }
    Ok(())
}

/// Refuses the cookie of one tenant on the pages of another, or with its slug.
///
/// # Errors
/// `tenant_mismatch`; `unavailable` when the database is away.
pub async fn of_this_tenant(state: &AppState, headers: &HeaderMap, shown: &Shown) -> Result<()> {
    match named_tenant(state, headers).await? {
        Named::Nobody => Ok(()),
        Named::Tenant(named) if Some(named) == shown.tenant => Ok(()),
        Named::Tenant(_) | Named::Unknown => {
            Err(Problem::new(Code::TenantMismatch, "The cookie is of another tenant."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_for_browsers_and_not_for_scripts() {
        let header = set(&SecretString::from("p.abc"), 60).unwrap();
        let text = header.to_str().unwrap();
        for part in
            ["__Host-daybook_refresh=p.abc", "HttpOnly", "Secure", "SameSite=None", "Path=/", "Max-Age=60"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("Domain"));
        assert!(clear().unwrap().to_str().unwrap().contains("Max-Age=0"));
    }

    #[test]
    fn it_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; __Host-daybook_refresh=p.x; c=d".parse().unwrap());
        assert_eq!(read(&headers).as_deref(), Some("p.x"));
        assert_eq!(read(&HeaderMap::new()), None);
    }
}
