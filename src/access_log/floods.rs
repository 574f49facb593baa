//! What keeps anybody from filling a tenant's logs by failing: in a minute the first few lines of a kind are written one by
//! one, further ones are counted, and so are all lines of more kinds than can be told apart. Nothing goes uncounted.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Lines of a kind that are written one by one.
const EACH: u32 = 5;
/// Kinds that are told apart.
const KINDS: usize = 40;
/// For how long.
const MINUTE: Duration = Duration::from_secs(60);

/// A line that can stand for several.
pub(super) trait Repeats: Sized {
    /// What lines have in common that are counted together.
    type Kind: Eq + Hash;

    /// Its kind.
    fn kind(&self) -> Self::Kind;

    /// It without what too many lines differ in. There are but a few kinds of such lines.
    fn lump(self) -> Self;

    /// One more like it.
    fn count(&mut self);
}

/// A tenant's lines of about a minute, on this node.
#[derive(Debug)]
pub(super) struct Minute<L: Repeats> {
    began: Instant,
    kinds: HashMap<L::Kind, (u32, Option<L>)>,
    lumps: HashMap<L::Kind, L>,
}

impl<L: Repeats> Minute<L> {
    /// One that begins now.
    pub fn new() -> Self {
        Self { began: Instant::now(), kinds: HashMap::new(), lumps: HashMap::new() }
    }

    /// Takes a line; gives it back when it is to be written at once.
    pub fn take(&mut self, line: L) -> Option<L> {
        let kind = line.kind();
        if let Some((written, counted)) = self.kinds.get_mut(&kind) {
            if *written < EACH {
                *written += 1;
                return Some(line);
            }
            match counted {
                Some(counted) => counted.count(),
                None => *counted = Some(line),
            }
            return None;
        }
        if self.kinds.len() < KINDS {
            self.kinds.insert(kind, (1, None));
            return Some(line);
        }
        let lump = line.lump();
        self.lumps.entry(lump.kind()).and_modify(Repeats::count).or_insert(lump);
        None
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.began.elapsed() >= MINUTE
    }

    /// What was counted in it.
    pub fn end(self) -> impl Iterator<Item = L> {
        self.kinds.into_values().filter_map(|(_, counted)| counted).chain(self.lumps.into_values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Line {
        who: Option<u32>,
        times: u32,
    }

    impl Repeats for Line {
        type Kind = Option<u32>;

        fn kind(&self) -> Option<u32> {
            self.who
        }

        fn lump(self) -> Self {
            Self { who: None, ..self }
        }

        fn count(&mut self) {
            self.times += 1;
        }
    }

    #[test]
    fn a_flood_is_a_few_lines_and_every_one_is_counted() {
        let mut minute = Minute::new();
        let take = |minute: &mut Minute<Line>, who| minute.take(Line { who: Some(who), times: 1 }).is_some();
        let one_by_one = (0..1_000).filter(|_| take(&mut minute, 7)).count();
        assert_eq!(one_by_one, EACH as usize);
        let of_many = (100..10_100).filter(|who| take(&mut minute, *who)).count();
        assert_eq!(of_many, KINDS - 1);
        assert!(!minute.is_over());
        let counted: Vec<Line> = minute.end().collect();
        assert_eq!(counted.len(), 2);
        let of = |who| counted.iter().find(|line| line.who == who).unwrap().times;
        assert_eq!((of(Some(7)), of(None)), (1_000 - EACH, 10_000 - (KINDS as u32 - 1)));
    }
}
