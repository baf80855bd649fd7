//! What a benchmark counts, and how it is told.

use std::time::Duration;

use client::cli::context::Context;
use client::cli::failure::Failure;
use client::cli::human;
use client::names::Installation;
use common::units::ByteCount;
use serde::Serialize;

use super::Workload;

/// Everything that was measured, and what was in force.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Bytes of each file.
    file_bytes: u64,
    /// How many files.
    files: u64,
    /// How many at once.
    parallel: u64,
    /// Copies of every chunk before an upload is acknowledged: the fewest of all clusters.
    copies: u32,
    /// Whether less than what is promised is in force.
    reduced_durability: bool,
    /// Congestion control of the client's sockets.
    congestion_control: String,
    /// Upload, download.
    pub(super) phases: Vec<Phase>,
    /// The disk alone: bytes per second, direct 1 MiB writes and a sync at the end.
    #[serde(rename = "disk_bytes_per_second")]
    pub(super) disk: Option<f64>,
    /// The wire alone: bytes per second through two TLS hops that discard.
    #[serde(rename = "wire_bytes_per_second")]
    pub(super) wire: Option<f64>,
}

/// One phase of a workload.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Phase {
    /// `upload` or `download`.
    name: &'static str,
    seconds: f64,
    bytes_per_second: f64,
    files_per_second: f64,
    /// CPU time of this process, user and system together.
    client_cpu_seconds: f64,
    /// Of single files.
    latency_millis: Latency,
}

/// How long single files took, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Latency {
    /// Of `spans`, which are none but in an empty run.
    fn of(spans: &mut [Duration]) -> Self {
        spans.sort_unstable();
        let at = |permille: usize| {
            let last = spans.len().saturating_sub(1);
            let index = (spans.len() * permille)
                .div_ceil(1000)
                .saturating_sub(1)
                .min(last);
            spans.get(index).map_or(0.0, |span| span.as_secs_f64() * 1000.0)
        };
        Self {
            p50: at(500),
            p90: at(900),
            p99: at(990),
            max: at(1000),
        }
    }
}

impl Phase {
    /// What `workload` took.
    pub(super) fn new(
        name: &'static str,
        workload: Workload,
        elapsed: Duration,
        cpu: Duration,
        mut spans: Vec<Duration>,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        Self {
            name,
            seconds,
            bytes_per_second: (workload.size.get() * workload.files) as f64 / seconds,
            files_per_second: workload.files as f64 / seconds,
            client_cpu_seconds: cpu.as_secs_f64(),
            latency_millis: Latency::of(&mut spans),
        }
    }
}

impl Report {
    /// Of an installation in the state `status`; nothing is measured yet.
    pub(super) fn new(workload: Workload, status: &Installation, congestion: Option<&str>) -> Self {
        let promised = || status.clusters.iter().map(|cluster| cluster.durability);
        Self {
            file_bytes: workload.size.get(),
            files: workload.files,
            parallel: workload.parallel,
            copies: promised().map(|durability| durability.copies).min().unwrap_or(0),
            reduced_durability: promised().any(|durability| durability.reduced),
            congestion_control: congestion.map_or_else(kernel_default, str::to_owned),
            phases: Vec::new(),
            disk: None,
            wire: None,
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// Stdout is gone.
    pub(super) fn tell(&self, context: &Context) -> Result<(), Failure> {
        let console = &context.console;
        if console.is_json() {
            return console.document(&self.with_ratio());
        }
        let reduced = if self.reduced_durability {
            ", reduced durability"
        } else {
            ""
        };
        console.line(&format!(
            "{} of {}, {} at once; {} copies before the acknowledgement{reduced}; congestion control {}",
            human::count(self.files, "file"),
            ByteCount::new(self.file_bytes),
            self.parallel,
            self.copies,
            self.congestion_control,
        ))?;
        let mut rows = vec![
            [
                "",
                "GiB/s",
                "files/s",
                "seconds",
                "client CPU s",
                "p50 ms",
                "p90 ms",
                "p99 ms",
                "max ms",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        rows.extend(self.phases.iter().map(|phase| {
            let latency = phase.latency_millis;
            vec![
                phase.name.to_owned(),
                format!("{:.3}", gib(phase.bytes_per_second)),
                format!("{:.1}", phase.files_per_second),
                format!("{:.2}", phase.seconds),
                format!("{:.2}", phase.client_cpu_seconds),
                format!("{:.1}", latency.p50),
                format!("{:.1}", latency.p90),
                format!("{:.1}", latency.p99),
                format!("{:.1}", latency.max),
            ]
        }));
        human::table(&rows, &[false, true, true, true, true, true, true, true, true])
            .iter()
            .try_for_each(|line| console.line(line))?;
        if let (Some(disk), Some(wire), Some(ratio)) = (self.disk, self.wire, self.ratio()) {
            console.line(&format!(
                "disk alone  {:.3} GiB/s, so two copies at most {:.3}",
                gib(disk),
                gib(disk / 2.0)
            ))?;
            console.line(&format!(
                "wire alone  {:.3} GiB/s through two TLS hops that discard",
                gib(wire)
            ))?;
            console.line(&format!(
                "the upload reaches {:.0} % of the lower of both",
                ratio * 100.0
            ))?;
        }
        Ok(())
    }

    /// The upload's rate over what the machine could do at best: half the disk's rate, or the wire's.
    fn ratio(&self) -> Option<f64> {
        let upload = self.phases.first()?.bytes_per_second;
        Some(upload / (self.disk? / 2.0).min(self.wire?))
    }

    fn with_ratio(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("ratio".to_owned(), serde_json::json!(self.ratio()));
        }
        value
    }
}

fn gib(bytes_per_second: f64) -> f64 {
    bytes_per_second / (1_u64 << 30) as f64
}

fn kernel_default() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
        .map(|name| format!("{} (the kernel's default)", name.trim()))
        .unwrap_or_else(|_| "the kernel's default".to_owned())
}

/// CPU time of this process so far, user and system together.
pub(super) fn cpu_time() -> Duration {
    let ticks = || -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ').skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    };
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs_f64(ticks().unwrap_or(0) as f64 / per_second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted() {
        let mut spans: Vec<Duration> = (1..=1000).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(&mut spans);
        assert_eq!(
            (latency.p50, latency.p90, latency.p99, latency.max),
            (500.0, 900.0, 990.0, 1000.0)
        );
        assert_eq!(Latency::of(&mut [Duration::from_millis(7)]).p50, 7.0);
        assert_eq!(Latency::of(&mut []).max, 0.0);
    }

    #[test]
    fn the_ratio_is_to_the_lower_baseline() {
        let workload = Workload {
            size: ByteCount::mib(100),
            files: 1,
            parallel: 1,
        };
        let status = Installation {
            names: client::names::GroupState {
                term: 1,
                leader: None,
                members: Vec::new(),
                voters_wanted: 0,
            },
            clusters: Vec::new(),
            files: 0,
            size: ByteCount::new(0),
            uploads_open: 0,
        };
        let mut report = Report::new(workload, &status, Some("cubic"));
        let second = Duration::from_secs(1);
        report
            .phases
            .push(Phase::new("upload", workload, second, second, vec![second]));
        report.disk = Some(400e6);
        report.wire = Some(1e12);
        assert!((report.ratio().unwrap() - 104_857_600.0 / 200e6).abs() < 1e-9);
        assert_eq!(report.with_ratio()["congestion_control"], "cubic");
    }

    #[test]
    fn cpu_time_goes_on() {
        let before = cpu_time();
        let mut hash = blake3::hash(b"x");
        while cpu_time() == before {
            hash = blake3::hash(hash.as_bytes());
        }
        assert!(cpu_time() > before);
    }
}
