//! Sessions that their leader alone knows until a command brings their opening along.

use common::ids::UploadId;
use common::lifecycle::Session;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;

use crate::store::apply::fixture::{Bench, WINDOW_MILLIS};
use crate::store::counter::Counter;
use crate::store::{lost, session};

fn id(opening: &log::Opening) -> UploadId {
    UploadId::new(opening.upload_id)
}

fn is_lost(bench: &Bench, opening: &log::Opening) -> bool {
    lost::contains(&bench.tables, id(opening)).unwrap()
}

fn record(opening: &log::Opening) -> Command {
    Command::RecordUploads(log::RecordUploads {
        openings: vec![opening.clone()],
    })
}

fn forget(bench: &Bench, opening: &log::Opening, closed_up_to: u64) -> Command {
    bench.forgetting(&[opening.upload_id], closed_up_to, 0)
}

/// A leadership ends, and another begins.
fn change_of_leader(bench: &mut Bench) {
    bench.run(Command::CloseUploads(log::CloseUploads {})).unwrap();
}

#[test]
fn a_publication_makes_the_row_of_its_session() {
    let mut bench = Bench::new();
    let upload = bench.opening("ada", "/ada/docs/x");
    let opening = bench.unrecorded(upload.clone());
    assert_eq!(bench.count("uploads"), 0);
    assert_eq!(bench.publish_opening(&opening), "ok");
    assert_eq!(bench.state(id(&opening)), Session::Published);
    assert_eq!(
        bench.publish_opening(&opening),
        "ok",
        "once, however often it is asked"
    );
    assert_eq!(bench.publish(id(&opening), 100), "ok");
    assert_eq!((bench.count("files"), bench.count("versions")), (1, 1));
    assert_eq!(bench.open_with(upload), Ok(id(&opening)), "the key finds it");
    bench.check_accounts();
}

#[test]
fn what_stands_against_a_publication_is_its_outcome() {
    let mut bench = Bench::new();
    let mut upload = bench.opening("ada", "/ada/x");
    upload.condition = Some(log::Condition {
        if_absent: true,
        ..log::Condition::default()
    });
    let opening = bench.unrecorded(upload);
    bench.put("ada", "/ada/x");
    assert_eq!(bench.publish_opening(&opening), "E_EXISTS");
    bench.delete("ada", "/ada/x", false);
    assert_eq!(bench.publish_opening(&opening), "E_EXISTS", "decided once");
    assert_eq!(bench.state(id(&opening)), Session::Refused);
    // Somebody else's bucket.
    let mut upload = bench.opening("bob", "/bob/y");
    upload.path = "/ada/y".to_owned();
    let opening = bench.unrecorded(upload);
    assert_eq!(bench.publish_opening(&opening), "E_NOT_FOUND");
    bench.check_accounts();
}

#[test]
fn what_a_leader_alone_knew_is_lost_with_it() {
    let mut bench = Bench::new();
    let before = bench.put("ada", "/ada/before");
    let upload = bench.opening("ada", "/ada/x");
    let gone = bench.unrecorded(upload.clone());
    let recorded = bench.open("ada", "/ada/y");
    change_of_leader(&mut bench);
    assert!(is_lost(&bench, &gone));
    // A late command of the leader before brings the opening along: what was decided stays.
    assert_eq!(bench.publish_opening(&gone), "E_SESSION_LOST");
    assert_eq!(bench.publish(id(&gone), 100), "E_SESSION_LOST");
    assert_eq!(
        bench.abort("ada", id(&gone)).unwrap_err().code(),
        "E_UPLOAD_NOT_FOUND"
    );
    bench.run(record(&gone)).unwrap();
    assert!(session::by_id(&bench.tables, id(&gone)).unwrap().is_none());
    // What has a row goes on.
    assert_eq!(bench.publish(recorded, 100), "ok");
    assert_eq!(bench.publish(before.upload(), 100), "ok");
    // The client opens it again, under the same key.
    let again = bench.unrecorded(upload);
    assert_ne!(again.upload_id, gone.upload_id);
    assert_eq!(bench.publish_opening(&again), "ok");
    change_of_leader(&mut bench);
    change_of_leader(&mut bench);
    assert!(!is_lost(&bench, &again));
    assert_eq!(bench.publish_opening(&again), "ok");
    assert_eq!(bench.count("files"), 3);
    bench.check_accounts();
}

#[test]
fn a_key_never_leads_to_two_versions() {
    let mut bench = Bench::new();
    let upload = bench.opening("ada", "/ada/x");
    let first = bench.unrecorded(upload.clone());
    let second = bench.unrecorded(upload.clone());
    assert_eq!(bench.publish_opening(&first), "ok");
    assert_eq!(bench.publish_opening(&second), "E_SESSION_LOST");
    assert_eq!(bench.publish(id(&second), 100), "E_SESSION_LOST", "for good");
    let third = bench.unrecorded(upload);
    bench.run(record(&third)).unwrap();
    assert!(is_lost(&bench, &third));
    assert_eq!(bench.count("versions"), 1);
    bench.check_accounts();
}

#[test]
fn a_session_that_lasts_is_like_any_other() {
    let mut bench = Bench::new();
    let upload = bench.opening("root", "/ada/x");
    let opening = bench.unrecorded(upload);
    bench.run(record(&opening)).unwrap();
    assert_eq!(
        (bench.user("ada").reserved_bytes, bench.user("root").uploads_open),
        (100, 1)
    );
    bench.run(record(&opening)).unwrap();
    bench.check_accounts();
    change_of_leader(&mut bench);
    assert_eq!(bench.publish_opening(&opening), "ok");
    bench.check_accounts();
}

#[test]
fn an_abort_of_what_the_leader_alone_knows_is_committed() {
    let mut bench = Bench::new();
    let upload = bench.opening("ada", "/ada/x");
    let opening = bench.unrecorded(upload);
    let abort = |bench: &Bench, user: &str| {
        Command::AbortUpload(log::AbortUpload {
            caller: Some(bench.caller(user)),
            upload_id: opening.upload_id,
            opening: Some(opening.clone()),
        })
    };
    let command = abort(&bench, "bob");
    assert_eq!(bench.code(command), "E_UPLOAD_NOT_FOUND");
    let command = abort(&bench, "ada");
    bench.run(command).unwrap();
    assert_eq!(bench.state(id(&opening)), Session::Aborted);
    assert_eq!(bench.publish_opening(&opening), "E_UPLOAD_ABORTED");
    let number = session::by_id(&bench.tables, id(&opening))
        .unwrap()
        .unwrap()
        .cluster;
    let told = session::aborted_unrecorded(&bench.tables, number, 10).unwrap();
    assert_eq!(told, [id(&opening)], "the cluster is told");
    bench.check_accounts();
}

#[test]
fn only_what_is_closed_is_forgotten() {
    let mut bench = Bench::new();
    let upload = bench.opening("ada", "/ada/x");
    let opening = bench.unrecorded(upload);
    bench.publish_opening(&opening);
    let mut recorded = bench.publishing(id(&opening), 1);
    recorded.items.clear();
    recorded.outcomes_recorded = vec![opening.upload_id];
    bench.run(Command::Publish(recorded)).unwrap();
    bench.now += WINDOW_MILLIS + 60_001;
    let command = forget(&bench, &opening, opening.upload_id - 1);
    bench.run(command).unwrap();
    assert_eq!(
        bench.count("uploads"),
        1,
        "or the next leader would take it for lost"
    );
    let command = forget(&bench, &opening, opening.upload_id);
    bench.run(command).unwrap();
    assert_eq!(bench.count("uploads"), 0);
    change_of_leader(&mut bench);
    assert!(!is_lost(&bench, &opening));
    assert_eq!(
        Counter::UploadsClosed.last(&bench.tables).unwrap(),
        opening.upload_id
    );
    assert_eq!(bench.publish(id(&opening), 100), "ok", "the version is there");
}
