//! Mail: what is told to people. A message is sealed, put into the outbox in the transaction of what it tells of,
//! and sent by [`crate::workers::mailer`].

pub mod outbox;
pub mod sealer;
pub mod templates;
pub mod transport;

use std::fmt;

use daybook_domain::{Email, TenantId};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

pub use transport::Transport;

/// Longest subject, in characters; a tenant's name is part of it.
const LONGEST_SUBJECT: usize = 200;

/// What a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A link by which a password is set anew.
    PasswordResetLink,
    /// A code by which a password is set anew.
    PasswordResetCode,
    /// A link by which an invited person joins.
    Invitation,
    /// A link that confirms the address of a sign-up.
    SignupConfirmation,
    /// The password was changed.
    PasswordChanged,
    /// One of the platform's people asks to be let in.
    SupportRequested,
    /// What became of such a request.
    SupportAnswered,
}

impl MessageKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::PasswordResetLink,
        Self::PasswordResetCode,
        Self::Invitation,
        Self::SignupConfirmation,
        Self::PasswordChanged,
        Self::SupportRequested,
        Self::SupportAnswered,
    ];

    /// The name it is stored under.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PasswordResetLink => "password_reset_link",
            Self::PasswordResetCode => "password_reset_code",
            Self::Invitation => "invitation",
            Self::SignupConfirmation => "signup_confirmation",
            Self::PasswordChanged => "password_changed",
            Self::SupportRequested => "support_requested",
            Self::SupportAnswered => "support_answered",
        }
    }
}

/// A message to one person. Its body may let whoever reads it in.
pub struct Message {
    kind: MessageKind,
    to: Email,
    user: Option<Uuid>,
    subject: String,
    body: SecretString,
}

impl Message {
    /// A message. Line breaks and other control characters of the subject become spaces, so that it stays one header;
    /// it is stored in the clear and must not hold a secret.
    pub fn new(kind: MessageKind, to: Email, user: Option<Uuid>, subject: &str, body: SecretString) -> Self {
        let subject = one_line(subject).chars().take(LONGEST_SUBJECT).collect();
        Self { kind, to, user, subject, body }
    }

    /// What it tells.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Its subject.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its body.
    pub fn body(&self) -> &SecretString {
        &self.body
    }

    /// Seals the body and to whom it goes, for a tenant or the platform, so that the row can be kept.
    ///
    /// # Errors
    /// Those of the sealer.
    pub fn seal(self, sealer: &dyn Sealer, tenant: Option<TenantId>) -> Result<SealedMessage, SealError> {
        let id = Uuid::now_v7();
        let address = self.to.as_str();
        Ok(SealedMessage {
            id,
            kind: self.kind,
            sealed_recipient: sealer.seal(tenant, Part::Recipient(id), address.as_bytes())?,
            recipient_hash: sealer.recognise(tenant, address),
            user: self.user,
            subject: self.subject,
            sealed_body: sealer.seal(tenant, Part::Body, self.body.expose_secret().as_bytes())?,
        })
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("kind", &self.kind).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A row of the outbox, ready to be inserted.
#[derive(Clone)]
pub struct SealedMessage {
    id: Uuid,
    kind: MessageKind,
    sealed_recipient: String,
    recipient_hash: [u8; 32],
    user: Option<Uuid>,
    subject: String,
    sealed_body: String,
}

impl SealedMessage {
    /// The id of its row, and part of its `Message-ID`.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What it tells.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }
}

impl fmt::Debug for SealedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("SealedMessage");
        it.field("id", &self.id).field("kind", &self.kind).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A body or a recipient could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[error("a message cannot be sealed or opened with these keys")]
pub struct SealError;

/// What of a message is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is written in it.
    Body,
    /// To whom the message of this id goes: moved to another message it does not open, so nobody gets another's letter.
    Recipient(Uuid),
}

/// Seals the parts of messages for the time they are kept, bound to the tenant (or, without one, the platform) they belong
/// to.
pub trait Sealer: Send + Sync {
    /// Seals a part.
    ///
    /// # Errors
    /// When there is no key or no randomness.
    fn seal(&self, tenant: Option<TenantId>, part: Part, plaintext: &[u8]) -> Result<String, SealError>;

    /// Opens what [`Sealer::seal`] made.
    ///
    /// # Errors
    /// When it was changed, is another tenant's or another part, or its key is gone.
    fn open(
        &self,
        tenant: Option<TenantId>,
        part: Part,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, SealError>;

    /// What an address is recognised by without being opened: the same however it is written.
    fn recognise(&self, tenant: Option<TenantId>, address: &str) -> [u8; 32];
}

/// Text that cannot begin a header or a line of its own.
fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if breaks_lines(c) { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use chrono::DateTime;

    use super::{sealer::KeySealer, *};
    use crate::keys::Keys;

    fn message(subject: &str) -> Message {
        let to = Email::new("ada@example.org", "").unwrap();
        Message::new(MessageKind::Invitation, to, None, subject, "the secret".to_owned().into())
    }

    #[test]
    fn a_subject_stays_one_header() {
        let message = message("Hi\r\nBcc: eve@example.org\u{2028}x\0 \t y");
        assert_eq!(message.subject(), "Hi Bcc: eve@example.org x y");
        assert_eq!(self::message(&"é".repeat(300)).subject().chars().count(), LONGEST_SUBJECT);
    }

    #[test]
    fn neither_recipient_nor_body_is_shown() {
        let message = message("Hi");
        let shown = format!("{message:?}");
        let keys = Keys::generate(Path::new("keys.toml"), DateTime::UNIX_EPOCH).unwrap();
        let sealed = message.seal(&KeySealer(Arc::new(keys)), None).unwrap();
        let shown = format!("{shown}{sealed:?}");
        assert!(!shown.contains("ada") && !shown.contains("secret") && !shown.contains(&sealed.sealed_body));
    }
}
