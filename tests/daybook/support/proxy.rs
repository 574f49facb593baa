//! A proxy between a server and PostgreSQL that holds one commit: before PostgreSQL hears of it, or before the server
//! hears that it is done. It reads the protocol as far as it must: TLS is off.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What is held back of a commit, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// PostgreSQL has committed; its answer is held, and lost.
    Answer,
    /// PostgreSQL is not told to commit, and never will be.
    Command,
    /// PostgreSQL is told to commit only when it is let go, whoever is still there to hear of it.
    Late,
    /// PostgreSQL is told to commit only when it is let go, and nobody notices but by the time it takes.
    Delay,
}

/// The proxy.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    armed: Mutex<Option<(Hold, &'static str)>>,
    /// Whether a commit is held now.
    held: watch::Sender<bool>,
    /// How often it was let go.
    released: watch::Sender<u64>,
}

impl Proxy {
    /// In front of the database of this URL.
    pub async fn start(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let behind = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            armed: Mutex::default(),
            held: watch::Sender::new(false),
            released: watch::Sender::new(0),
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (shared, behind) = (shared.clone(), behind.clone());
                    tokio::spawn(async move {
                        let Ok(server) = TcpStream::connect(behind).await else { return };
                        // Every message waits for its answer: none is to wait for company as well.
                        let at_once = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
                        at_once.unwrap();
                        let (from_client, to_client) = client.into_split();
                        let (from_server, to_server) = server.into_split();
                        let silent = watch::Sender::new(false);
                        let answers = tokio::spawn(backwards(
                            from_server,
                            to_client,
                            silent.subscribe(),
                            shared.held.clone(),
                        ));
                        // When one side is gone, so is the other: PostgreSQL rolls back what was open.
                        forwards(from_client, to_server, &shared, &silent).await;
                        answers.abort();
                    });
                }
            }
        });
        Self { address, shared, task }
    }

    /// The same database, through the proxy.
    pub fn url(&self, url: &str) -> String {
        let options: PgConnectOptions = url.parse().unwrap();
        url.replacen(&format!("@127.0.0.1:{}/", options.get_port()), &format!("@{}/", self.address), 1)
    }

    /// Holds the next commit of a transaction in which the server said `marker`.
    pub fn hold(&self, hold: Hold, marker: &'static str) {
        self.shared.held.send_replace(false);
        *self.shared.armed.lock().unwrap() = Some((hold, marker));
    }

    /// Waits until it holds.
    pub async fn held(&self) {
        let mut held = self.shared.held.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(60), held.wait_for(|held| *held)).await;
        waited.expect("nothing of the kind is committed").unwrap();
    }

    /// Lets go of what is held.
    pub fn let_go(&self) {
        self.shared.released.send_modify(|times| *times += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the server says to PostgreSQL, message by message, until one of them is gone.
async fn forwards(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    silent: &watch::Sender<bool>,
) {
    let mut marked: Option<(Hold, &'static str)> = None;
    // The first message has no type.
    let mut typed = false;
    while let Some((kind, message)) = message(&mut from, typed).await {
        typed = true;
        let wanted = *shared.armed.lock().unwrap();
        if let Some((hold, marker)) = wanted
            && message.windows(marker.len()).any(|part| part == marker.as_bytes())
        {
            marked = Some((hold, marker));
        }
        let says = |word: &str| kind == Some(b'Q') && message[5..].starts_with(word.as_bytes());
        if says("ROLLBACK") {
            marked = None;
        }
        if says("COMMIT")
            && let Some((hold, _)) = marked.take()
        {
            let taken = shared.armed.lock().unwrap().take();
            if taken.is_some() {
                let mut released = shared.released.subscribe();
                released.mark_unchanged();
                if hold == Hold::Answer {
                    silent.send_replace(true);
                    if to.write_all(&message).await.is_err() {
                        return;
                    }
                    // The way back says when it is committed.
                } else {
                    shared.held.send_replace(true);
                }
                let _ = released.changed().await;
                match hold {
                    Hold::Answer | Hold::Command => return,
                    Hold::Late => {
                        if to.write_all(&message).await.is_ok() {
                            // Until PostgreSQL hangs up it works on it.
                            tokio::time::sleep(Duration::from_millis(300)).await;
                        }
                        return;
                    }
                    Hold::Delay => {}
                }
            }
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// One message, whole.
async fn message(from: &mut OwnedReadHalf, typed: bool) -> Option<(Option<u8>, Vec<u8>)> {
    let mut message = vec![0; if typed { 5 } else { 4 }];
    from.read_exact(&mut message).await.ok()?;
    let kind = typed.then(|| message[0]);
    let length = u32::from_be_bytes(message[message.len() - 4..].try_into().unwrap()) as usize;
    let head = message.len();
    message.resize(head + length - 4, 0);
    from.read_exact(&mut message[head..]).await.ok()?;
    Some((kind, message))
}

/// What PostgreSQL answers, until it is to be kept back.
async fn backwards(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    silent: watch::Receiver<bool>,
    held: watch::Sender<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let answer = &buffer[..read];
        if *silent.borrow() {
            // Said only once PostgreSQL has: the tag of a command that is complete.
            if answer.windows(7).any(|part| part == b"COMMIT\0") {
                held.send_replace(true);
            }
        } else if to.write_all(answer).await.is_err() {
            return;
        }
    }
}
