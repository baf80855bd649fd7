//! The start board: what runs and what is still missing. Drawn over itself on a terminal, elsewhere a line per change.

use std::io::{IsTerminal, Write};

use client::cli::console::{Colour, Console, Shown};
use client::cli::human;

/// One line of the board.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// Who.
    pub(crate) name: String,
    /// Where.
    pub(crate) address: String,
    /// How it stands.
    pub(crate) state: String,
    /// Whether nothing is missing any more.
    pub(crate) ready: bool,
}

/// The board.
#[derive(Debug)]
pub(crate) struct Board {
    console: Console,
    drawn: bool,
    rows: Vec<Row>,
}

impl Board {
    /// An empty board.
    pub(crate) fn new(console: &Console) -> Self {
        Self {
            console: console.clone(),
            drawn: console.shown() == Shown::Bar && std::io::stderr().is_terminal(),
            rows: Vec::new(),
        }
    }

    /// Shows `rows` in place of what is shown.
    pub(crate) fn show(&mut self, rows: Vec<Row>) {
        if rows == self.rows {
            return;
        }
        if self.drawn {
            self.draw(&rows);
        } else {
            for row in rows.iter().filter(|row| !self.rows.contains(row)) {
                self.console.note(&format!("{}: {}", row.name, row.state));
            }
        }
        self.rows = rows;
    }

    fn draw(&self, rows: &[Row]) {
        let cells = |row: &Row| {
            let (mark, colour) = if row.ready {
                ("*", Colour::Green)
            } else {
                ("-", Colour::Yellow)
            };
            vec![
                self.console.paint(colour, mark),
                row.name.clone(),
                row.address.clone(),
                row.state.clone(),
            ]
        };
        let table: Vec<Vec<String>> = rows.iter().map(cells).collect();
        let mut text = String::new();
        if !self.rows.is_empty() {
            // Up to where the board began.
            text.push_str(&format!("\x1b[{}A", self.rows.len()));
        }
        for line in human::table(&table, &[]) {
            text.push_str("\x1b[2K");
            text.push_str(&line);
            text.push('\n');
        }
        // Nobody can be told that stderr is gone.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::cli::options::Options;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_for_every_change_and_no_other() {
        let heard = Heard::default();
        let console = Console::to_writers(
            &Options::default(),
            Box::new(std::io::sink()),
            Box::new(heard.clone()),
        );
        let mut board = Board::new(&console);
        let row = |name: &str, state: &str| Row {
            name: name.to_owned(),
            address: String::new(),
            state: state.to_owned(),
            ready: false,
        };
        board.show(vec![row("a", "starting"), row("b", "starting")]);
        board.show(vec![row("a", "starting"), row("b", "live")]);
        board.show(vec![row("a", "starting"), row("b", "live")]);
        let text = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "a: starting\nb: starting\nb: live\n");
    }
}
