//! How far a transfer has come, for a person: a bar on a terminal, a line every 10 s elsewhere, nothing with `-q`.

use std::time::Duration;

use common::time::{Clock, Moment};
use common::units::ByteCount;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::{Console, Shown};
use super::human;

const BAR_PERIOD: Duration = Duration::from_millis(100);
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// How far something has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// What is being moved.
    pub name: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
}

/// Shows readings until it is dropped.
#[derive(Debug)]
pub struct Meter {
    task: Option<tokio::task::JoinHandle<()>>,
    bar: Option<ProgressBar>,
}

impl Meter {
    /// Begins to show what `read` tells. Must be called within a tokio runtime.
    pub fn start(console: &Console, clock: &Clock, read: impl Fn() -> Reading + Send + 'static) -> Self {
        match console.shown() {
            Shown::Nothing => Self {
                task: None,
                bar: None,
            },
            Shown::Bar => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                let task = tokio::spawn(draw(bar.clone(), clock.clone(), read));
                Self {
                    task: Some(task),
                    bar: Some(bar),
                }
            }
            Shown::Lines => {
                let task = tokio::spawn(tell(console.clone(), clock.clone(), read));
                Self {
                    task: Some(task),
                    bar: None,
                }
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

const TEMPLATE: &str =
    "{msg} {percent:>3}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta} {wide_bar}";
const TEMPLATE_UNKNOWN: &str = "{msg} {binary_bytes} {binary_bytes_per_sec} {spinner}";

async fn draw(bar: ProgressBar, clock: Clock, read: impl Fn() -> Reading) {
    let style = |template: &str| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    let mut known = None;
    loop {
        let reading = read();
        if known != Some(reading.total.is_some()) {
            known = Some(reading.total.is_some());
            bar.set_style(style(if reading.total.is_some() {
                TEMPLATE
            } else {
                TEMPLATE_UNKNOWN
            }));
        }
        if let Some(total) = reading.total {
            bar.set_length(total);
        }
        bar.set_message(human::plain(&reading.name));
        bar.set_position(reading.done);
        clock.sleep(BAR_PERIOD).await;
    }
}

async fn tell(console: Console, clock: Clock, read: impl Fn() -> Reading) {
    let pace = Pace::start(&clock);
    loop {
        clock.sleep(LINE_PERIOD).await;
        console.note(&pace.line(&read(), clock.moment()));
    }
}

/// The rate since the beginning.
#[derive(Clone, Debug)]
pub struct Pace {
    began: Moment,
}

impl Pace {
    /// Begins now.
    pub fn start(clock: &Clock) -> Self {
        Self {
            began: clock.moment(),
        }
    }

    /// `name 42% 42 MiB/100 MiB 10 MiB/s ETA 5s`
    pub fn line(&self, reading: &Reading, now: Moment) -> String {
        let elapsed = now.since(self.began);

        let name = human::plain(&reading.name);
        let (done, rate) = (ByteCount::new(reading.done), human::rate(reading.done, elapsed));
        let Some(total) = reading.total else {
            return format!("{name} {done} {rate}");
        };
        let percent = if total == 0 {
            100
        } else {
            u128::from(reading.done) * 100 / u128::from(total)
        };
        let left = total.saturating_sub(reading.done);
        let eta = if reading.done == 0 {
            "-".to_owned()
        } else {
            human::span(elapsed.mul_f64(left as f64 / reading.done as f64))
        };
        format!(
            "{name} {percent}% {done}/{} {rate} ETA {eta}",
            ByteCount::new(total)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::time::ManualTime;

    #[test]
    fn a_line_tells_all_there_is() {
        let time = ManualTime::default();
        let pace = Pace::start(&time.clock());
        time.advance(Duration::from_secs(10));
        let reading = Reading {
            name: "film.mov".to_owned(),
            done: 25 << 20,
            total: Some(100 << 20),
        };
        let line = pace.line(&reading, time.clock().moment());
        assert_eq!(line, "film.mov 25% 25 MiB/100 MiB 2.5 MiB/s ETA 30s");
        let stream = Reading {
            total: None,
            ..reading
        };
        assert_eq!(
            pace.line(&stream, time.clock().moment()),
            "film.mov 25 MiB 2.5 MiB/s"
        );
    }
}
