//! Where a bundle's files come from: a container, or a folder it was unpacked to.

use std::{
    collections::VecDeque,
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::report::{Finding, Report};
use crate::{
    bundle::{
        container::{ContainerError, Files, MAX_FILE},
        format::{Kind, Manifest},
    },
    ledger::cause::Cause,
};

/// The files of a bundle, in their order.
pub(super) enum Source {
    Container(Box<Files<File>>),
    Folder { folder: PathBuf, left: VecDeque<String> },
}

impl Source {
    /// Opens a file or a folder; none where what is there is no bundle, which the report says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(
        path: &Path,
        report: &mut Report,
        progress: impl FnMut(u64),
    ) -> Result<Option<Self>, std::io::Error> {
        if fs::metadata(path)?.is_dir() {
            return Self::folder(path, report);
        }
        match Files::open(File::open(path)?, progress) {
            Ok(files) => Ok(Some(Self::Container(Box::new(files)))),
            Err(error) => said(error, report).map(|()| None),
        }
    }

    /// The next file; none after the last, or where nothing can be told any more, which the report says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next(&mut self, report: &mut Report) -> Result<Option<(String, Vec<u8>)>, std::io::Error> {
        match self {
            Self::Container(files) => match files.next_file() {
                Ok(file) => Ok(file),
                Err(error) => said(error, report).map(|()| None),
            },
            Self::Folder { folder, left } => match left.pop_front() {
                None => Ok(None),
                Some(path) => {
                    let bytes = fs::read(folder.join(&path))?;
                    Ok(Some((path, bytes)))
                }
            },
        }
    }

    /// The files of a folder, in the order of its manifest.
    fn folder(folder: &Path, report: &mut Report) -> Result<Option<Self>, std::io::Error> {
        let mut there = Vec::new();
        walk(folder, "", &mut there, report)?;
        let manifest = Kind::Manifest.to_string();
        if !there.contains(&manifest) {
            report.missing.push(manifest);
            return Ok(None);
        }
        let listed: Option<Manifest> = serde_json::from_slice(&fs::read(folder.join(&manifest))?).ok();
        let Some(listed) = listed else {
            report.find(Finding::new(Cause::ManifestMismatch, "it cannot be read").of(manifest));
            return Ok(None);
        };
        let mut left: VecDeque<String> = listed.files.into_iter().map(|file| file.path).collect();
        left.extend([manifest, Kind::Signature.to_string()]);
        there.sort_unstable();
        for path in &left {
            if there.binary_search(path).is_err() {
                report.missing.push(path.clone());
            }
        }
        let mut known: Vec<&String> = left.iter().collect();
        known.sort_unstable();
        for path in there.iter().filter(|path| known.binary_search(path).is_err()) {
            report.find(Finding::new(Cause::ManifestMismatch, "the manifest does not list it").of(path));
        }
        // Without it nothing can be told of what follows it.
        Ok(report.missing.is_empty().then(|| Self::Folder { folder: folder.to_owned(), left }))
    }
}

fn said(error: ContainerError, report: &mut Report) -> Result<(), std::io::Error> {
    match error {
        ContainerError::Incomplete => report.missing.push("the end of the file".to_owned()),
        ContainerError::Malformed(why) => report.find(Finding::new(Cause::Malformed, why)),
        ContainerError::Io(error) => return Err(error),
    }
    Ok(())
}

/// All files below a folder. What is neither a file nor a folder is none of a bundle's.
fn walk(
    folder: &Path,
    prefix: &str,
    there: &mut Vec<String>,
    report: &mut Report,
) -> Result<(), std::io::Error> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let metadata = fs::symlink_metadata(entry.path())?;
        if metadata.is_dir() {
            walk(&entry.path(), &format!("{path}/"), there, report)?;
        } else if metadata.is_file() && metadata.len() <= MAX_FILE {
            there.push(path);
        } else {
            report.find(Finding::new(Cause::ManifestMismatch, "this is no file of a bundle").of(path));
        }
    }
    Ok(())
}
