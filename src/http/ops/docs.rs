//! `GET /api/docs/`: Swagger UI over the OpenAPI document. Its files are part of the program: nothing is loaded from
//! elsewhere, neither when it is built nor by the browser.

use std::sync::{Arc, LazyLock};

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use utoipa_swagger_ui::Config;

use crate::http::{
    headers::Page,
    problem::{Problem, Result},
    respond::Surprise,
};

/// The validator that Swagger UI comes with is another server, which would be told of this one.
static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/api/schema/").validator_url("none")));

/// The page.
pub async fn index() -> Result<Response> {
    file("index.html")
}

/// What the page consists of.
pub async fn asset(Path(path): Path<String>) -> Result<Response> {
    file(&path)
}

fn file(path: &str) -> Result<Response> {
    let found = utoipa_swagger_ui::serve(path, CONFIG.clone())
        .map_err(|_| Problem::internal(Surprise("Swagger UI could not be configured")))?
        .ok_or_else(Problem::not_found)?;
    let mut response = found.bytes.into_owned().into_response();
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::try_from(found.content_type) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    // Every browser reads it; what else asks for these files can be told to.
    if found.gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.extensions_mut().insert(Page);
    Ok(response)
}
