//! What the simulated disk does to content that was not synced, and the failures that it can be given.

use super::*;
use crate::disk::health::Standing;

fn simulated(seed: u64) -> SimulatedDisk {
    let random = Random::seeded(seed);
    SimulatedDisk::new("simulated", ByteCount::mib(64), Clock::real(), random)
}

fn pages(byte: u8, count: usize) -> Vec<Bytes> {
    vec![AlignedBuf::copied_from(&vec![byte; count * PAGE_BYTES]).freeze()]
}

#[tokio::test]
async fn synced_content_survives_and_the_rest_may_tear() {
    let mut torn = 0;
    for seed in 0..50 {
        let simulated = simulated(seed);
        let disk = simulated.disk();
        let file = disk.open("a", OpenMode::Create).await.unwrap();
        file.write(0, pages(1, 4)).await.unwrap();
        file.sync().await.unwrap();
        disk.sync_directory().await.unwrap();
        file.write(0, pages(2, 2)).await.unwrap();
        file.write(4 * PAGE_BYTES as u64, pages(2, 1)).await.unwrap();
        simulated.restart();
        assert!(file.sync().await.is_err(), "an old handle is dead");
        let content = simulated.content("a").unwrap();
        assert!(
            content[2 * PAGE_BYTES..4 * PAGE_BYTES]
                .iter()
                .all(|byte| *byte == 1)
        );
        let head = &content[..PAGE_BYTES];
        torn += u32::from(head.contains(&1) && head.contains(&2));
        for sector in content.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| byte == &sector[0]), "sectors are whole");
        }
    }
    assert!((5..45).contains(&torn), "{torn} of 50 torn");
}

#[tokio::test]
async fn entries_are_lost_until_the_directory_is_synced() {
    let mut lost = 0;
    for seed in 0..40 {
        let simulated = simulated(seed);
        let disk = simulated.disk();
        disk.open("kept", OpenMode::Create).await.unwrap();
        disk.sync_directory().await.unwrap();
        let file = disk.open("late", OpenMode::Create).await.unwrap();
        file.sync().await.unwrap();
        simulated.restart();
        assert!(simulated.names().contains(&"kept".to_owned()));
        lost += usize::from(!simulated.names().contains(&"late".to_owned()));
    }
    assert!((5..35).contains(&lost), "{lost} of 40 lost");
}

#[tokio::test]
async fn a_failed_sync_poisons_for_good() {
    let simulated = simulated(1);
    let disk = simulated.disk();
    let file = disk.open("a", OpenMode::Create).await.unwrap();
    file.write(0, pages(1, 1)).await.unwrap();
    simulated.set_faults(Faults {
        errors_at: vec![simulated.steps() + 1],
        ..Faults::default()
    });
    assert!(file.sync().await.is_err());
    assert!(matches!(
        file.sync().await,
        Err(super::super::Error::Poisoned { .. })
    ));
    assert!(matches!(
        file.write(0, pages(2, 1)).await,
        Err(super::super::Error::Poisoned { .. })
    ));
    assert!(disk.open("b", OpenMode::Create).await.is_err());
    let read = file.read(0, PAGE_BYTES, AlignedBuf::unpooled(1)).await.unwrap();
    assert!(read.as_slice().iter().all(|byte| *byte == 1));
    assert!(disk.stopped().unwrap().contains("fsync a"));
}

#[tokio::test]
async fn a_full_disk_is_not_poisoned() {
    let simulated = simulated(1);
    let disk = simulated.disk();
    let file = disk.open("a", OpenMode::Create).await.unwrap();
    file.allocate(0, 60 << 20).await.unwrap();
    let over = file.allocate(60 << 20, 8 << 20).await.unwrap_err();
    assert!(matches!(over, super::super::Error::Full { .. }));
    assert!(file.write(100 << 20, pages(1, 2000)).await.is_err());
    assert_eq!(disk.stopped(), None);
    assert!(matches!(disk.standing(), Standing::Strained(_)));
    file.write(0, pages(1, 2000)).await.unwrap();
    file.punch(0, 60 << 20).await.unwrap();
    assert_eq!(disk.space().await.unwrap().available, ByteCount::mib(64));
    disk.probe().await.unwrap();
    assert_eq!(disk.standing(), Standing::Working);
}

#[tokio::test]
async fn a_disk_that_refused_a_change_works_again_once_a_probe_succeeds() {
    let simulated = simulated(1);
    let disk = simulated.disk();
    let file = disk.open("a", OpenMode::Create).await.unwrap();
    file.write(0, pages(1, 1)).await.unwrap();
    file.sync().await.unwrap();
    let from_now = simulated.calls() + 1..u64::MAX;
    simulated.set_faults(Faults {
        calls_failing: vec![(from_now, libc::EROFS)],
        ..Faults::default()
    });
    assert!(file.write(0, pages(2, 1)).await.is_err());
    assert!(matches!(disk.standing(), Standing::Stopped(_)));
    assert!(disk.probe().await.is_err());
    assert!(matches!(
        disk.remove("a").await,
        Err(super::super::Error::Stopped { .. })
    ));
    simulated.set_faults(Faults::default());
    disk.probe().await.unwrap();
    assert_eq!(disk.standing(), Standing::Working);
    file.write(0, pages(2, 1)).await.unwrap();
    assert_eq!(simulated.names(), ["a"]);
}

#[tokio::test]
async fn want_of_descriptors_refuses_and_passes() {
    let simulated = simulated(1);
    let disk = simulated.disk();
    let file = disk.open("a", OpenMode::Create).await.unwrap();
    simulated.set_faults(Faults {
        no_descriptors: true,
        ..Faults::default()
    });
    for mode in [OpenMode::Create, OpenMode::Update, OpenMode::Read] {
        let refused = disk.open("b", mode).await.unwrap_err();
        assert!(
            matches!(refused, super::super::Error::Exhausted { .. }),
            "{refused}"
        );
        assert!(!refused.is_of_medium());
    }
    file.write(0, pages(2, 1)).await.unwrap();
    file.sync().await.unwrap();
    assert!(matches!(disk.standing(), Standing::Strained(_)));
    assert!(disk.probe().await.is_err());
    simulated.set_faults(Faults::default());
    disk.probe().await.unwrap();
    assert_eq!(disk.standing(), Standing::Working);
}

/// What makes a second fsync worthless.
#[tokio::test]
async fn no_later_sync_saves_what_a_failed_one_gave_up() {
    for seed in 0..20 {
        let simulated = simulated(seed);
        let disk = simulated.disk();
        let file = disk.open("a", OpenMode::Create).await.unwrap();
        file.write(0, pages(1, 8)).await.unwrap();
        file.sync().await.unwrap();
        disk.sync_directory().await.unwrap();
        file.write(0, pages(2, 8)).await.unwrap();
        let next = simulated.calls() + 1;
        simulated.set_faults(Faults {
            calls_failing: vec![(next..next + 1, libc::EIO)],
            ..Faults::default()
        });
        assert!(file.sync().await.is_err());
        assert!(matches!(
            disk.probe().await,
            Err(super::super::Error::Poisoned { .. })
        ));
        // Another process, which syncs again.
        simulated.end_process();
        let disk = simulated.disk();
        let cached = disk.open("a", OpenMode::Update).await.unwrap();
        cached.sync().await.unwrap();
        let read = async |mode| {
            let file = disk.open("a", mode).await.unwrap();
            let buffer = AlignedBuf::unpooled(PAGE_BYTES);
            file.read(0, PAGE_BYTES, buffer).await.unwrap().as_slice()[0]
        };
        assert_eq!(read(OpenMode::Read).await, 2);
        assert_eq!(read(OpenMode::ReadDirect).await, 1);
    }
}

#[tokio::test]
async fn removals_and_renames_may_be_undone_until_the_directory_is_synced() {
    let mut undone = 0;
    for seed in 0..40 {
        let simulated = simulated(seed);
        for name in ["a", "b", "c"] {
            simulated.plant(name, name.as_bytes());
        }
        let driver = SimulatedDriver {
            shared: Arc::clone(&simulated.0),
            life: 0,
        };
        driver.rename("a", "b").await.unwrap();
        driver.remove("c").await.unwrap();
        simulated.restart();
        let b = simulated.content("b").unwrap();
        match simulated.names().join("") {
            names if names == "b" => assert_eq!(b, b"a"),
            names if names == "bc" => assert_eq!(b, b"a"),
            names if names == "abc" => assert_eq!(b, b"b"),
            names => panic!("{names}"),
        }
        undone += usize::from(simulated.names().len() > 1);
    }
    assert!((5..38).contains(&undone), "{undone} of 40 undone");
}

#[tokio::test]
async fn one_seed_one_run() {
    let run = |seed| async move {
        let simulated = simulated(seed);
        let disk = simulated.disk();
        simulated.set_faults(Faults {
            power_cut_at: Some(3),
            misdirected_at: vec![(2, 512)],
            ..Faults::default()
        });
        let file = disk.open("a", OpenMode::Create).await.unwrap();
        let _ = file.write(0, pages(7, 8)).await;
        let _ = file.sync().await;
        assert!(simulated.is_without_power());
        simulated.restart();
        simulated.content("a")
    };
    for seed in 0..10 {
        assert_eq!(run(seed).await, run(seed).await);
    }
}
