//! An export on its way to whoever asked for it, whatever it is written as.

use std::time::{Duration, Instant};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use daybook_domain::{AuditExportId, envelope::Metadata};
use daybook_projections::Schema;
use futures_util::stream;
use http::{HeaderValue, Method, header};

use crate::{
    app::AppState,
    auth::watch::Watched,
    bundle::export::{Bundle, BundleError},
    export::{self, Export, ExportError, Range},
    http::{
        context::CallContext,
        disclosure::{self, Disclosure},
        headers::{X_EXPORT_ID, X_EXPORT_UNTIL, X_LOG_POSITION},
        problem::{Code, Problem, Result},
        respond::Surprise,
        retained,
    },
    limits::streams::Place,
};

/// How often the credential is looked at again.
const RECHECK: Duration = Duration::from_millis(150);

/// What is written as it is taken.
pub(super) trait Parts: Send + Sync + 'static {
    /// Why it breaks off.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The next bytes; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;

    /// How many events were written so far, and the position of the last of them.
    fn progress(&self) -> (u64, i64);

    /// Whether to ask again would give no more.
    fn is_final(error: &Self::Error) -> bool;
}

impl Parts for Export {
    type Error = ExportError;

    async fn next(&mut self) -> Result<Option<Bytes>, ExportError> {
        Ok(self.next().await?.map(|part| part.bytes))
    }

    fn progress(&self) -> (u64, i64) {
        self.progress()
    }

    fn is_final(error: &ExportError) -> bool {
        error.is_final()
    }
}

impl Parts for Bundle {
    type Error = BundleError;

    async fn next(&mut self) -> Result<Option<Bytes>, BundleError> {
        self.next().await
    }

    fn progress(&self) -> (u64, i64) {
        self.progress()
    }

    fn is_final(error: &BundleError) -> bool {
        error.is_final()
    }
}

/// That a caller may take the log out, and how far back.
pub(super) struct Allowed {
    /// The tenant's name in names of files.
    pub slug: String,
    /// The time by the database's clock.
    pub now: DateTime<Utc>,
    /// Where the readable part begins.
    pub cut: DateTime<Utc>,
    place: Place,
}

/// Whether a caller may take the log out, as one of not too many.
///
/// # Errors
/// `method_not_allowed` for HEAD, `forbidden`, `plan_limit`, or `rate_limited`.
pub(super) async fn allowed(state: &AppState, method: &Method, call: &CallContext) -> Result<Allowed> {
    // Nothing would be handed out, and an export written down that never ends.
    if *method == Method::HEAD {
        return Err(Problem::new(Code::MethodNotAllowed, "An export has no answer without a body.")
            .with_header(header::ALLOW, HeaderValue::from_static("GET")));
    }
    // The gate lets nobody through from whom anything is hidden; a file would show it.
    if disclosure::current() != Disclosure::Clear {
        return Err(Problem::not_in_masquerade());
    }
    let tenant = state.auth().active_tenant(call.caller.tenant).await?.ok_or_else(Problem::not_found)?;
    let now = tenant.retention.now();
    if tenant.retention.export_right(now).is_none() {
        return Err(Problem::new(Code::PlanLimit, "The plan has no exports of the log."));
    }
    let cut = tenant.retention.cut(now);
    let place = state.streams().enter_export(call.caller.tenant)?;
    Ok(Allowed { slug: tenant.slug.clone(), now, cut, place })
}

/// What is sent.
pub(super) struct Sent {
    /// The export, which has begun.
    pub id: AuditExportId,
    /// Its positions.
    pub range: Range,
    /// The file's name.
    pub name: String,
    /// What the file is.
    pub content_type: &'static str,
    /// The position of the event of its beginning.
    pub position: i64,
}

/// The answer that sends it.
///
/// # Errors
/// When a header cannot hold what is to be in it.
pub(super) fn answer(
    state: &AppState,
    schema: Schema,
    metadata: Metadata,
    watched: Watched,
    allowed: Allowed,
    parts: impl Parts,
    sent: Sent,
) -> Result<Response> {
    let sending = Sending {
        state: state.clone(),
        schema,
        id: sent.id,
        metadata,
        parts,
        watched,
        checked: Instant::now(),
        over: false,
        _place: allowed.place,
    };
    let body = stream::unfold(sending, |mut sending| async move {
        let part = sending.next().await?;
        Some((part, sending))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sent.content_type));
    let disposition = format!("attachment; filename=\"{}\"", sent.name);
    headers
        .insert(header::CONTENT_DISPOSITION, HeaderValue::try_from(disposition).map_err(Problem::internal)?);
    headers.insert(X_EXPORT_ID, HeaderValue::try_from(sent.id.to_string()).map_err(Problem::internal)?);
    headers.insert(X_EXPORT_UNTIL, HeaderValue::from(sent.range.until));
    headers.insert(X_LOG_POSITION, HeaderValue::from(sent.position));
    Ok(retained::mark(response, allowed.cut))
}

/// An export on its way.
struct Sending<P> {
    state: AppState,
    schema: Schema,
    id: AuditExportId,
    metadata: Metadata,
    parts: P,
    watched: Watched,
    /// When the credential was last looked at.
    checked: Instant,
    over: bool,
    _place: Place,
}

impl<P: Parts> Sending<P> {
    /// The next bytes; `None` once its end is noted. An error breaks the answer off, so that nobody takes it for whole.
    async fn next(&mut self) -> Option<Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> {
        if self.over {
            return None;
        }
        match self.go_on().await {
            Ok(Some(bytes)) => Some(Ok(bytes)),
            Ok(None) => {
                self.over = true;
                None
            }
            Err(error) => {
                self.over = true;
                tracing::warn!(id = %self.id, error = &*error as &dyn std::error::Error, "an export breaks off");
                Some(Err(error))
            }
        }
    }

    async fn go_on(&mut self) -> Result<Option<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        loop {
            // Another node goes on from where the caller is.
            if self.state.closing().is_cancelled() {
                return Err(Box::new(Surprise("the server stops")));
            }
            if self.checked.elapsed() >= RECHECK {
                let asked = Instant::now();
                if self
                    .watched
                    .still(&self.state)
                    .await
                    .map_err(|_| Surprise("nobody can say who asks"))?
                    .is_none()
                {
                    self.end(false).await?;
                    return Err(Box::new(Surprise("whoever asked is not let in any more")));
                }
                self.checked = asked;
            }
            match self.parts.next().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {
                    self.end(true).await?;
                    return Ok(None);
                }
                Err(error) if P::is_final(&error) => {
                    self.end(false).await?;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn end(&self, complete: bool) -> Result<(), crate::eventstore::StoreError> {
        let (rows, last) = self.parts.progress();
        // All that was asked for was looked at, also where the last of it is of no interest.
        let handed = (rows, last, complete);
        export::end(self.state.store(), &self.schema, self.id, handed, self.metadata.clone()).await.map(drop)
    }
}
