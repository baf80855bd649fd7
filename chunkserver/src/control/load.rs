//! How busy this machine is: CPU and memory, sampled away from the threads that carry heartbeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::shutdown::Shutdown;
use common::time::Clock;
use sysinfo::{MemoryRefreshKind, System};

const PERIOD: Duration = Duration::from_secs(1);

/// A cloneable view of the last sample, in thousandths.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadView(Arc<Sample>);

#[derive(Debug, Default)]
struct Sample {
    cpu_permille: AtomicU32,
    memory_permille: AtomicU32,
}

impl LoadView {
    /// Busy CPU.
    pub(crate) fn cpu_permille(&self) -> u32 {
        self.0.cpu_permille.load(Ordering::Relaxed)
    }

    /// Used memory.
    pub(crate) fn memory_permille(&self) -> u32 {
        self.0.memory_permille.load(Ordering::Relaxed)
    }
}

/// Samples until `shutdown` is given.
pub(crate) async fn run(view: LoadView, clock: Clock, shutdown: Shutdown) {
    let mut system = match System::new() {
        Ok(system) => system,
        Err(error) => {
            tracing::error!(%error, "cannot sample the machine's load");
            return shutdown.triggered().await;
        }
    };
    while !shutdown.is_triggered() {
        let view = view.clone();
        let sampled = tokio::task::spawn_blocking(move || {
            sample(&mut system, &view);
            system
        });
        match sampled.await {
            Ok(back) => system = back,
            Err(error) => {
                tracing::error!(%error, "cannot sample the machine's load any more");
                return shutdown.triggered().await;
            }
        }
        shutdown.guard(clock.sleep(PERIOD)).await;
    }
}

fn sample(system: &mut System, view: &LoadView) {
    system.refresh_cpu_usage();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    // The first sample has nothing to compare with and reads as idle.
    let cpu = (f64::from(system.global_cpu_usage()) * 10.0).clamp(0.0, 1000.0);
    let memory = system.used_memory() as f64 * 1000.0 / system.total_memory().max(1) as f64;
    view.0.cpu_permille.store(cpu as u32, Ordering::Relaxed);
    view.0
        .memory_permille
        .store(memory.clamp(0.0, 1000.0) as u32, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_uses_some_of_its_memory() {
        let view = LoadView::default();
        sample(&mut System::new().unwrap(), &view);
        assert!((1..=1000).contains(&view.memory_permille()));
        assert!(view.cpu_permille() <= 1000);
    }
}
