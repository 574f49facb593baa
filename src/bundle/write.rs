//! Putting a bundle together: files into the container, and their list, signed, at its end.

use std::io::Write;

use daybook_projections::log::LogRow;
use sha2::{Digest as _, Sha256};

use super::{
    container::Container,
    format::{DisclosedLine, FORMATS, Kind, Listed, Manifest, entries_path, tile_path},
};
use crate::{
    export::{Encoder, ExportError, FileFormat},
    ledger::tree::{Hash, TILE_WIDTH, TileId, Tiles},
};

/// Why a bundle cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It cannot be written to where it goes.
    #[error("write the bundle")]
    Io(#[from] std::io::Error),
    /// The events cannot be written in one of the formats.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Something has no canonical form.
    #[error("write canonical JSON")]
    Json(#[from] serde_json::Error),
    /// The tree does not hold what it must.
    #[error("tile {} of level {} is not there, or too narrow", .0.number, .0.level)]
    Tile(TileId),
    /// A leaf is longer than any can be.
    #[error("the leaf of position {0} is too long")]
    Leaf(i64),
}

/// Writes a bundle.
pub struct Writer<W: Write> {
    container: Container<W>,
    files: Vec<Listed>,
    parts: u64,
    rows: u64,
    disclosed: u64,
    records: u64,
    record_files: u64,
}

impl<W: Write> Writer<W> {
    /// An empty one.
    pub fn new(out: W) -> Self {
        Self {
            container: Container::new(out),
            files: Vec::new(),
            parts: 0,
            rows: 0,
            disclosed: 0,
            records: 0,
            record_files: 0,
        }
    }

    /// Where it is written to.
    pub fn out(&mut self) -> &mut W {
        self.container.out()
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), WriteError> {
        let path = kind.to_string();
        self.container.append(&path, bytes)?;
        let sha256 = hex::encode(Sha256::digest(bytes));
        self.files.push(Listed { bytes: bytes.len().to_string(), path, sha256 });
        Ok(())
    }

    /// Adds a file of canonical JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, kind: Kind, value: &impl serde::Serialize) -> Result<(), WriteError> {
        self.file(kind, &serde_json_canonicalizer::to_vec(value)?)
    }

    /// Adds a tile of a tree of so many leaves.
    ///
    /// # Errors
    /// When it is not there, or cannot be written.
    pub fn tile(&mut self, id: TileId, size: u64, tiles: &Tiles) -> Result<(), WriteError> {
        let bytes = usize::try_from(id.width_in(size) * 32).unwrap_or(usize::MAX);
        // What is stored may have grown since.
        let hashes = tiles.get(id).and_then(|tile| tile.get(..bytes)).ok_or(WriteError::Tile(id))?;
        self.file(tile_path(id, size), hashes)
    }

    /// Adds a file of records.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn records(&mut self, records: &[super::format::RecordLine]) -> Result<(), WriteError> {
        self.records += records.len() as u64;
        self.record_files += 1;
        let lines = lines(records)?;
        self.file(Kind::Records(self.record_files), &lines)
    }

    /// Adds a part: events one after the other, which begin where a tile does, or the range, and end likewise. `tiles`
    /// are those of level 0 that they are in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn part(
        &mut self,
        size: u64,
        tiles: &Tiles,
        rows: &[LogRow],
        disclosed: &[DisclosedLine],
    ) -> Result<(), WriteError> {
        self.parts += 1;
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let number = index(first) / TILE_WIDTH;
            let here = rest.iter().take_while(|row| index(row) / TILE_WIDTH == number).count();
            let id = TileId { level: 0, number };
            if id.width_in(size) == TILE_WIDTH {
                self.tile(id, size, tiles)?;
            }
            self.file(entries_path(number, size), &entries(number, id.width_in(size), &rest[..here])?)?;
            rest = &rest[here..];
        }
        if !disclosed.is_empty() {
            self.disclosed += disclosed.len() as u64;
            self.file(Kind::Disclosed(self.parts), &lines(disclosed)?)?;
        }
        let formats = [FileFormat::Ndjson, FileFormat::Csv, FileFormat::Parquet];
        for (place, format) in formats.into_iter().enumerate() {
            let mut encoder = Encoder::new(format)?;
            let mut out = Vec::with_capacity(rows.iter().map(|row| row.leaf.len() + 200).sum());
            encoder.encode(rows, &mut out)?;
            encoder.finish(&mut out)?;
            self.file(Kind::Events(self.parts, place), &out)?;
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    /// Adds the manifest, in which what was counted and listed here is put, and what `sign` says of its hash.
    ///
    /// # Errors
    /// When it cannot be written or signed.
    pub fn finish<E: From<WriteError>>(
        mut self,
        manifest: Manifest,
        sign: impl FnOnce(&Hash) -> Result<String, E>,
    ) -> Result<W, E> {
        let rows = self.rows.to_string();
        let manifest = Manifest {
            rows: FORMATS.iter().map(|name| ((*name).to_owned(), rows.clone())).collect(),
            disclosed: self.disclosed.to_string(),
            records: self.records.to_string(),
            files: std::mem::take(&mut self.files),
            ..manifest
        };
        let bytes = serde_json_canonicalizer::to_vec(&manifest).map_err(WriteError::from)?;
        self.file(Kind::Manifest, &bytes)?;
        let note = sign(&Sha256::digest(&bytes).into())?;
        self.file(Kind::Signature, note.as_bytes())?;
        self.container.finish().map_err(|error| WriteError::from(error).into())
    }
}

fn index(row: &LogRow) -> u64 {
    u64::try_from(row.position - 1).unwrap_or(0)
}

fn lines(values: &[impl serde::Serialize]) -> Result<Vec<u8>, WriteError> {
    let mut lines = Vec::new();
    for value in values {
        serde_json_canonicalizer::to_writer(value, &mut lines)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// A bundle of leaves: those that are given, and a zero length for each other.
fn entries(number: u64, width: u64, rows: &[LogRow]) -> Result<Vec<u8>, WriteError> {
    let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.leaf.len() + 2).sum());
    let mut rows = rows.iter().peekable();
    for at in number * TILE_WIDTH..number * TILE_WIDTH + width {
        match rows.next_if(|row| index(row) == at) {
            Some(row) => {
                let length = u16::try_from(row.leaf.len()).map_err(|_| WriteError::Leaf(row.position))?;
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(&row.leaf);
            }
            None => bytes.extend_from_slice(&[0, 0]),
        }
    }
    Ok(bytes)
}
