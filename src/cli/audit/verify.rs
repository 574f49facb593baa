//! `daybook audit verify`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::verify_bundle;
use crate::ledger::tree::Hash;

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A bundle: the file, or the folder it was unpacked to. Needs no settings, no database and no network.
    bundle: PathBuf,
    /// A verifier key of the log, as it was handed out.
    #[arg(long, value_name = "VKEY", required = true)]
    key: Vec<String>,
    /// A receipt of a command: the position of an event, and the hash of its leaf in hex.
    #[arg(long, value_name = "POSITION:HASH", value_parser = receipt)]
    receipt: Vec<(u64, Hash)>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn receipt(text: &str) -> Result<(u64, Hash), String> {
    let wrong = || "a receipt is a position and 64 hex digits, with a colon between them".to_owned();
    let (position, hash) = text.split_once(':').ok_or_else(wrong)?;
    let position = position.parse().ok().filter(|position| *position > 0).ok_or_else(wrong)?;
    let mut leaf_hash = Hash::default();
    hex::decode_to_slice(hash, &mut leaf_hash).map_err(|_| wrong())?;
    Ok((position, leaf_hash))
}

impl VerifyArgs {
    /// Checks what needs nothing but itself.
    pub fn offline(&self) -> ExitCode {
        verify_bundle::run(&self.bundle, &self.key, &self.receipt, self.json)
    }
}
