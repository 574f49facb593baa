//! The letters a server has sent: files of its mailbox.

use std::{fs, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use serde_json::Value;

use super::app::TestApp;

impl TestApp {
    /// Waits for letter number `n` to an address, oldest first.
    pub async fn letter(&self, to: &str, n: usize) -> String {
        for _ in 0..200 {
            let mut found = self.letters(to);
            if found.len() > n {
                return found.swap_remove(n);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no letter {n} to {to}");
    }

    /// The letters to an address so far, oldest first.
    pub fn letters(&self, to: &str) -> Vec<String> {
        let letters = all(&self.data_dir().join("mail")).into_iter();
        let to = format!("To: {to}");
        letters.filter(|letter| letter.lines().any(|line| line.eq_ignore_ascii_case(&to))).collect()
    }
}

/// Waits for letter number `n` of a mailbox, to whomever, oldest first.
pub async fn letter(mailbox: &Path, n: usize) -> String {
    for _ in 0..200 {
        let mut found = all(mailbox);
        if found.len() > n {
            return found.swap_remove(n);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no letter {n}");
}

fn all(mailbox: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(mailbox) else { return Vec::new() };
    // Named by their ids, which are in the order of time.
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "eml"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The link in a letter.
pub fn link(letter: &str) -> String {
    let mut links = letter.lines().filter(|line| line.starts_with("http"));
    let link = links.next().unwrap_or_else(|| panic!("no link in {letter}"));
    assert_eq!(links.next(), None, "one link a letter");
    link.to_owned()
}

/// The token of the link in a letter.
pub fn token(letter: &str) -> String {
    let link = link(letter);
    let (_, token) = link.split_once("?token=").unwrap_or_else(|| panic!("no token in {link}"));
    token.to_owned()
}

/// The code of six digits in a letter.
pub fn code(letter: &str) -> String {
    let mut words = letter.split_whitespace();
    words.find(|word| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit())).unwrap().to_owned()
}

/// What the token of a link says, and when it ends, in seconds since 1970.
pub fn payload(token: &str) -> (Value, i64) {
    let mut sealed: Value =
        serde_json::from_slice(&B64.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    (sealed["p"].take(), sealed["e"].as_i64().unwrap())
}
