//! The one dialect of patterns: search, list, include, exclude, download, delete, mv and stat read them here.
//!
//! `*` and `?` stop at a slash, `**` does not; `**/` at the beginning of a component also matches no directory at all;
//! `[a-z]` and `[!a-z]` are sets; a backslash takes the next character as it is. A pattern without a slash is matched
//! against the name, one with a slash against the whole path below where the selection begins; a slash at the beginning
//! anchors it there. A slash at the end means everything below a directory that matches.
//!
//! Invariant: matching takes time linear in the path, whatever the pattern: all positions of the pattern that the path
//! so far can have reached are followed at once, as bits of a few machine words, and nothing is tried twice.

/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;

const WILDCARDS: [char; 3] = ['*', '?', '['];

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing, or too much.
    #[error("a pattern has 1 to {PATTERN_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
    /// Slashes alone.
    #[error("the pattern '{0}' names nothing")]
    Nothing(String),
    /// A set without an end.
    #[error("the pattern '{0}' has a '[' without its ']'; write '\\[' for the character itself")]
    OpenSet(String),
}

/// Whether `text` contains a wildcard that no backslash takes as it is.
pub fn has_wildcard(text: &str) -> bool {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if WILDCARDS.contains(&letter) {
            return true;
        }
    }
    false
}

/// What a search looks for: a glob where the text has a wildcard, otherwise a word that the name contains (with a slash:
/// that the path contains).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Word { text: String, in_path: bool },
    Glob(Glob),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is empty, too long, or has a set that is not closed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        check_length(text)?;
        if has_wildcard(text) {
            return Glob::parse(text).map(|glob| Self(Form::Glob(glob)));
        }
        Ok(Self(Form::Word {
            text: literal(text),
            in_path: text.contains('/'),
        }))
    }

    /// Whether the file at `path`, relative to where the search begins, matches.
    pub fn matches(&self, path: &str) -> bool {
        match &self.0 {
            Form::Word { text, in_path: false } => name_of(path).contains(text.as_str()),
            // The path has no slash at its beginning, which the word may have.
            Form::Word { text, in_path: true } => format!("/{path}").contains(text.as_str()),
            Form::Glob(glob) => glob.matches(path),
        }
    }
}

/// `text` without the backslashes that take the next character as it is.
pub fn literal(text: &str) -> String {
    let mut letters = text.chars();
    let mut literal = String::with_capacity(text.len());
    while let Some(letter) = letters.next() {
        literal.push(match letter {
            '\\' => letters.next().unwrap_or('\\'),
            other => other,
        });
    }
    literal
}

/// A pattern that is matched as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    automaton: Automaton,
    whole_path: bool,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is empty, too long, or has a set that is not closed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        check_length(text)?;
        let anchored = text.trim_start_matches('/');
        let core = anchored.trim_end_matches('/');
        if core.is_empty() {
            return Err(Error::Nothing(text.to_owned()));
        }
        let says_where = anchored.len() < text.len() || core.contains('/');
        let spelled = match (core.len() < anchored.len(), says_where) {
            (false, _) => core.to_owned(),
            (true, true) => format!("{core}/**"),
            (true, false) => format!("**/{core}/**"),
        };
        let parts = Reader::default()
            .read(&spelled)
            .ok_or_else(|| Error::OpenSet(text.to_owned()))?;
        Ok(Self {
            automaton: Automaton::of(&parts),
            whole_path: text.contains('/'),
        })
    }

    /// Whether `path`, relative to where the selection begins, matches.
    pub fn matches(&self, path: &str) -> bool {
        self.automaton
            .accepts(if self.whole_path { path } else { name_of(path) })
    }
}

fn check_length(text: &str) -> Result<(), Error> {
    if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
        return Err(Error::Length(text.len()));
    }
    Ok(())
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Exactly(char),
    One,
    Set {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
    /// Any characters of one component.
    Run,
    /// Any characters.
    Across,
    /// Any directories, or none: the slash that follows belongs to it.
    Directories,
}

impl Part {
    const fn is_run(&self) -> bool {
        matches!(self, Part::Run | Part::Across | Part::Directories)
    }

    /// Whether the character with this number takes the place of this part.
    fn takes(&self, letter: u32) -> bool {
        match self {
            Part::Exactly(wanted) => u32::from(*wanted) == letter,
            Part::One => letter != u32::from('/'),
            Part::Set { ranges, negated } => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (u32::from(*low)..=u32::from(*high)).contains(&letter));
                letter != u32::from('/') && inside != *negated
            }
            Part::Run | Part::Across | Part::Directories => false,
        }
    }

    /// Where the answer of `takes` can change.
    fn bounds(&self) -> Vec<u32> {
        match self {
            Part::Exactly(letter) => vec![u32::from(*letter), u32::from(*letter) + 1],
            Part::Set { ranges, .. } => ranges
                .iter()
                .flat_map(|(low, high)| [u32::from(*low), u32::from(*high) + 1])
                .collect(),
            Part::One | Part::Run | Part::Across | Part::Directories => Vec::new(),
        }
    }
}

/// Reads the parts of a pattern. No two runs stand side by side in what it gives.
#[derive(Default)]
struct Reader {
    parts: Vec<Part>,
}

impl Reader {
    fn read(mut self, text: &str) -> Option<Vec<Part>> {
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match next {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    let begins = matches!(self.parts.last(), None | Some(Part::Exactly('/')));
                    if begins && rest.next_if_eq(&'/').is_some() {
                        self.push_directories();
                    } else {
                        self.push_run(Part::Across);
                    }
                }
                '*' => self.push_run(Part::Run),
                '?' => self.parts.push(Part::One),
                '[' => self.parts.push(set(&mut rest)?),
                '\\' => self.parts.push(Part::Exactly(rest.next().unwrap_or('\\'))),
                other => self.parts.push(Part::Exactly(other)),
            }
        }
        Some(self.parts)
    }

    fn push_run(&mut self, run: Part) {
        match self.parts.last_mut() {
            Some(Part::Across) => {}
            Some(last @ Part::Run) => *last = run,
            _ => self.parts.push(run),
        }
    }

    fn push_directories(&mut self) {
        if !matches!(self.parts.as_slice(), [.., Part::Directories, Part::Exactly('/')]) {
            self.parts.extend([Part::Directories, Part::Exactly('/')]);
        }
    }
}

fn set(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Part> {
    let negated = rest.next_if(|next| matches!(next, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match rest.next()? {
            // A bracket right at the beginning of a set is a member of it.
            ']' if !ranges.is_empty() => return Some(Part::Set { ranges, negated }),
            '\\' => rest.next()?,
            other => other,
        };
        let mut ahead = rest.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some('\\')) => {
                let escaped = ahead.next()?;
                *rest = ahead;
                escaped
            }
            (Some('-'), Some(last)) if last != ']' => {
                *rest = ahead;
                last
            }
            _ => first,
        };
        ranges.push((first, last));
    }
}

/// Bits of positions: position `n` stands before part `n`, the last one behind all parts.
type Positions = Vec<u64>;

/// The parts as sets of positions, one set per class of characters that all parts treat alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Automaton {
    /// Where classes of characters begin, except the first, which begins at zero.
    bounds: Vec<u32>,
    /// For each class: the positions whose part takes such a character.
    takers: Vec<Positions>,
    /// Positions before runs.
    runs: Positions,
    /// Of these, the ones whose run takes slashes too.
    across: Positions,
    /// Of these, the ones that may be left out together with the slash that follows.
    directories: Positions,
    end: usize,
}

impl Automaton {
    fn of(parts: &[Part]) -> Self {
        let mut bounds: Vec<u32> = parts.iter().flat_map(Part::bounds).collect();
        bounds.extend([u32::from('/'), u32::from('/') + 1]);
        bounds.sort_unstable();
        bounds.dedup();
        let positions = |wanted: &dyn Fn(&Part) -> bool| {
            let mut positions = vec![0_u64; parts.len() / 64 + 1];
            for (at, _) in parts.iter().enumerate().filter(|(_, part)| wanted(part)) {
                set_bit(&mut positions, at);
            }
            positions
        };
        let takers = std::iter::once(&0)
            .chain(&bounds)
            .map(|letter| positions(&|part| part.takes(*letter)))
            .collect();
        Self {
            takers,
            runs: positions(&Part::is_run),
            across: positions(&|part| matches!(part, Part::Across | Part::Directories)),
            directories: positions(&|part| *part == Part::Directories),
            end: parts.len(),
            bounds,
        }
    }

    fn accepts(&self, text: &str) -> bool {
        let mut live = vec![0_u64; self.runs.len()];
        let mut next = live.clone();
        set_bit(&mut live, 0);
        self.leave_out_directories(&mut live);
        self.end_runs(&mut live);
        for letter in text.chars() {
            let letter_number = u32::from(letter);
            let class = self.bounds.partition_point(|bound| *bound <= letter_number);
            let Some(takers) = self.takers.get(class) else {
                return false;
            };
            let mut carry = 0;
            for ((next, live), taker) in next.iter_mut().zip(&live).zip(takers) {
                let moving = live & taker;
                *next = (moving << 1) | carry;
                carry = moving >> 63;
            }
            // Only where a component begins: a run that has taken something is not left out any more.
            self.leave_out_directories(&mut next);
            let staying = if letter == '/' { &self.across } else { &self.runs };
            for ((next, live), run) in next.iter_mut().zip(&live).zip(staying) {
                *next |= live & run;
            }
            self.end_runs(&mut next);
            std::mem::swap(&mut live, &mut next);
            if live.iter().all(|word| *word == 0) {
                return false;
            }
        }
        let word = live.get(self.end / 64).copied().unwrap_or(0);
        word >> (self.end % 64) & 1 == 1
    }

    fn leave_out_directories(&self, positions: &mut [u64]) {
        let mut carry = 0;
        for (word, directories) in positions.iter_mut().zip(&self.directories) {
            let skipping = *word & directories;
            *word |= (skipping << 2) | carry;
            carry = skipping >> 62;
        }
    }

    /// A run may end anywhere. No run follows a run, so that one pass is enough.
    fn end_runs(&self, positions: &mut [u64]) {
        let mut carry = 0;
        for (word, runs) in positions.iter_mut().zip(&self.runs) {
            let ending = *word & runs;
            *word |= (ending << 1) | carry;
            carry = ending >> 63;
        }
    }
}

fn set_bit(positions: &mut [u64], at: usize) {
    if let Some(word) = positions.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

#[cfg(test)]
mod tests;
