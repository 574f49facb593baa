//! The addresses of tiles in a log's prefix (C2SP tlog-tiles): `tile/<level>/<number>[.p/<width>]`, where the number is
//! written in groups of three digits, and `entries` stands in the place of the level for the leaves themselves.

use super::tree::{TILE_WIDTH, TileId};

/// What an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Hashes of the tree.
    Tile(TileId),
    /// The leaves whose hashes are in the tile of level 0 of this number.
    Entries(u64),
}

/// An address: what, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TilePath {
    /// What.
    pub resource: Resource,
    /// How many hashes or leaves of it, 1 to 256.
    pub width: u64,
}

/// The highest level that has a place in an address.
const MAX_LEVEL: u8 = 5;

impl TilePath {
    /// Reads what follows `tile/`; `None` for what is not written exactly as it must be.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/')?;
        let (number, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((number, width)) => {
                (number, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?)
            }
        };
        let mut value = 0_u64;
        let mut groups = number.split('/').peekable();
        while let Some(group) = groups.next() {
            let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
            let three = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
            let group: u64 = digits.parse().ok().filter(|_| three)?;
            value = value.checked_mul(1_000)?.checked_add(group)?;
        }
        let resource = match kind {
            "entries" => Resource::Entries(value),
            level => {
                let level = level.parse().ok().filter(|level| *level <= MAX_LEVEL)?;
                Resource::Tile(TileId { level, number: value })
            }
        };
        // One spelling for each: no sign, no zeros in front.
        Some(Self { resource, width }).filter(|path| path.to_string().strip_prefix("tile/") == Some(text))
    }
}

impl std::fmt::Display for TilePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut number = match self.resource {
            Resource::Tile(TileId { level, number }) => {
                write!(f, "tile/{level}/")?;
                number
            }
            Resource::Entries(number) => {
                f.write_str("tile/entries/")?;
                number
            }
        };
        let mut text = format!("{:03}", number % 1_000);
        while number >= 1_000 {
            number /= 1_000;
            text = format!("x{:03}/{text}", number % 1_000);
        }
        f.write_str(&text)?;
        if self.width == TILE_WIDTH { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_specification_does() {
        let tile =
            |level, number, width| TilePath { resource: Resource::Tile(TileId { level, number }), width };
        // The example of c2sp.org/tlog-tiles: tile 1234067 of level 0.
        assert_eq!(tile(0, 1_234_067, 256).to_string(), "tile/0/x001/x234/067");
        assert_eq!(tile(1, 0, 17).to_string(), "tile/1/000.p/17");
        let entries = TilePath { resource: Resource::Entries(1_000), width: 255 };
        assert_eq!(entries.to_string(), "tile/entries/x001/000.p/255");
        for path in [tile(0, 1_234_067, 256), tile(1, 0, 17), tile(5, 999, 1), entries] {
            assert_eq!(TilePath::parse(path.to_string().strip_prefix("tile/").unwrap()), Some(path));
        }
    }

    #[test]
    fn any_other_spelling_names_nothing() {
        for text in [
            "",
            "0",
            "0/",
            "0/0",
            "0/0000",
            "0/x000/000",
            "0/x001",
            "0/001/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/+1",
            "0/000.p/01",
            "0/000.p",
            "6/000",
            "00/000",
            "-1/000",
            "data/000",
            "0/+01",
            "0/x01/000",
            "0/000/",
            "0//000",
            "entries/000.p/300",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
            "0/é00",
        ] {
            assert_eq!(TilePath::parse(text), None, "{text}");
        }
    }
}
