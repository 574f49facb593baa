//! The mailbox of files, read as its owner would.

use std::{fs, path::Path, time::Duration};

/// Waits for the letter number `n` of a mailbox, oldest first.
pub async fn letter(mailbox: &Path, n: usize) -> String {
    for _ in 0..200 {
        let mut found = letters(mailbox);
        if found.len() > n {
            return found.swap_remove(n);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no letter {n}");
}

fn letters(mailbox: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(mailbox) else { return Vec::new() };
    // Named by their ids, which are in the order of time.
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "eml"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The token of the link in a letter.
pub fn token(letter: &str) -> String {
    let (_, rest) = letter.split_once("?token=").unwrap_or_else(|| panic!("no link in {letter}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

/// The code of six digits in a letter.
pub fn code(letter: &str) -> String {
    letter
        .split_whitespace()
        .find(|word| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit()))
        .unwrap()
        .to_owned()
}
