//! The registry of clusters and its outbox.

use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;

use crate::store::apply::fixture::{ALPHA, Bench};
use crate::store::cluster;
use common::ids::ClusterId;

fn register(name: &str, id: [u8; 16], generation: u64, control: &str) -> Command {
    Command::RegisterCluster(log::RegisterCluster {
        cluster_id: id.to_vec().into(),
        name: name.to_owned(),
        generation,
        site: "here".to_owned(),
        members: vec![log::Member {
            node_id: 1,
            control: control.to_owned(),
            data: String::new(),
        }],
    })
}

fn recorded(sequence: u64) -> Command {
    Command::ReleasesRecorded(log::ReleasesRecorded {
        cluster_id: ALPHA.to_vec().into(),
        sequence,
    })
}

#[test]
fn a_name_belongs_to_one_cluster() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.code(register("alpha", [9; 16], 1, "a:1")),
        "E_CLUSTER_EXISTS"
    );
    assert_eq!(bench.code(register("omega", ALPHA, 1, "a:1")), "E_CLUSTER_NAME");
    assert_eq!(bench.code(register("alpha", ALPHA, 1, "a:1")), "ok");
    assert_eq!(bench.code(register("beta", [9; 16], 1, "b:1")), "ok");
    let alpha = cluster::by_id(&bench.tables, ClusterId::new(ALPHA))
        .unwrap()
        .unwrap();
    assert_eq!(
        (alpha.members[0].control.as_str(), alpha.site.as_str()),
        ("a:1", "here")
    );
    assert_eq!(cluster::all(&bench.tables).unwrap().len(), 2);
}

#[test]
fn generations_only_grow_and_fence_what_was_opened_before() {
    let mut bench = Bench::new();
    let id = bench.open("ada", "/ada/x");
    assert_eq!(bench.code(register("alpha", ALPHA, 2, "a:1")), "ok");
    assert_eq!(bench.code(register("alpha", ALPHA, 1, "a:1")), "E_GENERATION");
    let mut command = bench.publishing(id, 1);
    command.generation = 2;
    let reply = bench.run(Command::Publish(command)).unwrap();
    assert!(format!("{reply:?}").contains("E_GENERATION"), "{reply:?}");
    bench.check_accounts();
}

#[test]
fn releases_are_gapless_and_sent_until_recorded() {
    let mut bench = Bench::new();
    let versions: Vec<_> = (0..5).map(|n| bench.put("ada", &format!("/ada/{n}"))).collect();
    for number in 0..5 {
        assert_eq!(bench.delete("ada", &format!("/ada/{number}"), false), "ok");
    }
    bench.now += 10_000;
    assert_eq!(bench.expire(2), (5, 3));
    let alpha = cluster::by_id(&bench.tables, ClusterId::new(ALPHA))
        .unwrap()
        .unwrap();
    let waiting =
        |bench: &Bench, after| cluster::releases_waiting(&bench.tables, alpha.number, after, 100).unwrap();
    let expected: Vec<_> = (1..=5).zip(versions).collect();
    assert_eq!(waiting(&bench, 0), expected);
    assert_eq!(bench.code(recorded(3)), "ok");
    assert_eq!(bench.code(recorded(2)), "ok");
    assert_eq!(waiting(&bench, 0), expected[3..]);
    assert_eq!(bench.code(recorded(6)), "E_STATE_LOST");
    assert_eq!(bench.code(recorded(5)), "ok");
    assert!(waiting(&bench, 0).is_empty());
    bench.put("ada", "/ada/again");
    assert_eq!(bench.delete("ada", "/ada/again", false), "ok");
    bench.now += 10_000;
    bench.expire(10);
    assert_eq!(waiting(&bench, 5)[0].0, 6);
}

#[test]
fn a_cluster_that_is_retired_keeps_nothing_waiting() {
    let mut bench = Bench::new();
    for name in 0..5 {
        bench.put("ada", &format!("/ada/{name}"));
    }
    let left = bench.open("ada", "/ada/left");
    bench.abort("ada", left).unwrap();
    let gone = log::Delete {
        caller: Some(bench.caller("ada")),
        path: "/ada/0".to_owned(),
        recursive: false,
        if_version: None,
        trash_keep_millis: 0,
    };
    bench.run(Command::Delete(gone)).unwrap();
    bench.expire(10);
    assert_eq!(bench.count("outbox"), 1);
    let retire = |bench: &Bench, user: &str, name: &str| {
        Command::RetireCluster(log::RetireCluster {
            caller: Some(bench.caller(user)),
            name: name.to_owned(),
        })
    };
    let (not_hers, none, command) = (
        retire(&bench, "ada", "alpha"),
        retire(&bench, "root", "beta"),
        retire(&bench, "root", "alpha"),
    );
    assert_eq!(bench.code(not_hers), "E_DENIED");
    assert_eq!(bench.code(none), "E_CLUSTER_NOT_FOUND");
    assert_eq!(bench.code(command.clone()), "ok");
    assert_eq!(bench.code(command), "ok");
    // In bounded steps.
    for more in [true, true, false] {
        let reply = bench.run(Command::SettleRetired(log::SettleRetired { limit: 1 }));
        assert!(
            matches!(reply, Ok(Reply::Worked(worked)) if worked.more == more),
            "{reply:?}"
        );
    }
    assert_eq!(bench.count("outbox"), 0);
    let recorded = crate::store::session::by_id(&bench.tables, left)
        .unwrap()
        .unwrap()
        .recorded;
    assert!(recorded);
    // It is fenced, gets no files, and what it held can be deleted without leaving anything behind.
    assert_eq!(
        bench.register("alpha", ALPHA).unwrap_err().code(),
        "E_CLUSTER_RETIRED"
    );
    let publishing = bench.publishing(left, 1);
    assert_eq!(bench.code(Command::Publish(publishing)), "E_CLUSTER_RETIRED");
    let opening = bench.opening("ada", "/ada/new");
    assert_eq!(bench.open_with(opening).unwrap_err().code(), "E_NO_CLUSTER");
    let all = log::Delete {
        caller: Some(bench.caller("ada")),
        path: "/ada/1".to_owned(),
        recursive: false,
        if_version: None,
        trash_keep_millis: 0,
    };
    bench.run(Command::Delete(all)).unwrap();
    bench.expire(10);
    assert_eq!(bench.count("outbox"), 0);
    bench.check_accounts();
}
