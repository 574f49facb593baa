//! How mail leaves: by SMTP, or, where no server is configured, into a mailbox of files.

use std::{
    fmt, io,
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor,
    message::{
        Body, Mailbox,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0},
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::config::Settings;

/// How long the mail server may take to accept a connection, and for each of its answers.
const SMTP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no way for mail.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The URL of the mail server cannot be used; never quoted, it may hold a password.
    #[error("smtp_url {0}")]
    SmtpUrl(&'static str),
    /// The sender is no address.
    #[error("mail_from is not an address")]
    From,
    /// The mailbox cannot be made.
    #[error("cannot make the mailbox {path}")]
    Mailbox {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a message was not sent, as a class: a server's own text may quote the recipient or the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{class}")]
pub struct SendError {
    /// The class, such as `smtp_transient`.
    pub class: &'static str,
    /// Whether trying again is of no use.
    pub permanent: bool,
}

impl SendError {
    const fn transient(class: &'static str) -> Self {
        Self { class, permanent: false }
    }

    const fn permanent(class: &'static str) -> Self {
        Self { class, permanent: true }
    }
}

/// A message in the clear, on its way out.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The id of its row: a second attempt has the same `Message-ID`, and the same file.
    pub id: Uuid,
    /// The address.
    pub recipient: &'a str,
    /// The subject.
    pub subject: &'a str,
    /// The text.
    pub body: &'a str,
}

/// The way mail leaves.
pub struct Transport {
    from: Mailbox,
    carrier: Carrier,
}

enum Carrier {
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
    Files(PathBuf),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.carrier {
            Carrier::Smtp(_) => "Transport::Smtp",
            Carrier::Files(_) => "Transport::Files",
        })
    }
}

impl Transport {
    /// As configured.
    ///
    /// # Errors
    /// When the mail server's URL cannot be used, or the mailbox cannot be made.
    pub fn from_settings(settings: &Settings) -> Result<Self, TransportError> {
        match &settings.smtp_url {
            Some(url) => Self::smtp(url, &settings.mail_from),
            None => Self::files(settings.mail_dir(), &settings.mail_from),
        }
    }

    /// By a mail server. `smtps://` and `smtp://…?tls=required` are encrypted; what is or may be sent in the clear is
    /// taken only to this machine.
    ///
    /// # Errors
    /// When the URL cannot be used or the sender is no address.
    pub fn smtp(url: &SecretString, from: &str) -> Result<Self, TransportError> {
        let from = from.parse().map_err(|_| TransportError::From)?;
        let url = url.expose_secret();
        check_url(url).map_err(TransportError::SmtpUrl)?;
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|_| TransportError::SmtpUrl("is not the URL of a mail server"))?;
        let smtp = builder.timeout(Some(SMTP_TIMEOUT)).build();
        Ok(Self { from, carrier: Carrier::Smtp(Box::new(smtp)) })
    }

    /// Into a directory, which is made where it is missing, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be made or the sender is no address.
    pub fn files(path: PathBuf, from: &str) -> Result<Self, TransportError> {
        let from = from.parse().map_err(|_| TransportError::From)?;
        match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => Ok(Self { from, carrier: Carrier::Files(path) }),
            Err(source) => Err(TransportError::Mailbox { path, source }),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Whether to try again, and the class of failure.
    pub async fn send(&self, message: Outgoing<'_>) -> Result<(), SendError> {
        let mail = self.compose(message)?;
        match &self.carrier {
            Carrier::Smtp(smtp) => smtp.send(mail).await.map(drop).map_err(|error| classify(&error)),
            Carrier::Files(path) => write_file(path, message.id, &mail.formatted())
                .await
                .map_err(|_| SendError::transient("mailbox_unwritable")),
        }
    }

    fn compose(&self, message: Outgoing<'_>) -> Result<lettre::Message, SendError> {
        let to: Address =
            message.recipient.parse().map_err(|_| SendError::permanent("address_not_deliverable"))?;
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        lettre::Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(message.subject)
            .message_id(Some(format!("<{}@{}>", message.id, self.from.email.domain())))
            // Nobody's holiday answers it.
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN)
            .body(encoded(message.body))
            .map_err(|_| SendError::permanent("message_not_composed"))
    }
}

/// As it is where that may be: a link can be read and copied from the raw mail, which quoted-printable breaks up.
fn encoded(body: &str) -> Body {
    // RFC 5322 allows 998.
    let plain = body.is_ascii() && !body.contains(['\r', '\0']) && body.lines().all(|line| line.len() <= 990);
    if plain {
        Body::dangerous_pre_encoded(body.replace('\n', "\r\n").into(), ContentTransferEncoding::SevenBit)
    } else {
        Body::new(body.to_owned())
    }
}

/// Whether nothing leaves this machine in the clear: neither links and codes nor the password of the mail server.
fn check_url(text: &str) -> Result<(), &'static str> {
    let url: http::Uri = text.parse().map_err(|_| "is not a URL")?;
    let host = url.host().ok_or("has no host")?.trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let tls = url.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("tls="));
    match (url.scheme_str(), tls) {
        (Some("smtps"), _) | (Some("smtp"), Some("required")) => Ok(()),
        (Some("smtp"), None | Some("opportunistic")) if local => Ok(()),
        (Some("smtp"), None | Some("opportunistic")) => {
            Err("would send mail in the clear: write smtps://, or smtp:// with ?tls=required for STARTTLS")
        }
        _ => Err("must be smtps://, or smtp:// with ?tls=required"),
    }
}

fn classify(error: &lettre::transport::smtp::Error) -> SendError {
    let code = error.status().map(u16::from);
    match code {
        // Our own credentials: no message is at fault, and whoever mends them wants it sent.
        Some(530 | 534 | 535 | 538) => SendError::transient("smtp_authentication"),
        _ if error.is_permanent() => SendError::permanent("smtp_permanent"),
        _ if error.is_transient() => SendError::transient("smtp_transient"),
        // The server cannot take what this message needs, such as an address beyond ASCII.
        _ if error.is_client() => SendError::permanent("smtp_unsupported"),
        _ if error.is_tls() => SendError::transient("smtp_tls"),
        _ if error.is_response() => SendError::transient("smtp_protocol"),
        _ => SendError::transient("smtp_connection"),
    }
}

/// Under its own name only once it is whole; written again, it is the same file.
async fn write_file(directory: &Path, id: Uuid, mail: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(format!(".{id}.tmp"));
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished).await?;
    file.write_all(mail).await?;
    file.sync_all().await?;
    tokio::fs::rename(&unfinished, directory.join(format!("{id}.eml"))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(recipient: &str, subject: &str) -> Result<String, SendError> {
        let directory = tempfile::tempdir().unwrap();
        let transport =
            Transport::files(directory.path().join("mail"), "Daybook <noreply@localhost>").unwrap();
        let message = Outgoing { id: Uuid::nil(), recipient, subject, body: "Hello,\n\n.\nBye\n" };
        Ok(String::from_utf8(transport.compose(message)?.formatted()).unwrap())
    }

    #[test]
    fn only_this_machine_is_sent_mail_in_the_clear() {
        for url in [
            "smtps://user:p%40ss@mail.example:465",
            "smtps://mail.example",
            "smtp://mail.example:587?tls=required",
            "smtp://127.0.0.1:2525",
            "smtp://localhost?tls=opportunistic",
        ] {
            let transport = Transport::smtp(&SecretString::from(url.to_owned()), "a@b.example");
            assert!(transport.is_ok(), "{url}: {transport:?}");
        }
        for url in [
            "",
            "mail.example",
            "http://mail.example",
            "smtp://mail.example",
            "smtp://mail.example?tls=opportunistic",
            "smtp://user:hunter2@mail.example:25",
            "smtp://localhost:hunter2@mail.example:25",
            "smtp://localhost.example",
            "smtp://127.0.0.1?tls=none",
        ] {
            let error = Transport::smtp(&SecretString::from(url.to_owned()), "a@b.example").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn a_mail_has_the_headers_it_needs_and_no_others() {
        let mail = composed("ada@example.org", "Grüße aus Camp").unwrap();
        let (head, body) = mail.split_once("\r\n\r\n").unwrap();
        let mut names: Vec<_> =
            head.lines().filter_map(|line| line.split_once(": ")).map(|it| it.0).collect();
        names.sort_unstable();
        let expected = [
            "Auto-Submitted",
            "Content-Transfer-Encoding",
            "Content-Type",
            "Date",
            "From",
            "MIME-Version",
            "Message-ID",
            "Subject",
            "To",
        ];
        assert_eq!(names, expected, "{head}");
        assert!(head.contains("<00000000-0000-0000-0000-000000000000@localhost>"));
        assert!(head.contains("Auto-Submitted: auto-generated") && head.is_ascii());
        assert_eq!(body, "Hello,\r\n\r\n.\r\nBye\r\n");
    }

    #[test]
    fn an_address_that_is_several_is_refused() {
        for recipient in
            ["a@b.example,c@d.example", "<a@b.example>", "a@b.example\r\nRCPT TO:<c@d.example>", ""]
        {
            assert_eq!(
                composed(recipient, "Hi").unwrap_err(),
                SendError::permanent("address_not_deliverable"),
                "{recipient}"
            );
        }
    }
}
