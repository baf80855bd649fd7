//! Texts for people: dates, rates, spans, and the sizes and ages that people type. All times are UTC.

use std::time::Duration;

use common::time::WallTime;
use common::units::{ByteCount, Span};

use super::failure::Failure;

/// `2026-11-21 02:11:28` (UTC).
pub fn date(time: WallTime) -> String {
    let seconds = time.as_millis() / 1000;
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Year, month and day of the `days`-th day after 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse of `civil`; `None` for a day that does not exist.
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    let year_from_march = year.checked_sub(u64::from(month <= 2))?;
    let era = year_from_march / 400;
    let year_of_era = year_from_march % 400;
    let shifted_month = if month > 2 {
        month - 3
    } else {
        month.checked_add(9)?
    };
    let of_year = (153 * shifted_month + 2) / 5 + day.checked_sub(1)?;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let days = (era * 146_097 + of_era).checked_sub(719_468)?;
    (civil(days) == (year, month, day)).then_some(days)
}

/// `1.2 GiB/s`.
pub fn rate(bytes: u64, span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds <= 0.0 {
        return "- B/s".to_owned();
    }
    format!("{}/s", ByteCount::new((bytes as f64 / seconds) as u64))
}

/// `850ms`, `1.5s`, `12s`, `3m 20s`, `2h 5m`, `4d 3h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `1 file`, `2 files`.
pub fn count(number: u64, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}

/// From and up to which size: `+10M` at least, `-10M` at most, `10M` exactly, `1M..10M` both; `None`
/// for no bound, which 0 is not.
///
/// # Errors
/// The text is none of these.
pub fn size_range(text: &str) -> Result<(Option<ByteCount>, Option<ByteCount>), Failure> {
    let size = |part: &str| {
        part.parse::<ByteCount>().map_err(|error| {
            Failure::usage(error.to_string()).hint("write --size +10M, -10M, 10M or 1M..10M")
        })
    };
    if let Some((from, to)) = text.split_once("..") {
        let (from, to) = (size(from)?, size(to)?);
        if from > to {
            return Err(Failure::usage(format!("'{text}' is an empty range of sizes")));
        }
        return Ok((Some(from), Some(to)));
    }
    match text.split_at_checked(1) {
        Some(("+", rest)) => Ok((Some(size(rest)?), None)),
        Some(("-", rest)) => Ok((None, Some(size(rest)?))),
        _ => size(text).map(|exact| (Some(exact), Some(exact))),
    }
}

/// A moment in the past: an age (`7d`, `36h`, `10m`) before `now`, or a date (`2026-11-21`, UTC).
///
/// # Errors
/// The text is neither.
pub fn moment(text: &str, now: WallTime) -> Result<WallTime, Failure> {
    if let Ok(age) = text.parse::<Span>() {
        return Ok(WallTime::from_millis(
            now.as_millis().saturating_sub(age.as_millis()),
        ));
    }
    let parts: Vec<Option<u64>> = text.split('-').map(|part| part.parse().ok()).collect();
    if let [Some(year), Some(month), Some(day)] = parts.as_slice()
        && let Some(days) = days_of(*year, *month, *day)
    {
        return Ok(WallTime::from_millis(days * 86_400_000));
    }
    Err(Failure::usage(format!("'{text}' is neither an age nor a date"))
        .hint("write for example 36h, 7d or 2026-11-21"))
}

/// Rows in aligned columns, without a trailing blank. Numbers go right where `right` says so.
pub fn table(rows: &[Vec<String>], right: &[bool]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| visible(cell)).max().unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                let gap = " ".repeat(width.saturating_sub(visible(cell)));
                if right.get(column).copied().unwrap_or(false) {
                    format!("{gap}{cell}")
                } else {
                    format!("{cell}{gap}")
                }
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Characters that take a place on the screen: all but colour sequences.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut inside = false;
    for c in text.chars() {
        match c {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            _ if inside => {}
            _ => count += 1,
        }
    }
    count
}

/// A name as it may be shown on a terminal or line: control characters and marks that change the direction of text are
/// escaped, so that a name cannot command the terminal, pretend to be two lines, or to be another name.
pub fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    name.chars().for_each(|c| push_escaped(&mut plain, c));
    plain
}

fn push_escaped(to: &mut String, c: char) {
    if deceives(c) {
        to.extend(c.escape_default());
    } else {
        to.push(c);
    }
}

/// Whether a character does something to a terminal other than to take its place.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Line and paragraph separators; marks, embeddings, overrides and isolates of direction.
            '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// A whole text for a terminal, which may have names in it: as [`plain`], but for the colours of ours, and line breaks,
/// after which the line is indented: no part of a text can pass for another message.
pub fn for_screen(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let ours = OUR_COLOURS.iter().find(|colour| rest.starts_with(**colour));
        let length = match ours {
            Some(colour) => {
                shown.push_str(colour);
                colour.len()
            }
            None if c == '\n' => {
                let is_indented = rest.starts_with("\n  ");
                shown.push_str(if is_indented { "\n" } else { "\n  " });
                1
            }
            None => {
                push_escaped(&mut shown, c);
                c.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    shown
}

/// What `Console::paint` writes.
const OUR_COLOURS: [&str; 6] = [
    "\u{1b}[1;31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[1m",
    "\u{1b}[2m",
    "\u{1b}[0m",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_795_227_088_000, "2026-11-21 02:11:28"),
        ] {
            assert_eq!(date(WallTime::from_millis(millis)), text);
        }
        for days in (0..60_000).step_by(7) {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), Some(days));
        }
        assert_eq!(days_of(2026, 2, 29), None);
        assert_eq!(days_of(2026, 13, 1), None);
        assert_eq!(days_of(2026, 0, 1), None);
    }

    #[test]
    fn ages_and_dates_are_moments() {
        let now = WallTime::from_millis(10 * 86_400_000);
        assert_eq!(moment("7d", now).unwrap(), WallTime::from_millis(3 * 86_400_000));
        assert_eq!(
            moment("1970-01-03", now).unwrap(),
            WallTime::from_millis(2 * 86_400_000)
        );
        assert!(moment("yesterday", now).is_err());
    }

    #[test]
    fn sizes_are_ranges() {
        let size = |bytes| Some(ByteCount::new(bytes));
        assert_eq!(size_range("+10M").unwrap(), (size(10 << 20), None));
        assert_eq!(size_range("-1K").unwrap(), (None, size(1024)));
        assert_eq!(size_range("5").unwrap(), (size(5), size(5)));
        assert_eq!(size_range("1K..2K").unwrap(), (size(1024), size(2048)));
        // Zero is a size like any other: empty files.
        assert_eq!(size_range("0").unwrap(), (size(0), size(0)));
        assert_eq!(size_range("-0").unwrap(), (None, size(0)));
        assert_eq!(size_range("0..0").unwrap(), (size(0), size(0)));
        assert_eq!(size_range("+0").unwrap(), (size(0), None));
        for text in ["", "+", "ten", "2K..1K"] {
            assert!(size_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned(), "x".to_owned()],
            vec![
                "bcd".to_owned(),
                "\u{1b}[31m200\u{1b}[0m".to_owned(),
                String::new(),
            ],
        ];
        let lines = table(&rows, &[false, true]);
        assert_eq!(lines, ["a      1  x", "bcd  \u{1b}[31m200\u{1b}[0m"]);
    }

    #[test]
    fn names_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(plain("\u{e9}"), "\u{e9}");
        assert_eq!(plain("a\r\n\u{9b}b"), "a\\r\\n\\u{9b}b");
        // `exe.jpg` to the eye, and a program to the machine.
        assert_eq!(plain("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(plain("\u{2066}a\u{200f}"), "\\u{2066}a\\u{200f}");
        // Letters and joined emoji of any script stay as they are.
        for name in [
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
            "\u{1f469}\u{200d}\u{1f680}",
            "e\u{301}",
        ] {
            assert_eq!(plain(name), name);
        }
    }

    #[test]
    fn a_screen_gets_our_colours_and_nobody_elses_codes() {
        let ours = "\u{1b}[1;31merror\u{1b}[0m: a\n  b";
        assert_eq!(for_screen(ours), ours);
        let theirs = "no '\u{1b}]0;x\u{7}\u{1b}[2J\u{202e}'\nerror[E_X]: forged";
        let shown = for_screen(theirs);
        assert!(!shown.chars().any(|c| deceives(c) && c != '\n'), "{shown:?}");
        assert!(shown.ends_with("\n  error[E_X]: forged"), "{shown:?}");
    }

    #[test]
    fn spans_and_rates_are_short() {
        assert_eq!(span(Duration::from_millis(850)), "850ms");
        assert_eq!(span(Duration::from_millis(1500)), "1.5s");
        assert_eq!(span(Duration::from_secs(200)), "3m 20s");
        assert_eq!(rate(2 << 30, Duration::from_secs(2)), "1 GiB/s");
        assert_eq!(rate(1, Duration::ZERO), "- B/s");
    }
}
