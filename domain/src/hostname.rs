//! The name of a host on the public Internet, as DNS carries it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::DomainError;

/// Names below these never belong to anyone: each network has its own.
const NOT_PUBLIC: [&str; 3] = ["localhost", "local", "internal"];

/// A host's name: lower-case A-labels (`xn--…` for what is not ASCII), at least two, without a trailing dot or a
/// port. Never an IP address, never a name that only a local network knows.
///
/// Text in other scripts becomes A-labels at the edge, before it becomes this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Hostname(String);

impl Hostname {
    /// Parses it. Capitals become small letters and one trailing dot goes: to DNS the name is the same.
    ///
    /// # Errors
    /// `invalid_hostname` at `pointer`.
    pub fn new(text: &str, pointer: &str) -> Result<Self, DomainError> {
        let text = text.trim();
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if is_hostname(&name) {
            Ok(Self(name))
        } else {
            Err(DomainError::field(
                pointer,
                "invalid_hostname",
                "a host name has two or more labels of letters, digits and hyphens, is public, and is not an IP address",
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_hostname(name: &str) -> bool {
    let mut labels = name.split('.');
    let Some(last) = labels.next_back() else { return false };
    (1..=253).contains(&name.len())
        && name.contains('.')
        && name.split('.').all(is_label)
        && !is_number(last)
        && !NOT_PUBLIC.contains(&last)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A last label by which browsers and `inet_aton` take the whole for an IPv4 address: no such top-level domain exists.
fn is_number(label: &str) -> bool {
    let all_digits = label.bytes().all(|b| b.is_ascii_digit());
    let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    all_digits || hex
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hostname {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?, "").map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_as_dns_compares_them() {
        for (text, expected) in [
            ("book.camp.example", "book.camp.example"),
            ("Book.Camp.EXAMPLE.", "book.camp.example"),
            (" a.b ", "a.b"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
            ("local.example", "local.example"),
        ] {
            assert_eq!(Hostname::new(text, "/host").unwrap().as_str(), expected);
        }
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(Hostname::new(&longest, "/host").is_ok());
        assert!(Hostname::new(&format!("{longest}b"), "/host").is_err());
    }

    #[test]
    fn what_is_no_public_name_is_refused() {
        for wrong in [
            "",
            ".",
            "..",
            "example",
            "localhost",
            "a.localhost",
            "printer.local",
            "db.internal",
            "a.internal.",
            "10.0.0.1",
            "1.2.3.4.",
            "127.1",
            "a.0x7f",
            "[::1]",
            "::1",
            "a..b",
            ".a.b",
            "a.b..",
            "-a.b",
            "a-.b",
            "a_b.example",
            "a b.example",
            "a.example:443",
            "https://a.example",
            "a.example/",
            "*.example.org",
            "bücher.example",
            "a.example\0",
            "a@b.example",
            "a%2eb.example",
        ] {
            assert!(Hostname::new(wrong, "/host").is_err(), "{wrong}");
        }
        assert!(Hostname::new(&format!("{}.example", "a".repeat(64)), "/host").is_err());
    }

    #[test]
    fn it_is_checked_in_json_too() {
        let name: Hostname = serde_json::from_str("\"A.Example\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"a.example\"");
        assert!(serde_json::from_str::<Hostname>("\"10.0.0.1\"").is_err());
    }
}
