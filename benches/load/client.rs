//! The load generator: one keep-alive HTTP/1.1 connection a client, each sending its next request when the last one
//! is answered. Written by hand because it shares two cores with what it measures.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
};

use crate::report::Outcome;

/// What the clients send, and what they do with the answers.
pub trait Job: Send + Sync + 'static {
    /// Writes the next request, whole, to an empty buffer; `false` when there is none left.
    fn next(&self, request: &mut Vec<u8>) -> bool;

    /// Takes the body of an answer that was a success.
    fn answered(&self, _body: &[u8]) {}
}

/// The same request again and again.
pub struct Always(pub Vec<u8>);

impl Job for Always {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        request.extend_from_slice(&self.0);
        true
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect to the server")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(64 * 1024) })
    }

    /// The value of the cookie that the last answer set.
    pub fn cookie(&self) -> Option<String> {
        let end = self.answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&self.answer[..end]).ok()?;
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie:"))?;
        Some(line.split_once('=')?.1.split(';').next()?.to_owned())
    }

    /// Sends a request and reads the answer whole: its status and body.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.stream.write_all(request).await.context("send a request")?;
        self.answer.clear();
        let mut expected = None;
        loop {
            if let Some((head, length)) = expected
                && self.answer.len() >= head + length
            {
                let status = std::str::from_utf8(&self.answer[9..12])?.parse()?;
                return Ok((status, &self.answer[head..head + length]));
            }
            let read = self.stream.read_buf(&mut self.answer).await.context("read an answer")?;
            ensure!(read > 0, "the server closed the connection");
            if expected.is_none() {
                expected = measure(&self.answer)?;
            }
        }
    }
}

/// The lengths of head and body, once the head is there.
fn measure(answer: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end]).context("read a head")?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .with_context(|| format!("an answer without a length:\n{head}"))?;
    Ok(Some((end + 4, length.1.trim().parse()?)))
}

/// A GET, whole.
pub fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n").into_bytes()
}

/// Writes a POST with a header of its own, whole.
pub fn post_as(request: &mut Vec<u8>, path: &str, header: &str, body: &str) {
    let length = body.len();
    request.extend_from_slice(
        format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\n{header}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
}

/// Writes a POST, whole.
pub fn post(request: &mut Vec<u8>, path: &str, token: &str, body: &str) {
    let length = body.len();
    for part in [
        "POST ",
        path,
        " HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer ",
        token,
        "\r\ncontent-type: application/json\r\ncontent-length: ",
        &length.to_string(),
        "\r\n\r\n",
        body,
    ] {
        request.extend_from_slice(part.as_bytes());
    }
}

/// Lets so many clients send for so long, after a tenth of it to warm up. An answer that is no success ends the
/// benchmark: a rate of refusals would mean nothing.
pub async fn run(
    address: SocketAddr,
    clients: usize,
    duration: Duration,
    job: Arc<dyn Job>,
) -> anyhow::Result<Outcome> {
    let ready = Arc::new(Barrier::new(clients));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (job, ready) = (job.clone(), ready.clone());
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            ready.wait().await;
            client(&mut connection, job.as_ref(), duration).await
        });
    }
    Outcome::collect(tasks).await
}

async fn client(
    connection: &mut Connection,
    job: &dyn Job,
    duration: Duration,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let begin = Instant::now() + duration / 10;
    let end = begin + duration;
    let mut request = Vec::with_capacity(2_048);
    let mut latencies = Vec::with_capacity(16 * 1024);
    loop {
        let sent = Instant::now();
        request.clear();
        if sent >= end || !job.next(&mut request) {
            return Ok((latencies, begin.elapsed()));
        }
        let (status, body) = connection.exchange(&request).await?;
        ensure!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(body));
        if sent >= begin {
            latencies.push(sent.elapsed());
        }
        job.answered(body);
    }
}
