//! The registry of clusters and its outbox.

use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

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
