//! The file around a bundle: a tar in a gzip member, and behind it an empty gzip member whose comment is the SHA-256 of
//! all before it. Any tar and any gzip reads it; this reader takes only what this writer writes, byte for byte, so that
//! there is no bit in the file that could be another without notice. Needs nothing of the server.

use std::io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom, Take, Write};

use flate2::{Compression, GzBuilder, bufread::GzDecoder, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// The most bytes of one file in a bundle; what is larger is cut in parts.
pub const MAX_FILE: u64 = 256 * 1024 * 1024;
const BLOCK: usize = 512;
/// 1980-01-01: times of files say nothing here, and some tools complain about none.
const MTIME: u64 = 315_532_800;
/// Magic, deflate, no flags, no time, fastest, no operating system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// The same with a comment.
const SEAL_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0x10, 0, 0, 0, 0, 0, 255];
const SEAL_COMMENT: &[u8] = b"daybook bundle, sha256 ";
/// The comment's end, nothing deflated, and the checksum and length of nothing.
const SEAL_END: [u8; 11] = [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SEAL_BYTES: usize = SEAL_HEADER.len() + SEAL_COMMENT.len() + 64 + SEAL_END.len();

/// Why a container cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// It ends too early.
    #[error("the file ends before the bundle does")]
    Incomplete,
    /// It is not what was written.
    #[error("{0}")]
    Malformed(String),
    /// The file cannot be read.
    #[error("read the file")]
    Io(#[from] io::Error),
}

fn malformed(what: impl Into<String>) -> ContainerError {
    ContainerError::Malformed(what.into())
}

/// The one header of a file of this path and size.
fn header(path: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_size(size);
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_cksum();
    Ok(header)
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

fn seal(digest: &[u8]) -> Vec<u8> {
    [&SEAL_HEADER[..], SEAL_COMMENT, hex::encode(digest).as_bytes(), &SEAL_END].concat()
}

/// Hashes what passes.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a container.
pub struct Container<W: Write>(GzEncoder<Hashing<W>>);

impl<W: Write> Container<W> {
    /// An empty one.
    pub fn new(out: W) -> Self {
        let hashing = Hashing { inner: out, hasher: Sha256::new() };
        Self(GzBuilder::new().mtime(0).operating_system(255).write(hashing, Compression::fast()))
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When the path has no place in a tar, or writing fails.
    pub fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        self.0.write_all(header(path, size)?.as_bytes())?;
        self.0.write_all(bytes)?;
        self.0.write_all(&[0; BLOCK][..padding(size)])
    }

    /// Where it is written to.
    pub fn out(&mut self) -> &mut W {
        &mut self.0.get_mut().inner
    }

    /// Ends it.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        let Hashing { mut inner, hasher } = self.0.finish()?;
        inner.write_all(&seal(&hasher.finalize()))?;
        Ok(inner)
    }
}

/// Reads a container, one file after the other.
pub struct Files<R: Read> {
    inner: GzDecoder<BufReader<Take<R>>>,
    ended: bool,
}

impl<R: Read + Seek> Files<R> {
    /// Looks whether the whole file is as it was written, then begins anew to read it. `progress` is told how many bytes
    /// were looked at.
    ///
    /// # Errors
    /// When it is not whole, or not as it was written.
    pub fn open(mut file: R, mut progress: impl FnMut(u64)) -> Result<Self, ContainerError> {
        let length = file.seek(SeekFrom::End(0))?;
        let Some(body) = length.checked_sub(SEAL_BYTES as u64).filter(|body| *body > 0) else {
            return Err(ContainerError::Incomplete);
        };
        file.seek(SeekFrom::Start(0))?;
        let mut hasher = Sha256::new();
        let (mut left, mut chunk, mut first) = (body, vec![0; 1 << 20], true);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            let read = file.read(&mut chunk[..most])?;
            if read == 0 {
                return Err(ContainerError::Incomplete);
            }
            let begin = read.min(GZIP_HEADER.len());
            if std::mem::take(&mut first) && chunk[..begin] != GZIP_HEADER[..begin] {
                return Err(malformed("this is not the beginning of a bundle"));
            }
            hasher.update(&chunk[..read]);
            left -= read as u64;
            progress(body - left);
        }
        let mut end = vec![0; SEAL_BYTES];
        file.read_exact(&mut end)?;
        let expected = seal(&hasher.finalize());
        if end != expected {
            // A download that broke off has no seal at all; one that was changed has one that is of something else.
            let same = end.iter().zip(&expected).filter(|(a, b)| a == b).count();
            return Err(if same > SEAL_BYTES / 3 {
                malformed("the file is not the one that was written")
            } else {
                ContainerError::Incomplete
            });
        }
        file.seek(SeekFrom::Start(0))?;
        let body = BufReader::with_capacity(1 << 18, file.take(body));
        Ok(Self { inner: GzDecoder::new(body), ended: false })
    }
}

impl<R: Read> Files<R> {
    /// The next file's path and bytes; `None` after the last.
    ///
    /// # Errors
    /// When what comes is not a file as it is written, or the bundle does not end as one does.
    pub fn next_file(&mut self) -> Result<Option<(String, Vec<u8>)>, ContainerError> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        if block == [0; BLOCK] {
            self.fill(&mut block)?;
            if block != [0; BLOCK] {
                return Err(malformed("something follows the end of the files"));
            }
            return self.end().map(|()| None);
        }
        let mut found = Header::new_ustar();
        found.as_mut_bytes().copy_from_slice(&block);
        let wrong = || malformed("a file's header is not as it is written");
        let size = found.entry_size().map_err(|_| wrong())?;
        let path = String::from_utf8(found.path_bytes().into_owned()).map_err(|_| wrong())?;
        if header(&path, size).map_err(|_| wrong())?.as_bytes() != &block || size > MAX_FILE {
            return Err(wrong());
        }
        let mut bytes = Vec::new();
        (&mut self.inner).take(size).read_to_end(&mut bytes).map_err(broken)?;
        if bytes.len() as u64 != size {
            return Err(malformed(format!("{path} ends too early")));
        }
        let mut rest = [0; BLOCK];
        let rest = &mut rest[..padding(size)];
        self.fill(rest)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(malformed(format!("something is hidden behind {path}")));
        }
        Ok(Some((path, bytes)))
    }

    fn fill(&mut self, block: &mut [u8]) -> Result<(), ContainerError> {
        self.inner.read_exact(block).map_err(broken)
    }

    fn end(&mut self) -> Result<(), ContainerError> {
        self.ended = true;
        if self.inner.read(&mut [0]).map_err(broken)? != 0 || !self.inner.get_mut().fill_buf()?.is_empty() {
            return Err(malformed("something follows the end of the files"));
        }
        Ok(())
    }
}

/// What cannot be inflated. The file is whole by then, so that one that seems to end is as wrong as any other.
fn broken(error: io::Error) -> ContainerError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            malformed("the compressed data is not as it is written")
        }
        _ => ContainerError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn container() -> Vec<u8> {
        let mut container = Container::new(Vec::new());
        container.append("checkpoint", b"book.example/t/1\n").unwrap();
        container.append("tile/0/x001/234.p/7", &[7; 512]).unwrap();
        container.append("empty", b"").unwrap();
        container.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ContainerError> {
        let mut files = Files::open(Cursor::new(bytes), |_| ())?;
        let mut all = Vec::new();
        while let Some(file) = files.next_file()? {
            all.push(file);
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_is_read_and_the_same_again() {
        let all = read(&container()).unwrap();
        assert_eq!(all[0], ("checkpoint".into(), b"book.example/t/1\n".to_vec()));
        assert_eq!(all[1], ("tile/0/x001/234.p/7".into(), vec![7; 512]));
        assert_eq!((all.len(), all[2].1.len()), (3, 0));
        assert_eq!(container(), container());
    }

    #[test]
    fn each_bit_counts() {
        let whole = container();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&flipped), Err(ContainerError::Malformed(_))), "bit {bit}");
        }
    }

    #[test]
    fn what_is_cut_off_is_incomplete_and_what_is_added_is_not_ours() {
        let whole = container();
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(matches!(error, ContainerError::Incomplete), "{length}: {error}");
        }
        for more in [&b"\0"[..], b"more", &whole] {
            assert!(read(&[&whole, more].concat()).is_err());
        }
    }

    #[test]
    fn bits_that_tar_and_gzip_do_not_care_for_are_refused_although_sealed() {
        let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut tar = Vec::new();
            GzDecoder::new(&container()[..]).read_to_end(&mut tar).unwrap();
            change(&mut tar);
            let hashing = Hashing { inner: Vec::new(), hasher: Sha256::new() };
            let mut gzip =
                GzBuilder::new().mtime(0).operating_system(255).write(hashing, Compression::fast());
            gzip.write_all(&tar).unwrap();
            let Hashing { mut inner, hasher } = gzip.finish().unwrap();
            inner.extend(seal(&hasher.finalize()));
            read(&inner)
        };
        assert!(sealed(&|_| ()).is_ok());
        // A file's time, its owner's name, its padding, the second of the last blocks, more blocks.
        for at in [140, 265, 512 + 17, 512 + 511, 5 * 512 + 3] {
            let error = sealed(&|tar| tar[at] ^= 1).unwrap_err();
            assert!(matches!(error, ContainerError::Malformed(_)), "{at}");
        }
        assert!(sealed(&|tar| tar.extend([0; 512])).is_err());
        assert!(sealed(&|tar| tar.truncate(tar.len() - 512)).is_err());
    }
}
