//! Text as types: what is too long, empty or holds control characters never becomes one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::DomainError;

macro_rules! text {
    ($($(#[$doc:meta])* $name:ident($check:expr, $code:literal, $detail:literal);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses it.
            ///
            /// # Errors
            #[doc = concat!("`", $code, "` at `pointer`.")]
            pub fn new(text: &str, pointer: &str) -> Result<Self, DomainError> {
                let check: fn(&str) -> bool = $check;
                let trimmed = text.trim();
                if check(trimmed) {
                    Ok(Self(trimmed.to_owned()))
                } else {
                    Err(DomainError::field(pointer, $code, $detail))
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // A bare value may be personal: it shows only where it is asked for by name.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(deserializer)?, "").map_err(D::Error::custom)
            }
        }
    )*};
}

text! {
    /// A name of a thing or a person: 1 to 200 characters, none of them a control character.
    Name(|t| !t.is_empty() && t.chars().count() <= 200 && !t.chars().any(char::is_control),
         "invalid_name", "a name has 1 to 200 characters and no control characters");
    /// An e-mail address: one `@` between two parts, no spaces, at most 254 characters.
    Email(is_email, "invalid_email", "not an e-mail address");
    /// A telephone number as people write it.
    Phone(|t| (3..=40).contains(&t.len())
              && t.chars().enumerate().all(|(i, c)| c.is_ascii_digit() || "-(). /".contains(c) || (c == '+' && i == 0))
              && t.chars().any(|c| c.is_ascii_digit()),
          "invalid_phone", "a telephone number has digits, spaces and - ( ) . / after an optional +");
    /// Free text about a booking, or of somebody who asks something: at most 4,000 characters; line breaks and tabs are the only control characters.
    Notes(|t| t.chars().count() <= 4_000 && !t.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')),
          "invalid_notes", "notes have at most 4,000 characters and no control characters");
    /// Why something is done that has to be explained: 1 to 500 characters; line breaks and tabs are the only control
    /// characters.
    Reason(|t| !t.is_empty() && t.chars().count() <= 500 && !t.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')),
           "invalid_reason", "a reason has 1 to 500 characters and no control characters");
    /// A tenant's slug: `^[a-z][a-z0-9-]{1,47}$`.
    Slug(is_slug, "invalid_slug", "a slug is 2 to 48 lower-case letters, digits and hyphens, beginning with a letter");
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    text.len() <= 254
        && !local.is_empty()
        && !domain.contains('@')
        && domain.contains('.')
        && !domain.starts_with('.')
        && !domain.ends_with('.')
        && !domain.contains("..")
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Names that would pass for the platform itself: as a host below its domain, or as who signs a letter.
const RESERVED_SLUGS: [&str; 24] = [
    "account",
    "accounts",
    "admin",
    "api",
    "app",
    "assets",
    "auth",
    "autodiscover",
    "blog",
    "cdn",
    "daybook",
    "docs",
    "help",
    "login",
    "mail",
    "platform",
    "root",
    "smtp",
    "static",
    "status",
    "support",
    "system",
    "webmail",
    "www",
];

impl Slug {
    /// Whether it would pass for the platform itself: such a one is for the operator to give.
    pub fn is_reserved(&self) -> bool {
        let text = self.as_str();
        // The sample tenant is made anew under another name each time.
        RESERVED_SLUGS.contains(&text) || text == "sample" || text.starts_with("sample-")
    }
}

fn is_slug(text: &str) -> bool {
    (2..=48).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_checked_where_it_comes_in() {
        assert_eq!(Name::new("  Ada  ", "/name").unwrap().as_str(), "Ada");
        for wrong in ["", "  ", "a\u{0}b", &"x".repeat(201)] {
            assert!(Name::new(wrong, "/name").is_err());
        }
        assert!(Email::new("ada@example.org", "/email").is_ok());
        for wrong in ["ada", "@example.org", "ada@", "a@b@c.d", "a b@c.d", "ada@localhost", "ada@.d"] {
            assert!(Email::new(wrong, "/email").is_err(), "{wrong}");
        }
        assert!(Phone::new("+32 (0)2 555.12-34", "/phone").is_ok());
        assert!(Phone::new("call me", "/phone").is_err());
        assert!(Notes::new("line\nline", "/notes").is_ok());
        assert!(Notes::new("nul\u{0}", "/notes").is_err());
    }

    #[test]
    fn a_slug_is_a_schema_of_its_own() {
        assert!(!Slug::new("camp-river-2", "/slug").unwrap().is_reserved());
        for reserved in ["www", "sample", "sample-20260101-2"] {
            assert!(Slug::new(reserved, "/slug").unwrap().is_reserved());
        }
        assert!(!Slug::new("samples", "/slug").unwrap().is_reserved());
        for wrong in ["a", "1camp", "Camp", "camp_river", "camp\"; drop", &"a".repeat(49)] {
            assert!(Slug::new(wrong, "/slug").is_err(), "{wrong}");
        }
    }
}
