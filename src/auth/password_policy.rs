//! Which passwords are accepted: the rules of Django's four validators, with ten characters as the least.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use daybook_domain::{DomainError, FieldError};

use super::password::MAX_CHARACTERS;

/// The fewest characters.
pub const MIN_CHARACTERS: usize = 10;
/// From this similarity on a password is too much like the account's own words.
const MAX_SIMILARITY: f64 = 0.7;

/// Checks a password against every rule. `attributes` are the account's own words: its e-mail address and name.
///
/// # Errors
/// `validation_failed` at `pointer`, with each rule that is not met.
pub fn check(password: &str, attributes: &[&str], pointer: &str) -> Result<(), DomainError> {
    let characters = password.chars().count();
    let rules: [(bool, &str, &str); 6] = [
        (characters < MIN_CHARACTERS, "password_too_short", "a password has at least 10 characters"),
        (characters > MAX_CHARACTERS, "password_too_long", "a password has at most 128 characters"),
        (
            characters > 0 && password.chars().all(char::is_numeric),
            "password_entirely_numeric",
            "a password is not all digits",
        ),
        (is_common(password), "password_too_common", "the password is one of the most common ones"),
        (
            characters <= MAX_CHARACTERS && attributes.iter().any(|words| is_similar(password, words)),
            "password_too_similar",
            "the password is too similar to the e-mail address or the name",
        ),
        (password.chars().any(char::is_control), "control_character", "a password has no control characters"),
    ];
    let errors: Vec<FieldError> = rules
        .iter()
        .filter(|(broken, ..)| *broken)
        .map(|(_, code, detail)| FieldError {
            pointer: pointer.into(),
            code: (*code).into(),
            detail: (*detail).into(),
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(DomainError::Validation { errors }) }
}

fn is_common(password: &str) -> bool {
    static COMMON: LazyLock<HashSet<&str>> =
        LazyLock::new(|| include_str!("common-passwords.txt").lines().map(str::trim).collect());
    COMMON.contains(password.to_lowercase().trim())
}

fn is_similar(password: &str, words: &str) -> bool {
    let (password, words) = (password.to_lowercase(), words.to_lowercase());
    let parts = words.split(|c: char| !(c.is_alphanumeric() || c == '_')).chain([words.as_str()]);
    parts
        .filter(|part| !part.is_empty() && !exceeds_length_ratio(&password, part))
        .any(|part| quick_ratio(&password, part) >= MAX_SIMILARITY)
}

/// A long password that has a short word in it is not similar to the word.
fn exceeds_length_ratio(password: &str, part: &str) -> bool {
    let (password, part) = (password.chars().count(), part.chars().count());
    password >= 10 * part && (part as f64) < MAX_SIMILARITY / 2.0 * password as f64
}

/// Python's `difflib.SequenceMatcher.quick_ratio`: twice the characters that both have, by the length of both.
fn quick_ratio(a: &str, b: &str) -> f64 {
    let mut available: HashMap<char, usize> = HashMap::new();
    b.chars().for_each(|c| *available.entry(c).or_default() += 1);
    let mut shared = 0_usize;
    for c in a.chars() {
        if let Some(left) = available.get_mut(&c).filter(|left| **left > 0) {
            *left -= 1;
            shared += 1;
        }
    }
    let length = a.chars().count() + b.chars().count();
    if length == 0 { 1.0 } else { 2.0 * shared as f64 / length as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(password: &str) -> Vec<String> {
        match check(password, &["ada.lovelace@example.org", "Ada Lovelace"], "/password") {
            Err(DomainError::Validation { errors }) => errors.into_iter().map(|error| error.code).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn each_rule_is_told() {
        assert!(broken("river-pitch-seven").is_empty());
        assert_eq!(broken("short"), ["password_too_short"]);
        assert_eq!(broken("8401729561"), ["password_entirely_numeric"]);
        assert_eq!(broken("1234567890"), ["password_entirely_numeric", "password_too_common"]);
        assert_eq!(broken("Password123"), ["password_too_common"]);
        assert_eq!(broken("adalovelace1"), ["password_too_similar"]);
        assert_eq!(broken("lovelace.ada@"), ["password_too_similar"]);
        assert_eq!(broken(&"ab9-".repeat(33)), ["password_too_long"]);
        assert_eq!(broken("with\u{0}inside-it"), ["control_character"]);
    }

    #[test]
    fn the_ratio_is_the_one_of_difflib() {
        for (a, b, expected) in
            [("ada.lovelace", "adalovelace1", 0.916_666), ("abcdef", "fedcba", 1.0), ("xyzzy", "ada", 0.0)]
        {
            assert!((quick_ratio(a, b) - expected).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn the_list_is_long_enough() {
        assert!(include_str!("common-passwords.txt").lines().count() >= 3_000);
    }
}
