//! What surrounds every request, in one layer: its id, its time limit, panics, problems, headers, metrics.

use std::{panic::AssertUnwindSafe, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderValue, Method};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    client_address::ClientAddress,
    context::RequestId,
    headers::{X_REQUEST_ID, secure},
    problem::{Code, Problem, Result},
    respond::Surprise,
};
use crate::{
    access_log::{self, Call, Failure, KeyCaller, whose::Whose},
    app::AppState,
    auth::authorize::KnownCaller,
};

/// The longest path and query.
const MAX_URI: usize = 8_192;
/// The most header fields, and the most bytes of all their names and values; hyper gives up far beyond both.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32_768;

/// Runs a request.
pub async fn envelope(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = Uuid::now_v7();
    request.extensions_mut().insert(RequestId(id));
    let client =
        ClientAddress::find(request.headers(), request.extensions(), state.settings().trusted_proxy_hops);
    request.extensions_mut().insert(client);
    let caller = KeyCaller::default();
    request.extensions_mut().insert(caller.clone());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = method_name(request.method());

    let whose = Whose::default();
    let mut response = whose.scope(run(&state, request, next)).await;
    let mut code = Code::Internal;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let known = response.extensions_mut().remove::<KnownCaller>();
        let known = known.as_ref().map(|KnownCaller(principal)| principal.as_ref());
        state.security_log().refused(&problem, known, client, id);
        code = problem.code();
        let rendered = problem.render(id);
        // What the router added stays (Allow on a 405); the rest is the problem's.
        let mut headers = std::mem::take(response.headers_mut());
        headers.remove(http::header::CONTENT_LENGTH);
        response = rendered;
        for (name, value) in headers {
            if let Some(name) = name {
                response.headers_mut().entry(name).or_insert(value);
            }
        }
    }
    let page = response.extensions().get().copied();
    let headers = response.headers_mut();
    secure(headers, page);
    let mut buffer = Uuid::encode_buffer();
    if let Ok(value) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer)) {
        headers.insert(X_REQUEST_ID, value);
    }

    let status = response.status();
    let elapsed = started.elapsed();
    if let Some(caller) = caller.get() {
        let (route, status) = (route.clone(), status.as_u16());
        let call = Call { request_id: id, caller, method, route, status, latency: elapsed };
        state.access_log().record(call);
    }
    let route = template(route.as_ref());
    if access_log::matters(status)
        && let Some(tenant) = whose.tenant()
    {
        let (request_id, caller, code) = (id, whose.caller(), code.as_str());
        let failure = Failure { request_id, caller, method, route, status, code, latency: elapsed };
        state.access_log().failed(tenant, failure);
    }
    metrics::histogram!(
        "daybook_http_request_duration_seconds",
        "method" => method, "route" => route.to_owned(), "status" => status_class(status.as_u16())
    )
    .record(elapsed.as_secs_f64());
    tracing::debug!(request_id = %id, method, route, status = status.as_u16(), ?elapsed, "answered");
    response
}

/// The route's template; paths that are no route are one, however many there are.
fn template(route: Option<&MatchedPath>) -> &str {
    route.map_or("unmatched", MatchedPath::as_str)
}

/// Lets a request through to its handler, or refuses it.
pub async fn admission(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match admit(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Refuses what no handler should see: heads beyond all measure, and one request too many.
fn admit(state: &AppState, request: &Request) -> Result<()> {
    let extensions = request.extensions();
    state.limits().check_route(template(extensions.get()), ClientAddress::of(extensions))?;
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if path > MAX_URI {
        return Err(Problem::new(Code::UriTooLong, "The path and query have at most 8,192 bytes."));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(Problem::new(
            Code::HeadersTooLarge,
            "There are at most 64 header fields, of 32,768 bytes altogether.",
        ));
    }
    Ok(())
}

async fn run(state: &AppState, request: Request, next: Next) -> Response {
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match timeout(state.settings().request_timeout, handled).await {
        Ok(Ok(response)) => response,
        // The panic's own message is already in the log, by the panic hook.
        Ok(Err(_)) => Problem::internal(Surprise("the handler panicked")).into_response(),
        Err(_) => Problem::unavailable("The request took too long.").into_response(),
    }
}

/// 404 for what is no route.
pub async fn not_found() -> Problem {
    Problem::not_found()
}

/// 405 for a route without the method.
pub async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed, "This route has no such method.")
}

/// Only known methods become labels: a client could make up any number of others.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
