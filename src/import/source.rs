//! The file that is imported: read whole, unpacked if it is gzip.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Reads a file's text. Whether it is gzip is told by its first bytes, not by its name.
///
/// # Errors
/// When it cannot be read or unpacked.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    unpack(File::open(path)?)
}

fn unpack(mut packed: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    packed.read_to_end(&mut bytes)?;
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(bytes);
    }
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_packed_read_the_same() {
        assert_eq!(unpack(b"hotel,adr\n".as_slice()).unwrap(), b"hotel,adr\n");
        assert_eq!(unpack(gzip(b"hotel,adr\n").as_slice()).unwrap(), b"hotel,adr\n");
        assert_eq!(unpack(b"".as_slice()).unwrap(), b"");
        let members = [gzip(b"hotel,"), gzip(b"adr\n")].concat();
        assert_eq!(unpack(members.as_slice()).unwrap(), b"hotel,adr\n");
    }

    #[test]
    fn a_gzip_file_that_was_cut_off_is_an_error() {
        let packed = gzip(b"hotel,adr\n");
        assert!(unpack(&packed[..packed.len() - 4]).is_err());
    }
}
