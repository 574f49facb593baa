//! A walk over every read of the API, as its own description tells of them, that looks for values which must not be
//! seen: in bodies, in headers, in refusals; as they are, in other cases and in the usual encodings.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    time::Duration,
};

use aho_corasick::AhoCorasick;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use flate2::read::MultiGzDecoder;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::app::{TestApp, read};

/// A stream that says nothing for so long has said all there is.
const SILENCE: Duration = Duration::from_millis(300);

/// What stands for personal data somewhere.
#[derive(Clone, Debug)]
pub struct Canary {
    /// What it is (`customer name`).
    pub what: &'static str,
    /// The value, which is found nowhere else.
    pub value: String,
}

/// What a walk has to know beforehand.
#[derive(Debug, Default)]
pub struct Known {
    /// The slug of the tenant, for routes that are asked without credentials.
    pub slug: String,
    /// What is looked for.
    pub canaries: Vec<Canary>,
    /// Ids of collections that have no list, or none that the caller may see, by the collection's path.
    pub ids: BTreeMap<String, Vec<String>>,
    /// More values worth trying, by the parameter's name.
    pub values: BTreeMap<String, Vec<String>>,
}

/// A canary that was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The template of the route.
    pub route: String,
    /// What was asked: path and query.
    pub asked: String,
    /// The answer's status.
    pub status: u16,
    /// `body`, or the name of the header.
    pub place: String,
    /// What was seen.
    pub what: &'static str,
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Walk {
    /// Every sight of a canary.
    pub findings: Vec<Finding>,
    /// The templates of the routes that put the marker of a hidden value into an answer.
    pub hiding: BTreeSet<String>,
    /// The templates of the routes that were asked about something that is there.
    pub routes_walked: BTreeSet<String>,
    /// The templates of routes for which no id is known: the walk says nothing about them.
    pub unreached: BTreeSet<String>,
    /// How each route answered.
    pub statuses: BTreeMap<String, BTreeSet<u16>>,
    /// Every question, with its route and the status it was answered with.
    pub answers: Vec<(String, String, u16)>,
}

impl Walk {
    /// The routes that showed a canary.
    pub fn telling(&self) -> BTreeSet<&str> {
        self.findings.iter().map(|finding| finding.route.as_str()).collect()
    }
}

/// The ways in which values are recognised: some in text in lower case, others in text as it is.
struct Needles {
    folded: Guises,
    exact: Guises,
}

/// Patterns that are all looked for at once, and what each stands for.
struct Guises {
    automaton: AhoCorasick,
    what: Vec<&'static str>,
}

impl Guises {
    fn of(patterns: BTreeSet<(String, &'static str)>) -> Self {
        let (patterns, what): (Vec<String>, Vec<&'static str>) = patterns.into_iter().unzip();
        Self { automaton: AhoCorasick::new(patterns).unwrap(), what }
    }

    fn seen_in<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'static str> {
        self.automaton.find_overlapping_iter(text).map(|found| self.what[found.pattern().as_usize()])
    }
}

impl Needles {
    fn of(canaries: &[Canary]) -> Self {
        let (mut folded, mut exact) = (BTreeSet::new(), BTreeSet::new());
        for Canary { what, value } in canaries {
            let form: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            for text in [value, &form, &form.replace('+', "%20")] {
                folded.insert((text.to_lowercase(), *what));
            }
            // A canary in lower case has the same letters, but other encodings.
            for text in [value.to_owned(), value.to_lowercase()] {
                folded.insert((hex::encode(&text), *what));
                // Inside of longer text it begins at any of three places of a group; the letters at its ends are not its own.
                for before in 0..3 {
                    let encoded = STANDARD_NO_PAD.encode([&vec![0; before], text.as_bytes()].concat());
                    let own = &encoded[[0, 2, 3][before]..encoded.len() - 1];
                    exact.insert((own.to_owned(), *what));
                    exact.insert((own.replace('+', "-").replace('/', "_"), *what));
                }
            }
        }
        Self { folded: Guises::of(folded), exact: Guises::of(exact) }
    }

    /// What is seen in a text, each once.
    fn seen_in(&self, text: &str) -> BTreeSet<&'static str> {
        self.exact.seen_in(text).chain(self.folded.seen_in(&text.to_lowercase())).collect()
    }
}

/// A question: the route's template, path and query, and whether it is asked with the token.
#[derive(Clone)]
struct Question {
    route: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    with_token: bool,
}

impl Question {
    fn with(&self, name: &str, value: &str) -> Self {
        let mut question = self.clone();
        question.query.retain(|(known, _)| known != name);
        question.query.push((name.to_owned(), value.to_owned()));
        question
    }
}

struct Parameter {
    name: String,
    required: bool,
    place: String,
    schema: Value,
}

struct Operation {
    route: String,
    public: bool,
    parameters: Vec<Parameter>,
}

impl Operation {
    fn of(route: &str, operation: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters = parameters.map(|parameter| Parameter {
            name: text(&parameter["name"]),
            required: parameter["required"] == true,
            place: text(&parameter["in"]),
            schema: parameter["schema"].clone(),
        });
        Self {
            route: route.to_owned(),
            public: operation["security"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one == &Value::Object(Default::default()))),
            parameters: parameters.collect(),
        }
    }

    fn in_query(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|parameter| parameter.place == "query")
    }
}

struct Walker<'a> {
    app: &'a TestApp,
    token: &'a str,
    known: &'a Known,
    needles: Needles,
    /// Ids by the path of their collection.
    ids: BTreeMap<String, BTreeSet<String>>,
    /// Aggregates, by type and id.
    streams: BTreeSet<(String, String)>,
    walk: Walk,
}

/// Questions that are open at once.
const AT_ONCE: usize = 12;
/// A list longer than this is not followed to its end.
const MOST_PAGES: usize = 150;
const API: &str = "/api/v1";
const TILES: &str = "/api/v1/audit/tile/{path}";
const STREAMS: &str = "/api/v1/audit/streams/{type}/{id}";

/// Asks every GET of the API's description for everything there is, with every parameter it knows, and with what makes it
/// refuse; says what canaries were seen.
pub async fn walk(app: &TestApp, token: &str, known: &Known) -> Walk {
    let document = read(app.client.get(format!("http://{}/api/schema/", app.address))).await.expect(200).body;
    let operations: Vec<Operation> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(route, methods)| Some(Operation::of(route, methods.get("get")?)))
        .collect();
    let ids = known.ids.iter().map(|(path, ids)| (path.clone(), ids.iter().cloned().collect())).collect();
    let needles = Needles::of(&known.canaries);
    let mut walker =
        Walker { app, token, known, needles, ids, streams: BTreeSet::new(), walk: Walk::default() };
    // Lists first: they tell the ids.
    let (lists, others): (Vec<&Operation>, Vec<&Operation>) =
        operations.iter().partition(|operation| !operation.route.contains('{'));
    for operation in &lists {
        for question in walker.plain(operation, &operation.route) {
            walker.pages(question.with_limit(operation, 200)).await;
        }
    }
    for operation in lists.into_iter().chain(others) {
        walker.operation(operation).await;
    }
    walker.walk
}

impl Question {
    fn with_limit(self, operation: &Operation, limit: u32) -> Self {
        if operation.in_query().any(|parameter| parameter.name == "limit") {
            self.with("limit", &limit.to_string())
        } else {
            self
        }
    }
}

impl Walker<'_> {
    /// A route's question with what it requires: with the token, and without where that is allowed.
    fn plain(&self, operation: &Operation, path: &str) -> Vec<Question> {
        let query = operation
            .in_query()
            .filter(|parameter| parameter.required)
            .map(|parameter| {
                (parameter.name.clone(), self.values(parameter).first().cloned().unwrap_or_default())
            })
            .collect();
        let question = Question {
            route: operation.route.clone(),
            path: path.to_owned(),
            query,
            headers: Vec::new(),
            with_token: true,
        };
        let slug = ("X-Tenant-Slug".to_owned(), self.known.slug.clone());
        let without = Question { with_token: false, headers: vec![slug], ..question.clone() };
        if operation.public { vec![question, without] } else { vec![question] }
    }

    /// The paths of a route; none when there is nothing to ask it about.
    fn paths(&self, route: &str) -> Vec<String> {
        if !route.contains('{') {
            return vec![route.to_owned()];
        }
        if route == TILES {
            // Whole or in part, of hashes and of leaves, and some that are not there.
            let all = ["0/000.p/1", "entries/000.p/9", "1/000", "0/x001/000", "x"].map(str::to_owned);
            let known = self.ids.get("/api/v1/audit/tile").cloned().unwrap_or_default();
            return known.into_iter().chain(all).map(|path| route.replace("{path}", &path)).collect();
        }
        if route == STREAMS {
            let path = |(kind, id): &(String, String)| route.replace("{type}", kind).replace("{id}", id);
            return self.streams.iter().map(path).collect();
        }
        let (collection, _) = route.split_once("/{id}").unwrap_or_else(|| panic!("{route} has no id"));
        let ids = self.ids.get(collection).into_iter().flatten();
        ids.map(|id| route.replace("{id}", id)).collect()
    }

    /// Values worth trying for a parameter, the most plausible one first.
    fn values(&self, parameter: &Parameter) -> Vec<String> {
        let name = parameter.name.as_str();
        let mut values: Vec<String> = self.known.values.get(name).cloned().unwrap_or_default();
        let schema = parameter.schema.to_string();
        let mut add = |more: &[&str]| values.extend(more.iter().map(|text| (*text).to_owned()));
        match name {
            // Sizes of trees.
            "from" | "to" if schema.contains("integer") => add(&["1", "3", "1000000"]),
            "from" => add(&["2031-05-01", "2020-01-01", "2031-05-01T00:00:00Z"]),
            "to" => add(&["2031-05-20", "2040-01-01", "2031-05-20T00:00:00Z"]),
            "limit" => add(&["1", "2", "0", "201"]),
            "as_of" => add(&["0", "1", "2040-01-01T00:00:00Z", "2001-01-01T00:00:00Z"]),
            "after" => add(&["0", "5", "1000000"]),
            "position" | "size" => add(&["1", "5", "1000000"]),
            "status" | "state" => add(&[
                "active",
                "invited",
                "deactivated",
                "deleted",
                "confirmed",
                "held",
                "cancelled",
                "requested",
                "approved",
                "open",
                "denied",
                "revoked",
                "expired",
            ]),
            "format" => add(&["ndjson", "csv", "parquet"]),
            "mode" => add(&["nights", "slot"]),
            "kind" => add(&["unit", "pool"]),
            "by" => add(&["month", "week", "day", "offering", "resource"]),
            "role" => add(&["tenant_owner", "tenant_staff"]),
            "type" => add(&["user.registered", "customer.registered", "booking.booked", "support.requested"]),
            "aggregate" => {
                values.extend(self.streams.iter().take(5).map(|(kind, id)| format!("{kind}:{id}")))
            }
            _ if schema.contains("boolean") => add(&["true", "false"]),
            _ if schema.contains("\"uuid\"") => {
                let collection = match name.trim_end_matches("_id") {
                    "api_key" => "api-keys".to_owned(),
                    "grantee" | "grantor" => "users".to_owned(),
                    thing => format!("{thing}s"),
                };
                let ids = self.ids.get(&format!("{API}/{collection}")).into_iter().flatten();
                values.extend(ids.take(3).cloned());
            }
            _ => {}
        }
        values
    }

    /// Values that a parameter should refuse, or find nothing by; of a text each canary as it is, and some in capitals.
    fn provoking(&self, parameter: &Parameter) -> Vec<String> {
        let mut values: Vec<String> =
            ["", "\0", "x", "-1", "'\"<%00>", &Uuid::nil().to_string(), &"x".repeat(1_001)]
                .map(str::to_owned)
                .into();
        let text = parameter.schema["type"] == "string" && parameter.schema.get("format").is_none();
        let some = if text { self.known.canaries.len() } else { 2 };
        for (number, canary) in self.known.canaries.iter().take(some).enumerate() {
            values.push(canary.value.clone());
            // A few in capitals as well: it is the comparison that is tried, not each value.
            values.extend((number < 4).then(|| canary.value.to_uppercase()));
        }
        values
    }

    async fn operation(&mut self, operation: &Operation) {
        let paths = self.paths(&operation.route);
        let Some(first) = paths.first() else {
            self.walk.unreached.insert(operation.route.clone());
            return;
        };
        let mut questions: Vec<Question> =
            paths.iter().flat_map(|path| self.plain(operation, path)).collect();
        let plain = self.plain(operation, first);
        for question in &plain {
            for parameter in operation.in_query() {
                let values = self.values(parameter).into_iter().chain(self.provoking(parameter));
                questions.extend(values.map(|value| question.with(&parameter.name, &value)));
            }
            for parameter in operation.parameters.iter().filter(|parameter| parameter.place == "header") {
                for value in ["0", "1", "x"].map(str::to_owned).into_iter().chain(self.values(parameter)) {
                    let mut question = question.clone();
                    question.headers.push((parameter.name.clone(), value));
                    questions.push(question);
                }
            }
            for canary in self.known.canaries.iter().take(3) {
                // A parameter that nobody knows, and a thing by its personal name.
                questions.push(question.with("nobody_knows_this", &canary.value));
                if operation.route.contains("{id}") {
                    let named: String = form_urlencoded::byte_serialize(canary.value.as_bytes()).collect();
                    questions.push(Question {
                        path: operation.route.replace("{id}", &named).replace("{type}", "user"),
                        ..question.clone()
                    });
                }
            }
        }
        if operation.in_query().any(|parameter| parameter.name == "cursor") {
            let each = paths.iter().flat_map(|path| self.plain(operation, path));
            for question in each.take(10).collect::<Vec<_>>() {
                self.pages(question.with("limit", "1")).await;
                // Whom a filter finds, page by page.
                let filters = operation.in_query().filter(|parameter| parameter.schema["type"] == "string");
                let canaries = self.known.canaries.iter().filter(|canary| canary.value.contains('@'));
                let pairs: Vec<Question> = filters
                    .filter(|parameter| parameter.name != "cursor")
                    .flat_map(|parameter| {
                        canaries.clone().map(|canary| question.with(&parameter.name, &canary.value))
                    })
                    .collect();
                for pair in pairs {
                    self.pages(pair.with("limit", "1")).await;
                }
            }
        }
        for some in questions.chunks(AT_ONCE) {
            let answers = join_all(some.iter().map(|question| self.ask(question))).await;
            for (question, (status, headers, body)) in some.iter().zip(answers) {
                self.note(question, status, &headers, &body);
            }
        }
        self.walk.routes_walked.insert(operation.route.clone());
    }

    /// Asks for a page and for all that follow it.
    async fn pages(&mut self, first: Question) {
        let mut question = first;
        for _ in 0..MOST_PAGES {
            let (status, headers, body) = self.ask(&question).await;
            self.note(&question, status, &headers, &body);
            let body: Value = serde_json::from_str(&body).unwrap_or_default();
            self.learn(&question.route, &body);
            let Some(cursor) = body["next_cursor"].as_str() else { return };
            question = question.with("cursor", cursor);
        }
    }

    /// The ids in a page.
    fn learn(&mut self, route: &str, body: &Value) {
        for item in body["items"].as_array().into_iter().flatten() {
            if let Some(id) = item["id"].as_str() {
                self.ids.entry(route.to_owned()).or_default().insert(id.to_owned());
            }
            if let (Some(kind), Some(id)) = (item["aggregate_type"].as_str(), item["aggregate_id"].as_str()) {
                self.streams.insert((kind.to_owned(), id.to_owned()));
            }
        }
    }

    async fn ask(&self, question: &Question) -> (u16, Vec<(String, String)>, String) {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&question.query).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request =
            self.app.client.get(format!("http://{}{}{mark}{query}", self.app.address, question.path));
        for (name, value) in &question.headers {
            request = request.header(name, value);
        }
        if question.with_token {
            request = request.bearer_auth(self.token);
        }
        let send = || request.try_clone().unwrap().send();
        let mut response = send().await.unwrap();
        // On a crowded machine not everything is answered at once: as clients do, it is asked again a little later.
        for _ in 0..3 {
            if response.status() != 503 {
                break;
            }
            sleep(Duration::from_secs(1)).await;
            response = send().await.unwrap();
        }
        let status = response.status().as_u16();
        let text =
            |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if kind == "application/gzip" {
            // What is packed is told as well.
            let (packed, mut said) = (response.bytes().await.unwrap(), Vec::new());
            MultiGzDecoder::new(&packed[..]).read_to_end(&mut said).unwrap();
            return (status, headers, String::from_utf8_lossy(&said).into_owned());
        }
        if !kind.starts_with("text/event-stream") {
            return (status, headers, String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned());
        }
        // It has no end: what it has to say by now is said when it falls silent.
        let mut said = Vec::new();
        while let Ok(Ok(Some(chunk))) = timeout(SILENCE, response.chunk()).await {
            said.extend_from_slice(&chunk);
        }
        (status, headers, String::from_utf8_lossy(&said).into_owned())
    }

    fn note(&mut self, question: &Question, status: u16, headers: &[(String, String)], body: &str) {
        let query = serde_json::to_string(&question.query).unwrap();
        let asked = format!("{} {query}", question.path);
        assert!(status < 500, "{asked}: {status} {body}");
        // Letters that JSON writes by number are the same letters.
        let escaped = body.contains('\\').then(|| serde_json::from_str::<Value>(body).ok()).flatten();
        let read = escaped.map_or_else(|| body.to_owned(), |read| read.to_string());
        let places =
            headers.iter().map(|(name, value)| (name.as_str(), value.clone())).chain([("body", read)]);
        if status == 200 && body.contains("[personal]") {
            self.walk.hiding.insert(question.route.clone());
        }
        for (place, text) in places {
            for what in self.needles.seen_in(&text) {
                self.walk.findings.push(Finding {
                    route: question.route.clone(),
                    asked: asked.clone(),
                    status,
                    place: place.to_owned(),
                    what,
                });
            }
        }
        self.walk.statuses.entry(question.route.clone()).or_default().insert(status);
        self.walk.answers.push((question.route.clone(), asked, status));
    }
}

#[test]
fn a_canary_is_seen_in_every_usual_guise() {
    let value = "Zq.Name7@canary.example";
    let needles = Needles::of(&[Canary { what: "it", value: value.to_owned() }]);
    let sees = |text: &str| !needles.seen_in(text).is_empty();
    let encoded = |text: String| STANDARD_NO_PAD.encode(text);
    for seen in [
        format!("to {value}."),
        value.to_uppercase(),
        "to=zq.name7%40CANARY.example".to_owned(),
        hex::encode(value),
        encoded(format!("{{\"a\":\"{value}\"}}")),
        encoded(format!("ab{value}c")),
        encoded(format!("a{}", value.to_lowercase())),
    ] {
        assert!(sees(&seen), "{seen}");
    }
    for other in ["[personal]", "Zq.Name8@canary.example", "canary.example"] {
        assert!(!sees(other), "{other}");
    }
}
