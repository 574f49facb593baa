//! Mail from the outbox to a mailbox or a mail server.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use daybook::{
    mail::{
        Message, MessageKind, Part, SealError, SealedMessage, Sealer, Transport, outbox,
        templates::{self, Addressee},
    },
    tenancy::{Access, Schema, TenantDirectory, TenantTx},
    workers::mailer::{self, MailWorker, Mailer, MailerSettings},
};
use daybook_domain::{Email, TenantId, tenant::TenantCommand};
use secrecy::SecretString;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::support::site::{Site, by};

const LINK: &str = "https://book.example/reset?token=abc123";

/// Not a seal, but bound to its tenant, and what it makes does not show what is in it.
struct Reversible;

impl Sealer for Reversible {
    fn seal(&self, tenant: Option<TenantId>, part: Part, plaintext: &[u8]) -> Result<String, SealError> {
        Ok(format!("{tenant:?}{part:?}|{}", hex::encode(plaintext)))
    }

    fn open(
        &self,
        tenant: Option<TenantId>,
        part: Part,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let rest = sealed.strip_prefix(&format!("{tenant:?}{part:?}|")).ok_or(SealError)?;
        hex::decode(rest).map(Zeroizing::new).map_err(|_| SealError)
    }

    fn recognise(&self, _: Option<TenantId>, address: &str) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.iter_mut().zip(address.to_lowercase().bytes()).for_each(|(to, byte)| *to = byte);
        hash
    }
}

/// Fast enough for a test.
fn quick() -> MailerSettings {
    MailerSettings {
        round: Duration::from_millis(50),
        visibility: Duration::from_secs(30),
        first_retry: Duration::from_millis(100),
        longest_retry: Duration::from_millis(200),
        ..MailerSettings::default()
    }
}

fn worker(site: &Site, transport: Transport, settings: MailerSettings) -> MailWorker {
    MailWorker {
        database: site.store.database().clone(),
        directory: TenantDirectory::new(site.store.database().clone()),
        transport: Arc::new(transport),
        sealer: Arc::new(Reversible),
        mailer: Mailer::default(),
        settings,
    }
}

fn files(directory: &Path) -> Transport {
    Transport::files(directory.join("mail"), "Daybook <noreply@localhost>").unwrap()
}

fn smtp(address: SocketAddr) -> Transport {
    Transport::smtp(&SecretString::from(format!("smtp://{address}")), "Daybook <noreply@daybook.example>")
        .unwrap()
}

/// A worker in the background, until it is stopped.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(worker: MailWorker) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(mailer::run(worker, stop.clone())), stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn reset_link() -> Message {
    let to = Addressee { email: Email::new("ada@example.org", "").unwrap(), user: None };
    let link = SecretString::from(LINK.to_owned());
    templates::password_reset_link(to, "Camp River", &link, Duration::from_secs(86_400))
}

/// Queues a message in a committed transaction of the schema's own role.
async fn queue(site: &Site, schema: &Schema, message: Message) -> SealedMessage {
    let sealed = message.seal(&Reversible, schema.tenant_id()).unwrap();
    let mut tx = TenantTx::begin(site.store.database().app(), schema, Access::Write).await.unwrap();
    outbox::insert(&mut tx, schema, &sealed).await.unwrap();
    tx.commit().await.unwrap();
    sealed
}

/// What the row says.
#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
struct Row {
    status: String,
    attempts: i32,
    last_error: Option<String>,
    sealed_body: Option<String>,
}

async fn row(site: &Site, schema: &Schema, message: &SealedMessage) -> Row {
    let sql = schema.sql("SELECT status, attempts, last_error, sealed_body FROM {s}.messages WHERE id = $1");
    sqlx::query_as(&sql).bind(message.id()).fetch_one(site.owner()).await.unwrap()
}

/// Waits until the row has this status.
async fn wait_for(site: &Site, schema: &Schema, message: &SealedMessage, status: &str) -> Row {
    let began = Instant::now();
    loop {
        let row = row(site, schema, message).await;
        if row.status == status {
            return row;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "still {row:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn mails(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("mail")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn mail_reaches_the_mailbox_and_its_body_leaves_the_database() {
    let site = Site::open().await;
    let directory = tempfile::tempdir().unwrap();
    // A round that never comes again: what is queued after the first is sent because of the hint.
    let settings = MailerSettings { round: Duration::from_secs(3_600), ..quick() };
    let worker = worker(&site, files(directory.path()), settings);
    let mailer = worker.mailer.clone();
    let running = Running::start(worker);
    for schema in [&site.schema, &Schema::platform()] {
        let message = queue(&site, schema, reset_link()).await;
        let stored = row(&site, schema, &message).await;
        assert!(!format!("{stored:?}").contains("abc123"));
        mailer.wake(schema);
        let sent = wait_for(&site, schema, &message, "sent").await;
        assert_eq!((sent.attempts, sent.last_error, sent.sealed_body), (1, None, None));
        let file = directory.path().join(format!("mail/{}.eml", message.id()));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(LINK) && text.contains("To: ada@example.org"), "{text}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let mode = fs::metadata(directory.path().join("mail")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(mails(directory.path()).len(), 2, "nothing else, nothing unfinished");
    running.end().await;
}

#[tokio::test]
async fn a_server_that_puts_off_is_asked_again_and_takes_the_mail_once() {
    let site = Site::open().await;
    let server = SmtpServer::start(&["451 4.3.0 try later, ada@example.org", "250 taken"]).await;
    let running = Running::start(worker(&site, smtp(server.address), quick()));
    let message = queue(&site, &site.schema, reset_link()).await;
    let sent = wait_for(&site, &site.schema, &message, "sent").await;
    assert_eq!((sent.attempts, sent.sealed_body), (2, None));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let taken = server.taken();
    assert_eq!(taken.len(), 1);
    assert!(taken[0].contains(LINK) && taken[0].contains(&message.id().to_string()), "{}", taken[0]);
    assert!(taken[0].starts_with("MAIL FROM:<noreply@daybook.example>"), "{}", taken[0]);
    running.end().await;
}

#[tokio::test]
async fn a_refusal_is_final_and_only_its_class_is_kept() {
    let site = Site::open().await;
    let server = SmtpServer::start(&["550 5.1.1 no such user ada@example.org", "250 taken"]).await;
    let running = Running::start(worker(&site, smtp(server.address), quick()));
    let message = queue(&site, &site.schema, reset_link()).await;
    let failed = wait_for(&site, &site.schema, &message, "failed").await;
    let expected = Row {
        status: "failed".into(),
        attempts: 1,
        last_error: Some("smtp_permanent".into()),
        sealed_body: None,
    };
    assert_eq!(failed, expected);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.taken().len(), 0);
    running.end().await;
}

#[tokio::test]
async fn a_message_is_given_up_after_its_last_attempt() {
    let site = Site::open().await;
    // A port that nobody listens on any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = MailerSettings { attempts: 3, ..quick() };
    let running = Running::start(worker(&site, smtp(address), settings));
    let message = queue(&site, &site.schema, reset_link()).await;
    let failed = wait_for(&site, &site.schema, &message, "failed").await;
    assert_eq!((failed.attempts, failed.sealed_body), (3, None));
    assert_eq!(failed.last_error.as_deref(), Some("smtp_connection"));
    running.end().await;
}

#[tokio::test]
async fn two_nodes_do_not_send_one_message_twice() {
    let site = Site::open().await;
    let server = SmtpServer::start(&[]).await;
    let mut messages = Vec::new();
    for _ in 0..20 {
        messages.push(queue(&site, &site.schema, reset_link()).await);
    }
    let nodes: Vec<_> =
        (0..3).map(|_| Running::start(worker(&site, smtp(server.address), quick()))).collect();
    for message in &messages {
        let sent = wait_for(&site, &site.schema, message, "sent").await;
        assert_eq!(sent.attempts, 1);
    }
    for node in nodes {
        node.end().await;
    }
    let taken = server.taken();
    assert_eq!(taken.len(), messages.len());
    for message in messages {
        let id = message.id().to_string();
        assert_eq!(taken.iter().filter(|mail| mail.contains(&id)).count(), 1);
    }
}

#[tokio::test]
async fn a_claim_of_a_node_that_died_runs_out() {
    let site = Site::open().await;
    let schema = &site.schema;
    let message = queue(&site, schema, reset_link()).await;
    let app = site.store.database().app();
    let visibility = Duration::from_secs(1);
    let mut tx = TenantTx::begin(app, schema, Access::Write).await.unwrap();
    let claimed = outbox::claim_due(&mut tx, schema, 10, visibility).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert!(!format!("{claimed:?}").contains("ada"));
    tx.commit().await.unwrap();
    let claimed_at = Instant::now();

    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(worker(&site, files(directory.path()), quick()));
    let sent = wait_for(&site, schema, &message, "sent").await;
    assert_eq!(sent.attempts, 2);
    assert!(claimed_at.elapsed() > Duration::from_millis(800), "not before the claim ran out");

    // The first node was only slow: it changes nothing any more.
    let mut tx = TenantTx::begin(app, schema, Access::Write).await.unwrap();
    outbox::mark_failed(&mut tx, schema, &claimed[0], "smtp_permanent").await.unwrap();
    outbox::mark_retry(&mut tx, schema, &claimed[0], "timeout", Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(row(&site, schema, &message).await, sent);
    running.end().await;
}

#[tokio::test]
async fn a_tenant_that_is_switched_off_sends_nothing() {
    let site = Site::open().await;
    let directory = tempfile::tempdir().unwrap();
    let worker = worker(&site, files(directory.path()), quick());
    let mailer = worker.mailer.clone();
    let running = Running::start(worker);
    site.admin.command(site.tenant, TenantCommand::Deactivate, &by("test")).await.unwrap();
    let message = queue(&site, &site.schema, reset_link()).await;
    mailer.wake(&site.schema);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let waiting = row(&site, &site.schema, &message).await;
    assert_eq!((waiting.status.as_str(), waiting.attempts), ("queued", 0));
    assert!(mails(directory.path()).is_empty());

    site.admin.command(site.tenant, TenantCommand::Activate, &by("test")).await.unwrap();
    wait_for(&site, &site.schema, &message, "sent").await;
    running.end().await;
}

#[tokio::test]
async fn a_message_that_is_rolled_back_is_never_sent_nor_one_of_another_tenant_opened() {
    let site = Site::open().await;
    let directory = tempfile::tempdir().unwrap();
    let settings = MailerSettings { attempts: 2, ..quick() };
    let running = Running::start(worker(&site, files(directory.path()), settings));
    let sealed = reset_link().seal(&Reversible, Some(site.tenant)).unwrap();
    let mut tx = TenantTx::begin(site.store.database().app(), &site.schema, Access::Write).await.unwrap();
    outbox::insert(&mut tx, &site.schema, &sealed).await.unwrap();
    tx.rollback().await.unwrap();

    let platform = Schema::platform();
    let sealed = reset_link().seal(&Reversible, Some(site.tenant)).unwrap();
    assert_eq!(sealed.kind(), MessageKind::PasswordResetLink);
    let mut tx = TenantTx::begin(site.store.database().app(), &platform, Access::Write).await.unwrap();
    outbox::insert(&mut tx, &platform, &sealed).await.unwrap();
    tx.commit().await.unwrap();
    let failed = wait_for(&site, &platform, &sealed, "failed").await;
    assert_eq!(failed.last_error.as_deref(), Some("body_unreadable"));
    assert!(mails(directory.path()).is_empty());
    running.end().await;
}

/// A mail server that answers the end of each mail as it was told, in order, and then takes everything.
struct SmtpServer {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl SmtpServer {
    async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.iter().rev().map(|&it| it.to_owned()).collect::<Vec<_>>()));
        let task = tokio::spawn({
            let taken = taken.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(converse(stream, answers.clone(), taken.clone()));
                }
            }
        });
        Self { address, taken, task }
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, answers: Arc<Mutex<Vec<String>>>, taken: Arc<Mutex<Vec<String>>>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut mail = String::new();
    let mut in_data = false;
    write.write_all(b"220 test ESMTP\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = if in_data && line != "." {
            mail.push_str(&line);
            mail.push('\n');
            continue;
        } else if in_data {
            in_data = false;
            let answer = answers.lock().unwrap().pop().unwrap_or_else(|| "250 taken".to_owned());
            if answer.starts_with("250") {
                taken.lock().unwrap().push(std::mem::take(&mut mail));
            }
            answer
        } else if line.starts_with("EHLO") {
            "250-test\r\n250 8BITMIME".to_owned()
        } else if line.starts_with("DATA") {
            in_data = true;
            "354 go on".to_owned()
        } else if line.starts_with("MAIL") {
            mail = format!("{line}\n");
            "250 ok".to_owned()
        } else if line.starts_with("QUIT") {
            "221 bye".to_owned()
        } else {
            "250 ok".to_owned()
        };
        if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}
