//! What is written down beside the log of events, in a tenant's own schema: calls made with API keys, sign-ins that were
//! refused, requests that failed. Kept in memory for about a second, then written for each tenant at once.
//!
//! Not events: they change nothing, there are far more of them, and anybody may cause them. What does not fit into memory
//! is dropped and counted, because no request waits for its line. Neither query nor body is in any of them.

mod floods;
pub mod whose;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::extract::MatchedPath;
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use daybook_domain::{ApiKeyId, Disclosed, TenantId};
use daybook_projections::{
    Schema,
    api_calls::{self, ApiCallRow},
    months::{self, MonthlyLog},
    refused_logins::{self, RefusedLoginRow},
    request_errors::{self, RequestErrorRow},
};
use http::StatusCode;
use sqlx::Executor as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::floods::{Minute, Repeats};
use crate::{
    auth::Principal,
    http::context::Anonymous,
    tenancy::{Access, Database, TenancyError, TenantTx},
};

/// How many lines wait to be written, at most.
const CAPACITY: usize = 50_000;
/// How often they are written.
const EVERY: Duration = Duration::from_secs(1);
/// How long it is tried to write a line.
const PATIENCE: Duration = Duration::from_secs(60);
/// Partitions that are known to be there; past it all are asked for again.
const MAX_PARTITIONS: usize = 50_000;
/// In the place of what lines that are counted together differ in.
const SEVERAL: &str = "several";

/// The caller of a request, once it has proved to be an API key; put into the request's extensions by the envelope and
/// filled by the gate, so that also a refused call is logged.
#[derive(Clone, Debug, Default)]
pub struct KeyCaller(Arc<OnceLock<(TenantId, ApiKeyId)>>);

impl KeyCaller {
    /// Says who it is.
    pub fn set(&self, tenant: TenantId, key: ApiKeyId) {
        // A request has one caller.
        let _ = self.0.set((tenant, key));
    }

    /// Who it is, if it is one.
    pub fn get(&self) -> Option<(TenantId, ApiKeyId)> {
        self.0.get().copied()
    }
}

/// A call that was answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its id.
    pub request_id: Uuid,
    /// The tenant and the key.
    pub caller: (TenantId, ApiKeyId),
    /// How it was called.
    pub method: &'static str,
    /// The template of its route.
    pub route: Option<MatchedPath>,
    /// How it was answered.
    pub status: u16,
    /// How long that took.
    pub latency: Duration,
}

/// A request that was not answered as was asked.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Its id.
    pub request_id: Uuid,
    /// Whoever asked, once they proved who they are.
    pub caller: Option<&'a Principal>,
    /// How it was called.
    pub method: &'static str,
    /// The template of its route.
    pub route: &'a str,
    /// How it was answered.
    pub status: StatusCode,
    /// The code of the problem.
    pub code: &'static str,
    /// How long that took.
    pub latency: Duration,
}

/// Whether a request answered so is written down among the errors: faults of ours, whatever was not allowed or too much,
/// and what the rules of bookings and fields refused. What could not be read, is not there or was out of date is the
/// client's to correct, and nothing that an auditor asks about.
pub fn matters(status: StatusCode) -> bool {
    const REFUSALS: [StatusCode; 6] = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::CONFLICT,
        StatusCode::GONE,
        StatusCode::UNPROCESSABLE_ENTITY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_server_error() || REFUSALS.contains(&status)
}

/// A line of one of the logs.
#[derive(Clone, Debug)]
enum Line {
    Call(ApiCallRow),
    Refused(RefusedLoginRow),
    Error(RequestErrorRow),
}

impl Line {
    fn log(&self) -> MonthlyLog {
        match self {
            Self::Call(_) => MonthlyLog::ApiCalls,
            Self::Refused(_) => MonthlyLog::RefusedLogins,
            Self::Error(_) => MonthlyLog::RequestErrors,
        }
    }

    fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Call(row) => row.at,
            Self::Refused(row) => row.at,
            Self::Error(row) => row.at,
        }
    }
}

impl Repeats for RefusedLoginRow {
    type Kind = (&'static str, &'static str, Option<Uuid>, Option<String>);

    fn kind(&self) -> Self::Kind {
        (self.kind, self.outcome, self.user_id, self.ip.expose().cloned())
    }

    fn lump(self) -> Self {
        Self { user_id: None, ip: Disclosed::ABSENT, user_agent: Disclosed::ABSENT, ..self }
    }

    fn count(&mut self) {
        self.times = self.times.saturating_add(1);
    }
}

impl Repeats for RequestErrorRow {
    type Kind = (String, String, i32, String, Option<String>, Option<String>);

    fn kind(&self) -> Self::Kind {
        let Self { method, route, status, code, actor, on_behalf_of, .. } = self.clone();
        (method, route, status, code, actor, on_behalf_of)
    }

    fn lump(self) -> Self {
        Self { method: SEVERAL.into(), route: SEVERAL.into(), actor: None, on_behalf_of: None, ..self }
    }

    fn count(&mut self) {
        self.times = self.times.saturating_add(1);
    }
}

struct Pending {
    since: Instant,
    tenant: TenantId,
    line: Line,
}

/// What waits: lines to be written, and what is counted until its minute is over.
#[derive(Default)]
struct Waiting {
    lines: Vec<Pending>,
    refused: HashMap<TenantId, Minute<RefusedLoginRow>>,
    errors: HashMap<TenantId, Minute<RequestErrorRow>>,
}

impl Waiting {
    fn push(&mut self, tenant: TenantId, line: Line) {
        if self.lines.len() < CAPACITY {
            self.lines.push(Pending { since: Instant::now(), tenant, line });
        } else {
            dropped(line.log(), 1);
        }
    }

    /// Lets what was counted be written: of the minutes that are over, or of all.
    fn settle(&mut self, all: bool) {
        for (tenant, row) in over(&mut self.refused, all) {
            self.push(tenant, Line::Refused(row));
        }
        for (tenant, row) in over(&mut self.errors, all) {
            self.push(tenant, Line::Error(row));
        }
    }
}

/// What was counted in the minutes that are over, which are let go of.
fn over<L: Repeats>(minutes: &mut HashMap<TenantId, Minute<L>>, all: bool) -> Vec<(TenantId, L)> {
    let ended = minutes.extract_if(|_, minute| all || minute.is_over());
    ended.flat_map(|(tenant, minute)| minute.end().map(move |line| (tenant, line))).collect()
}

/// The logs. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    waiting: Mutex<Waiting>,
    /// Held while lines are written: whoever flushes returns once all that waited before is in the log.
    writing: tokio::sync::Mutex<()>,
    partitions: Mutex<HashSet<(TenantId, MonthlyLog, NaiveDate)>>,
}

impl AccessLog {
    /// The logs of a database.
    pub fn new(database: Database) -> Self {
        let inner = Inner {
            database,
            waiting: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            partitions: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Notes a call that was just answered.
    pub fn record(&self, call: Call) {
        let (tenant, key) = call.caller;
        let row = ApiCallRow {
            at: began(call.latency),
            request_id: call.request_id,
            api_key_id: key.0,
            method: call.method.to_owned(),
            route: call.route.as_ref().map_or("unmatched", MatchedPath::as_str).to_owned(),
            status: i32::from(call.status),
            latency_us: i32::try_from(call.latency.as_micros()).unwrap_or(i32::MAX),
        };
        self.waiting().push(tenant, Line::Call(row));
    }

    /// Notes a sign-in, or a new password, that is refused: `kind` and `outcome` are those of [`refused_logins`]. Of many
    /// in a minute most are only counted.
    pub fn refused_login(
        &self,
        tenant: TenantId,
        (kind, outcome): (&'static str, &'static str),
        user_id: Option<Uuid>,
        client: &Anonymous,
    ) {
        let row = RefusedLoginRow {
            at: crate::clock::now(),
            request_id: client.request_id(),
            kind,
            outcome,
            user_id,
            ip: client.ip().map(str::to_owned).into(),
            user_agent: client.user_agent().map(str::to_owned).into(),
            times: 1,
        };
        let mut waiting = self.waiting();
        let minute = waiting.refused.entry(tenant).or_insert_with(Minute::new);
        if let Some(row) = minute.take(row) {
            waiting.push(tenant, Line::Refused(row));
        }
    }

    /// Notes a request of a tenant that was just answered, and not as was asked. Of many in a minute most are only counted.
    pub fn failed(&self, tenant: TenantId, failure: Failure<'_>) {
        let row = RequestErrorRow {
            at: began(failure.latency),
            request_id: failure.request_id,
            method: failure.method.to_owned(),
            route: failure.route.to_owned(),
            status: i32::from(failure.status.as_u16()),
            code: failure.code.to_owned(),
            actor: failure.caller.map(Principal::actor),
            on_behalf_of: failure.caller.and_then(Principal::on_behalf_of),
            times: 1,
        };
        let mut waiting = self.waiting();
        let minute = waiting.errors.entry(tenant).or_insert_with(Minute::new);
        if let Some(row) = minute.take(row) {
            waiting.push(tenant, Line::Error(row));
        }
    }

    /// Writes what waits, but for what is still being counted. What cannot be written is tried again for a minute.
    pub async fn flush(&self) {
        let _writing = self.inner.writing.lock().await;
        let mut by_tenant: HashMap<TenantId, Vec<Pending>> = HashMap::new();
        let lines = {
            let mut waiting = self.waiting();
            waiting.settle(false);
            std::mem::take(&mut waiting.lines)
        };
        for pending in lines {
            by_tenant.entry(pending.tenant).or_default().push(pending);
        }
        for (tenant, lines) in by_tenant {
            let Err(error) = self.write(tenant, &lines).await else { continue };
            tracing::warn!(
                %tenant,
                lines = lines.len(),
                error = &error as &dyn std::error::Error,
                "lines of the access logs are not written yet"
            );
            // A partition may have been dropped meanwhile.
            self.partitions().retain(|(of, ..)| *of != tenant);
            self.put_back(lines);
        }
    }

    /// Writes all that waits, also what would be counted for a while yet.
    pub async fn finish(&self) {
        self.waiting().settle(true);
        self.flush().await;
    }

    fn put_back(&self, lines: Vec<Pending>) {
        let mut waiting = self.waiting();
        for pending in lines {
            if pending.since.elapsed() < PATIENCE && waiting.lines.len() < CAPACITY {
                waiting.lines.push(pending);
            } else {
                dropped(pending.line.log(), 1);
            }
        }
    }

    async fn write(&self, tenant: TenantId, lines: &[Pending]) -> Result<(), TenancyError> {
        let failed = || TenancyError::db("write to the access logs");
        let schema = Schema::tenant(tenant);
        let mut tx = TenantTx::begin(self.inner.database.app(), &schema, Access::Write).await?;
        // Nobody is told that a line is in the log: the last second of it may be lost in a crash of PostgreSQL.
        tx.execute("SET LOCAL synchronous_commit = off").await.map_err(failed())?;
        let months: HashSet<(MonthlyLog, NaiveDate)> =
            lines.iter().filter_map(|it| Some((it.line.log(), month(it.line.at())?))).collect();
        let known = |log, month| self.partitions().contains(&(tenant, log, month));
        let new: Vec<_> = months.into_iter().filter(|(log, month)| !known(*log, *month)).collect();
        for (log, month) in &new {
            months::ensure_partition(&mut tx, *log, *month).await.map_err(failed())?;
        }
        let (mut calls, mut refused, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for pending in lines {
            match &pending.line {
                Line::Call(row) => calls.push(row),
                Line::Refused(row) => refused.push(row),
                Line::Error(row) => errors.push(row),
            }
        }
        if !calls.is_empty() {
            api_calls::insert(&mut tx, &calls).await.map_err(failed())?;
        }
        if !refused.is_empty() {
            refused_logins::insert(&mut tx, &refused).await.map_err(failed())?;
        }
        if !errors.is_empty() {
            request_errors::insert(&mut tx, &errors).await.map_err(failed())?;
        }
        tx.commit().await?;
        let mut partitions = self.partitions();
        if partitions.len() >= MAX_PARTITIONS {
            partitions.clear();
        }
        partitions.extend(new.into_iter().map(|(log, month)| (tenant, log, month)));
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partitions(&self) -> MutexGuard<'_, HashSet<(TenantId, MonthlyLog, NaiveDate)>> {
        self.inner.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the logs about every second until it is stopped, and then what is left.
pub async fn run(log: AccessLog, stop: CancellationToken) {
    while tokio::time::timeout(EVERY, stop.cancelled()).await.is_err() {
        log.flush().await;
    }
    log.finish().await;
}

fn began(latency: Duration) -> DateTime<Utc> {
    let now = crate::clock::now();
    chrono::TimeDelta::from_std(latency).map_or(now, |latency| now - latency)
}

/// The first day of its month, by which the logs are partitioned.
fn month(at: DateTime<Utc>) -> Option<NaiveDate> {
    at.date_naive().with_day(1)
}

fn dropped(log: MonthlyLog, lines: u64) {
    metrics::counter!("daybook_access_log_lines_dropped_total", "log" => log.table()).increment(lines);
}
