//! The texts of mail: plain, short, and each says what to do when it was not asked for.
//!
//! Names come from tenants: whatever they hold, they stay one line of the text and one header.

use std::time::Duration;

use daybook_domain::{Email, support_request::ANSWER_WITHIN};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::{Message, MessageKind, one_line};

/// Longest name that is shown, in characters.
const LONGEST_NAME: usize = 100;

/// Whom a message goes to.
#[derive(Clone, Debug)]
pub struct Addressee {
    /// The address.
    pub email: Email,
    /// The user, where there is one already.
    pub user: Option<Uuid>,
}

/// A link by which a password is set anew.
pub fn password_reset_link(to: Addressee, site: &str, link: &SecretString, valid: Duration) -> Message {
    let site = name(site);
    let text = format!(
        "Someone asked to set a new password for your account at {site}. To choose one, open this link within {}:\n\n\
         {}\n\n\
         It works once. If it was not you, do nothing: your password stays as it is.\n",
        in_words(valid),
        line(link),
    );
    letter(MessageKind::PasswordResetLink, to, &format!("Your password at {site}"), text)
}

/// A code by which a password is set anew.
pub fn password_reset_code(to: Addressee, site: &str, code: &SecretString, valid: Duration) -> Message {
    let site = name(site);
    let text = format!(
        "Someone asked to set a new password for your account at {site}. The code, valid for {}, is\n\n\
         {}\n\n\
         Give it to nobody, also not to us. If it was not you, do nothing: your password stays as it is.\n",
        in_words(valid),
        line(code),
    );
    letter(MessageKind::PasswordResetCode, to, &format!("Your code for {site}"), text)
}

/// A link by which an invited person joins.
pub fn invitation(to: Addressee, site: &str, link: &SecretString, valid: Duration) -> Message {
    let site = name(site);
    let text = format!(
        "You are invited to work with {site}. To accept and to choose a password, open this link within {}:\n\n\
         {}\n\n\
         It works once. If you do not know {site}, do nothing.\n",
        in_words(valid),
        line(link),
    );
    letter(MessageKind::Invitation, to, &format!("An invitation from {site}"), text)
}

/// A link that confirms the address of a sign-up.
pub fn signup_confirmation(to: Addressee, site: &str, link: &SecretString, valid: Duration) -> Message {
    let site = name(site);
    let text = format!(
        "Someone signed up at {site} with this address. To confirm that it is yours, open this link within {}:\n\n\
         {}\n\n\
         If it was not you, do nothing: without the confirmation there is no account.\n",
        in_words(valid),
        line(link),
    );
    letter(MessageKind::SignupConfirmation, to, &format!("Confirm your address for {site}"), text)
}

/// The password was changed.
pub fn password_changed(to: Addressee, site: &str) -> Message {
    let site = name(site);
    let text = format!(
        "The password of your account at {site} was changed, and every session was ended.\n\n\
         If it was not you, set a new password at once with \"Forgot password\", and tell {site}.\n"
    );
    letter(MessageKind::PasswordChanged, to, &format!("Your password at {site} was changed"), text)
}

/// One of the platform's people asks to be let into a house. The reason is theirs: it stays one line of the text, and out of
/// the subject.
pub fn support_requested(
    to: Addressee,
    house: &str,
    request: Uuid,
    reason: &str,
    window: Duration,
) -> Message {
    let (house, reason) = (name(house), one_line(reason));
    let text = format!(
        "Support of Daybook asks to look into {house}, for {}. The reason given:\n\n\
         {reason}\n\n\
         Nothing is open until an owner or a manager approves it. To approve or deny it, sign in and look at your support \
         requests (its id is {request}). If you do nothing, it lapses after {}.\n",
        in_words(window),
        in_words(ANSWER_WITHIN.to_std().unwrap_or_default()),
    );
    letter(MessageKind::SupportRequested, to, "Daybook support asks for access", text)
}

/// What became of a request for access, for whoever made it: `outcome` ends a sentence.
pub fn support_answered(
    to: Addressee,
    house: &str,
    request: Uuid,
    outcome: &str,
    reason: Option<&str>,
) -> Message {
    let house = name(house);
    let why = reason.map(|reason| format!(" The reason given:\n\n{}\n", one_line(reason)));
    let text = format!(
        "Your request for access to {house} {outcome}.{}\nIts id is {request}.\n",
        why.unwrap_or_else(|| "\n".to_owned())
    );
    letter(MessageKind::SupportAnswered, to, "Your request for access", text)
}

fn letter(kind: MessageKind, to: Addressee, subject: &str, text: String) -> Message {
    Message::new(kind, to.email, to.user, subject, SecretString::from(format!("Hello,\n\n{text}")))
}

fn name(text: &str) -> String {
    let name: String = one_line(text).chars().take(LONGEST_NAME).collect();
    if name.is_empty() { "Daybook".to_owned() } else { name }
}

fn line(secret: &SecretString) -> String {
    one_line(secret.expose_secret())
}

/// The largest unit that says it exactly, down to minutes.
fn in_words(span: Duration) -> String {
    let minutes = span.as_secs().div_ceil(60).max(1);
    let (number, unit) = match minutes {
        m if m % (24 * 60) == 0 => (m / (24 * 60), "day"),
        m if m % 60 == 0 => (m / 60, "hour"),
        m => (m, "minute"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Addressee {
        Addressee { email: Email::new("ada@example.org", "").unwrap(), user: None }
    }

    #[test]
    fn spans_are_said_in_words() {
        for (seconds, words) in [
            (0, "1 minute"),
            (61, "2 minutes"),
            (900, "15 minutes"),
            (3_600, "1 hour"),
            (5_400, "90 minutes"),
            (86_400, "1 day"),
            (259_200, "3 days"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn each_text_has_what_it_is_for() {
        let link = SecretString::from("https://book.example/reset?token=abc".to_owned());
        let valid = Duration::from_secs(259_200);
        for message in [
            password_reset_link(ada(), "Camp River", &link, valid),
            password_reset_code(ada(), "Camp River", &link, valid),
            invitation(ada(), "Camp River", &link, valid),
            signup_confirmation(ada(), "Camp River", &link, valid),
        ] {
            let body = message.body().expose_secret();
            assert!(body.contains("\n\nhttps://book.example/reset?token=abc\n\n"), "{body}");
            assert!(body.contains("3 days") && body.contains("Camp River"), "{body}");
            assert!(!message.subject().contains("abc"), "the subject is kept in the clear");
        }
        assert!(password_changed(ada(), "Camp River").body().expose_secret().contains("Camp River"));
    }

    #[test]
    fn a_name_makes_no_lines_and_no_headers() {
        let site = "Camp\r\nBcc: eve@example.org\r\n\r\nhttps://evil.example";
        let message = password_changed(ada(), site);
        assert!(!message.subject().contains(['\r', '\n']));
        assert!(!message.body().expose_secret().contains("\nBcc"));
        assert!(!message.body().expose_secret().contains("\nhttps"));
        assert_eq!(password_changed(ada(), " \n").subject(), "Your password at Daybook was changed");
    }
}
