//! The story: store, look, lose a node while storing, lose a leader, read and verify everything, change, delete.

use std::path::Path;
use std::time::Duration;

use client::Client;
use client::cli::failure::{Exit, Failure};
use client::cli::human;
use client::names::{Entry, EntryKind, Installation, ListOptions, NodeCondition};
use client::upload::{Checkpoint, Source, UploadOptions, UploadReceipt};
use common::ids::NodeId;
use common::path::RemotePath;
use common::units::ByteCount;

use super::material::{self, LEFT_OUT, Material};
use super::stage::Stage;

const POLL: Duration = Duration::from_millis(20);
/// How long anything that heals by itself may take here.
const HEAL_TIMEOUT: Duration = Duration::from_secs(30);

const TREE: &str = "/admin/files";
const FIRST: &str = "/admin/large-1.bin";
const SECOND: &str = "/admin/large-2.bin";

/// Plays it.
///
/// # Errors
/// Something is not as it should be (`E_DEMO`), or does not work at all.
pub(super) async fn play(stage: &mut Stage, size: ByteCount) -> Result<(), Failure> {
    stage.check_room(size)?;
    let here =
        std::env::current_dir().map_err(|error| Failure::local("cannot use", Path::new("."), &error))?;
    let material = material::find(&here, stage.directory())?;
    let large = [stage.place("large-1.bin"), stage.place("large-2.bin")];
    let digests = [
        material::generate(&large[0], size, 1)?,
        material::generate(&large[1], size, 2)?,
    ];

    stage.say("1. An installation: three supernodes, two clusters of three nodes, nine processes")?;
    let client = stage.start().await?;

    store(stage, &client, &material, &large[0]).await?;
    look(stage, &client, &material).await?;
    let dead = lose_a_node(stage, &client, &large[1], digests[1]).await?;
    let deposed = lose_a_leader(stage, &client, &dead.cluster).await?;
    verify(stage, &material, &digests).await?;
    change(stage, &client).await?;
    told(stage, &client, &[dead.name, deposed]).await
}

async fn store(stage: &Stage, client: &Client, material: &Material, large: &Path) -> Result<(), Failure> {
    stage.say("2. Store files: a tree of small ones, and a large one")?;
    let root = material.root.display().to_string();
    let mut upload = vec!["upload", "-r", &root, TREE];
    for name in LEFT_OUT {
        upload.extend(["--exclude", name]);
    }
    stage.dbfs(&upload, Exit::Ok).await?;
    let large = large.display().to_string();
    stage.dbfs(&["upload", &large, FIRST], Exit::Ok).await?;
    let stored = files_below(client, TREE).await?;
    expect(stored.len() == material.digests.len(), || {
        format!(
            "{} files were uploaded, {} are there",
            material.digests.len(),
            stored.len()
        )
    })?;
    for entry in &stored {
        let below = entry
            .path
            .as_str()
            .strip_prefix(TREE)
            .unwrap_or_default()
            .trim_start_matches('/');
        let expected = material.digests.get(below).map(blake3::Hash::to_string);
        expect(digest_of(entry) == expected, || {
            format!("{} has another digest than its source", entry.path)
        })?;
    }
    stage.found(&format!(
        "{} stored, each with the digest of its source",
        count(stored.len())
    ))
}

async fn look(stage: &Stage, client: &Client, material: &Material) -> Result<(), Failure> {
    stage.say("3. Look: list, search, and where the chunks of the large file are")?;
    stage.dbfs(&["list", "-l", "/admin"], Exit::Ok).await?;
    stage
        .dbfs(&["search", "/admin", "*.bin", "--size", "+1K"], Exit::Ok)
        .await?;
    stage.dbfs(&["stat", FIRST], Exit::Ok).await?;
    stage.dbfs(&["placement", FIRST], Exit::Ok).await?;
    let placement = client.placement(&path(FIRST)?, None).await?;
    let two = placement.chunks.iter().all(|chunk| {
        let mut nodes: Vec<NodeId> = chunk.copies.iter().map(|copy| copy.node).collect();
        nodes.sort();
        nodes.dedup();
        nodes.len() >= 2
    });
    expect(two && !placement.chunks.is_empty(), || {
        format!("not every chunk of {FIRST} has copies on two nodes")
    })?;
    let one = material
        .digests
        .keys()
        .next()
        .and_then(|path| path.rsplit('/').next())
        .unwrap_or_default();
    let query = client::names::SearchQuery {
        pattern: one.to_owned(),
        ..client::names::SearchQuery::default()
    };
    let found = client.search(&path(TREE)?, query).all().await?;
    expect(!found.is_empty(), || format!("the search does not find {one}"))?;
    stage.found("every chunk is on two nodes")
}

/// A process that was killed.
struct Killed {
    name: String,
    cluster: String,
}

async fn lose_a_node(
    stage: &mut Stage,
    client: &Client,
    large: &Path,
    expected: blake3::Hash,
) -> Result<Killed, Failure> {
    stage.say("4. Lose a node while a large file is stored")?;
    let checkpoint = Checkpoint::new();
    let options = UploadOptions {
        checkpoint: checkpoint.clone(),
        ..UploadOptions::default()
    };
    let progress = options.progress.clone();
    let upload = tokio::spawn({
        let (client, large, to) = (client.clone(), large.to_owned(), path(SECOND)?);
        async move { client.upload(Source::file(large), &to, options).await }
    });
    let (cluster, primary) = first_primary(stage, &checkpoint, &upload).await?;
    let status = client.status().await?;
    let name = node_name(&status, &cluster, primary)?;
    let at = progress.now();
    stage.kill(&name)?;
    let killed_early = !upload.is_finished();
    stage.found(&format!(
        "killed {name}, a primary of this upload, with {} of {} sent",
        ByteCount::new(at.bytes_done),
        ByteCount::new(at.bytes_total.unwrap_or_default()),
    ))?;
    expect(killed_early, || {
        "the upload was over before the node could be killed: use a larger --size".to_owned()
    })?;
    let receipt = joined(upload.await)?;
    expect(receipt.digest.to_string() == expected.to_string(), || {
        format!("{SECOND} has another digest than its source")
    })?;
    expect(
        receipt
            .durability
            .is_some_and(|durability| durability.copies >= 2),
        || {
            format!(
                "{SECOND} was acknowledged with fewer than two copies: {:?}",
                receipt.durability
            )
        },
    )?;
    stage.found(&format!(
        "the upload went on and was acknowledged with two copies ({} chunks tried again)",
        progress.now().retries
    ))?;
    Ok(Killed { name, cluster })
}

/// The cluster of the upload and the primary of the first chunk that it acknowledged.
async fn first_primary(
    stage: &Stage,
    checkpoint: &Checkpoint,
    upload: &tokio::task::JoinHandle<Result<UploadReceipt, client::Error>>,
) -> Result<(String, NodeId), Failure> {
    loop {
        if let Some(state) = checkpoint.current()
            && let Some(primary) = state.holders().values().find_map(|nodes| nodes.first().copied())
        {
            return Ok((state.cluster, primary));
        }
        expect(!upload.is_finished(), || {
            "the upload was over before it acknowledged a chunk".to_owned()
        })?;
        stage.context.seams.clock.sleep(POLL).await;
    }
}

async fn lose_a_leader(stage: &mut Stage, client: &Client, not_in: &str) -> Result<String, Failure> {
    stage.say("5. Lose the leader of the other cluster")?;
    let clock = stage.context.seams.clock.clone();
    let status = client.status().await?;
    let cluster = status
        .clusters
        .iter()
        .find(|cluster| cluster.name != not_in)
        .ok_or_else(|| wrong("there is no other cluster".to_owned()))?;
    let leader = cluster
        .leader
        .ok_or_else(|| wrong(format!("cluster {} has no leader", cluster.name)))?;
    let (cluster, term) = (cluster.name.clone(), cluster.term);
    let name = node_name(&status, &cluster, leader)?;
    let began = clock.moment();
    stage.kill(&name)?;
    stage.found(&format!("killed {name}, the leader of {cluster} in term {term}"))?;
    loop {
        let now = client.status().await?;
        let state = now.clusters.iter().find(|state| state.name == cluster);
        if let Some(state) = state
            && let Some(new) = state.leader
            && new != leader
            && state.term > term
        {
            let elapsed = clock.moment().since(began);
            let new = node_name(&now, &cluster, new)?;
            stage.found(&format!(
                "{new} leads since term {}, known everywhere after {}",
                state.term,
                human::span(elapsed)
            ))?;
            return Ok(name);
        }
        expect(clock.moment().since(began) < HEAL_TIMEOUT, || {
            format!(
                "cluster {cluster} has no new leader after {}",
                human::span(HEAL_TIMEOUT)
            )
        })?;
        clock.sleep(POLL).await;
    }
}

async fn verify(stage: &Stage, material: &Material, large: &[blake3::Hash; 2]) -> Result<(), Failure> {
    stage.say("6. Read everything back with two nodes dead, and compare every byte")?;
    let back = stage.place("back");
    let to = format!("{}/", back.display());
    stage
        .dbfs(&["download", "-r", TREE, FIRST, SECOND, &to], Exit::Ok)
        .await?;
    let mut compared = 0;
    let root = back.join("files");
    for (path, expected) in &material.digests {
        compare(&root.join(path), expected)?;
        compared += 1;
    }
    for (name, expected) in ["large-1.bin", "large-2.bin"].iter().zip(large) {
        compare(&back.join(name), expected)?;
        compared += 1;
    }
    stage.found(&format!(
        "{} read, all with the BLAKE3 digests of their sources",
        count(compared)
    ))
}

async fn change(stage: &Stage, client: &Client) -> Result<(), Failure> {
    stage.say("7. Update a file, read it, delete it")?;
    let (old, new) = (stage.place("note.txt"), stage.place("note-2.txt"));
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| Failure::local("cannot write", path, &error))
    };
    write(&old, "the first version\n")?;
    write(&new, "the second version\n")?;
    let note = "/admin/note.txt";
    stage
        .dbfs(&["upload", &old.display().to_string(), note], Exit::Ok)
        .await?;
    let first = client.stat(&path(note)?).await?;
    stage
        .dbfs(&["update", &new.display().to_string(), note], Exit::Ok)
        .await?;
    stage.dbfs(&["cat", note], Exit::Ok).await?;
    let second = client.stat(&path(note)?).await?;
    let expected = blake3::hash(b"the second version\n").to_string();
    expect(
        digest_of(&second) == Some(expected) && second.version() != first.version(),
        || format!("{note} does not have its new content: {second:?}"),
    )?;
    stage.dbfs(&["delete", note], Exit::Ok).await?;
    stage.dbfs(&["stat", note], Exit::NotFound).await?;
    stage.found("updated in one step, and gone after the delete")
}

async fn told(stage: &Stage, client: &Client, killed: &[String]) -> Result<(), Failure> {
    stage.say("8. The dead nodes are told")?;
    let clock = &stage.context.seams.clock;
    let began = clock.moment();
    loop {
        let status = client.status().await?;
        let nodes = status.clusters.iter().flat_map(|cluster| &cluster.nodes);
        let dead = nodes
            .filter(|node| killed.contains(&node.member.name) && node.condition == NodeCondition::Dead)
            .count();
        if dead == killed.len() {
            break;
        }
        expect(clock.moment().since(began) < HEAL_TIMEOUT, || {
            format!("status does not say that {} are dead", killed.join(" and "))
        })?;
        clock.sleep(POLL).await;
    }
    stage.dbfs(&["status"], Exit::Ok).await
}

async fn files_below(client: &Client, text: &str) -> Result<Vec<Entry>, Failure> {
    let options = ListOptions {
        recursive: true,
        ..ListOptions::default()
    };
    Ok(client.list(&path(text)?, options).all().await?)
}

fn digest_of(entry: &Entry) -> Option<String> {
    match &entry.kind {
        EntryKind::File { digest, .. } => Some(digest.to_string()),
        EntryKind::Directory | EntryKind::Bucket => None,
    }
}

fn compare(file: &Path, expected: &blake3::Hash) -> Result<(), Failure> {
    let found = material::digest(file)?;
    expect(found == *expected, || {
        format!("{} differs from its source", file.display())
    })
}

fn node_name(status: &Installation, cluster: &str, node: NodeId) -> Result<String, Failure> {
    let cluster = status.clusters.iter().find(|state| state.name == cluster);
    let found = cluster.and_then(|cluster| cluster.nodes.iter().find(|info| info.member.node == node));
    found
        .map(|info| info.member.name.clone())
        .ok_or_else(|| wrong(format!("status does not know node {node}")))
}

fn joined(
    ended: Result<Result<UploadReceipt, client::Error>, tokio::task::JoinError>,
) -> Result<UploadReceipt, Failure> {
    Ok(ended.map_err(|error| wrong(format!("the upload broke down: {error}")))??)
}

fn path(text: &str) -> Result<RemotePath, Failure> {
    Ok(text.parse()?)
}

fn count(files: usize) -> String {
    human::count(files as u64, "file")
}

fn wrong(message: String) -> Failure {
    Failure::new(Exit::Other, "E_DEMO", message)
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(wrong(otherwise())) }
}
