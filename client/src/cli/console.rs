//! The terminal: results to stdout, everything else to stderr.
//!
//! Invariant: stdout carries the result only, so that it can be piped; what a person reads along the way (progress,
//! notes, hints, questions, errors) goes to stderr.

use std::io::{BufWriter, IsTerminal, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::failure::Failure;
use super::human;
use super::options::{Environment, Options, When};

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// A bar that is drawn over and over.
    Bar,
    /// A line every 10 s.
    Lines,
    /// Not at all.
    Nothing,
}

/// Colours that mean something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// An error.
    Red,
    /// Good.
    Green,
    /// A warning.
    Yellow,
    /// A heading or command.
    Bold,
    /// Less important.
    Dim,
}

/// A cloneable handle to the terminal.
#[derive(Clone)]
pub struct Console {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    err: Arc<Mutex<Box<dyn Write + Send>>>,
    json: bool,
    quiet: bool,
    verbose: u8,
    yes: bool,
    shown: Shown,
    err_colour: bool,
    out_colour: bool,
    /// Whether stdout and stderr are terminals, where names must not act.
    out_seen: bool,
    err_seen: bool,
    asks: bool,
}

impl Console {
    /// The process's own terminal, as `options` want it used.
    pub fn of_process(options: &Options, environment: &Environment) -> Self {
        let stderr_seen = std::io::stderr().is_terminal();
        let colour = |seen: bool| match options.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                seen && environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
            }
        };
        let shown = match options.progress {
            _ if options.quiet => Shown::Nothing,
            // A bar is no JSON.
            When::Always | When::Auto if options.json => Shown::Lines,
            When::Always | When::Auto if stderr_seen => Shown::Bar,
            When::Always | When::Auto => Shown::Lines,
            When::Never => Shown::Nothing,
        };
        Self {
            out: Arc::new(Mutex::new(Box::new(BufWriter::new(std::io::stdout())))),
            err: Arc::new(Mutex::new(Box::new(std::io::stderr()))),
            json: options.json,
            quiet: options.quiet,
            verbose: options.verbose,
            yes: options.yes,
            shown,
            err_colour: colour(stderr_seen),
            out_colour: colour(std::io::stdout().is_terminal()) && !options.json,
            out_seen: std::io::stdout().is_terminal(),
            err_seen: stderr_seen,
            // A question is no JSON.
            asks: stderr_seen && std::io::stdin().is_terminal() && !options.json,
        }
    }

    /// A console that writes to `out` and `err` and asks nobody.
    pub fn to_writers(options: &Options, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self {
            out: Arc::new(Mutex::new(out)),
            err: Arc::new(Mutex::new(err)),
            json: options.json,
            quiet: options.quiet,
            verbose: options.verbose,
            yes: options.yes,
            shown: Shown::Nothing,
            err_colour: false,
            out_colour: false,
            out_seen: false,
            err_seen: false,
            asks: false,
        }
    }

    /// Whether results are JSON.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// How often `-v` was given.
    pub const fn verbosity(&self) -> u8 {
        self.verbose
    }

    /// How progress is shown.
    pub const fn shown(&self) -> Shown {
        self.shown
    }

    /// Whether a person can be asked.
    pub const fn can_ask(&self) -> bool {
        self.asks
    }

    /// Whether results go to a terminal: a screen can be drawn on, and names must not act on it.
    pub const fn is_screen(&self) -> bool {
        self.out_seen
    }

    /// A line of the result. On a terminal nothing in it acts; elsewhere it is what it is.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        if self.out_seen {
            self.write_line(&human::for_screen(text))
        } else {
            self.write_line(text)
        }
    }

    fn write_line(&self, text: &str) -> Result<(), Failure> {
        writeln!(self.out.lock(), "{text}").map_err(|error| Failure::output(&error))
    }

    /// Bytes of the result, as they are.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.out
            .lock()
            .write_all(bytes)
            .map_err(|error| Failure::output(&error))
    }

    /// The result as one JSON document, for people too: several lines.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.write_line(&encoded(serde_json::to_string_pretty(value))?)
    }

    /// One JSON object of a stream, on one line.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.write_line(&encoded(serde_json::to_string(value))?)
    }

    /// Hands what was written to stdout on to its reader.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn flush(&self) -> Result<(), Failure> {
        self.out.lock().flush().map_err(|error| Failure::output(&error))
    }

    /// Something worth knowing, on stderr; nothing with `-q`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.tell(text);
        }
    }

    /// Something that has to be known, on stderr: as a JSON object `{"note": ...}` where results are JSON.
    pub fn tell(&self, text: &str) {
        if self.json {
            self.say(&serde_json::json!({ "note": text }).to_string());
        } else {
            self.say(text);
        }
    }

    /// Something that did not go as expected, on stderr: as a JSON object `{"warning": ...}` where results are JSON.
    pub fn warn(&self, text: &str) {
        if self.json {
            self.say(&serde_json::json!({ "warning": text }).to_string());
            return;
        }
        let mark = self.paint(Colour::Yellow, "warning:");
        self.say(&format!("{mark} {text}"));
    }

    /// A failure, on stderr: text, or one JSON object.
    pub fn failure(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        if self.json {
            self.write_err(&serde_json::to_string(failure).unwrap_or_else(|_| failure.to_string()));
            return;
        }
        let mark = self.paint(Colour::Red, &format!("error[{}]:", failure.code));
        self.say(&format!("{mark} {}", failure.message));
        if !failure.hint.is_empty() {
            let mark = self.paint(Colour::Bold, "hint:");
            self.say(&format!("{mark} {}", failure.hint));
        }
        if !failure.request_id.is_empty() {
            self.say(&format!("request: {}", failure.request_id));
        }
    }

    /// Asks before something is destroyed: with `--yes` goes on, on a terminal asks, elsewhere refuses.
    ///
    /// # Errors
    /// The answer was no, or there is nobody to ask.
    pub fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !self.asks {
            return Err(
                Failure::usage(format!("{question} There is no terminal to ask on."))
                    .hint("say --yes to go on without being asked, or --dry-run to see what would be done"),
            );
        }
        let answer = self.ask(&format!("{question} [y/N] "))?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Failure::new(
                super::failure::Exit::Other,
                "E_DECLINED",
                "nothing was done",
            ))
        }
    }

    /// Asks for a line.
    ///
    /// # Errors
    /// There is nobody to ask.
    pub fn ask(&self, question: &str) -> Result<String, Failure> {
        // A person who went away is an empty answer.
        let question = human::for_screen(question);
        let _ = write!(self.err.lock(), "{question}").and_then(|()| std::io::stderr().flush());
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Failure::usage(format!("cannot read the answer: {error}")))?;
        Ok(answer)
    }

    /// Text in `colour` for stderr, where colours are wanted.
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        painted(self.err_colour, colour, text)
    }

    /// Text in `colour` for stdout, where colours are wanted.
    pub fn paint_out(&self, colour: Colour, text: &str) -> String {
        painted(self.out_colour, colour, text)
    }

    fn say(&self, text: &str) {
        if self.err_seen {
            self.write_err(&human::for_screen(text));
        } else {
            self.write_err(text);
        }
    }

    fn write_err(&self, text: &str) {
        // Nobody can be told that stderr is gone.
        let _ = writeln!(self.err.lock(), "{text}");
    }
}

fn painted(wanted: bool, colour: Colour, text: &str) -> String {
    let code = match colour {
        _ if !wanted => return text.to_owned(),
        Colour::Red => "1;31",
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Bold => "1",
        Colour::Dim => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

fn encoded(result: Result<String, serde_json::Error>) -> Result<String, Failure> {
    result.map_err(|error| Failure::output(&error.into()))
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    #[test]
    fn names_act_on_no_terminal_and_stay_what_they_are_elsewhere() {
        const NAME: &str = "a\u{1b}[2J\u{202e}b";
        for seen in [true, false] {
            let (out, err) = (Written::default(), Written::default());
            let options = Options::default();
            let mut console = Console::to_writers(&options, Box::new(out.clone()), Box::new(err.clone()));
            (console.out_seen, console.err_seen) = (seen, seen);
            let shown = if seen {
                "a\\u{1b}[2J\\u{202e}b".to_owned()
            } else {
                NAME.to_owned()
            };
            console.line(NAME).unwrap();
            assert_eq!(out.text(), format!("{shown}\n"));
            console.failure(&Failure::usage(NAME).hint(NAME));
            let said = err.text();
            assert_eq!(said.matches(&shown).count(), 2, "{said:?}");
            console.warn(NAME);
            assert_eq!(err.text(), format!("warning: {shown}\n"));
            console.document(&NAME).unwrap();
            assert_eq!(serde_json::from_str::<String>(&out.text()).unwrap(), NAME);
        }
    }
}
