//! Every error code: what it means and what to do. `dbfs explain CODE` prints it; a test finds codes that are missing.

use super::failure::Exit;

/// One error code.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The code.
    pub name: &'static str,
    /// How a command ends with it. Codes of the servers may end otherwise where they concern only a part.
    pub exit: Exit,
    /// What it means and what to do.
    pub text: &'static str,
}

macro_rules! codes {
    ($($name:ident, $exit:ident, $text:literal;)*) => {
        /// All of them, by name.
        pub const CODES: &[Code] = &[$(Code { name: stringify!($name), exit: Exit::$exit, text: $text },)*];
    };
}

codes! {
    E_ABANDONED, Unavailable, "The cluster gave the upload up because nothing was heard of it for too \
        long. Nothing of it will appear. Run the command again.";
    E_ABSENT, NotFound, "The file that should be replaced or updated is not there. It may have been \
        deleted or moved meanwhile. Look with `dbfs stat`; use `dbfs upload` to create a file.";
    E_ADDRESS, Unavailable, "An address of the configuration cannot be bound or used: another process \
        listens there, or it is none of this machine's. Find out with `ss -ltnp`, or write another address \
        (`--set supernode.listen=...`).";
    E_ATTEMPT_CONFLICT, Conflict, "A node was asked to store different bytes as something it holds \
        already, and refused. The chunk is sent again under a new number by itself.";
    E_BAD_RECEIPT, Integrity, "A node acknowledged something else than it was sent. The chunk is sent \
        elsewhere by itself. If it stays, look at that node: its memory or network may corrupt data.";
    E_BLOCK_CORRUPT, Integrity, "A block of stored data failed its checksum. Readers take another copy, \
        and the bad one is repaired. If it happens more than once on one node, replace that disk.";
    E_BUCKET, Usage, "Buckets cannot be moved or deleted like directories. Move or delete what is in them.";
    E_BUSY, Unavailable, "A server is at one of its limits and asked to be left alone for a moment. \
        Nothing was done. The command has waited and tried again already; run it later, or with fewer \
        files at once (-j).";
    E_CERTIFICATE, Denied, "A process showed a certificate that is not for the cluster it speaks for. \
        Issue it an identity for its cluster with `dbfs cert issue`.";
    E_CHILD_ENDED, Other, "A process of the local installation ended by itself. The last lines of its log \
        are shown; the whole log is in the logs directory of the installation. `dbfs up` starts it again \
        with all its data.";
    E_CHUNK_LENGTH, Usage, "Chunks of the upload do not have the length it was begun with. Upload it again \
        from the beginning with --no-resume.";
    E_CHUNK_NOT_HERE, NotFound, "The node that should have a copy of the chunk does not have it. Readers \
        take another copy.";
    E_CHUNK_NOT_READABLE, Unavailable, "No copy of a chunk could be read at the moment. With one node down \
        there is another copy; with two down the chunk may be on exactly these. See `dbfs placement PATH` \
        and `dbfs status`, and start the nodes again: what they store is still there.";
    E_CHUNK_NOT_STORED, Unavailable, "A chunk could not be stored on the nodes that were planned for it, \
        in several tries. See in `dbfs status` whether at least two live nodes of the cluster have space.";
    E_CLUSTER_ALIVE, Conflict, "The cluster still reports to the supernodes, so that it is not lost. Stop its \
        nodes first if it is to be retired all the same.";
    E_CLUSTER_EPOCH, Unavailable, "A leader of a cluster reported that is not the latest any more. It \
        finds out by itself.";
    E_CLUSTER_EXISTS, Conflict, "Another cluster is registered under this name. A cluster was probably \
        founded twice: give the new one another name, or restore the data of the old one.";
    E_CLUSTER_ID, Usage, "A message names its cluster in a form that is none. The sender is not of this \
        build.";
    E_CLUSTER_NAME, Conflict, "The cluster is registered under another name. Names of clusters cannot be \
        changed: set chunkserver.cluster back.";
    E_CLUSTER_NOT_FOUND, NotFound, "There is no cluster of this name. `dbfs status` shows those that there are.";
    E_CLUSTER_RETIRED, Conflict, "The cluster was set aside with `dbfs cluster retire`, and nothing of it is taken \
        in any more. Found it anew, under another name.";
    E_CLUSTER_UNKNOWN, Unavailable, "The cluster has not registered at the supernodes yet. Its heartbeat \
        does that within seconds, where chunkserver.supernodes names them rightly.";
    E_COMMAND_UNKNOWN, Other, "A member does not know a command of its own group: members are of versions \
        too far apart. Bring all members to one version.";
    E_CONDITION, Usage, "The conditions of the request contradict each other: a path cannot both have no \
        file and have one.";
    E_CONFIG, Usage, "The configuration cannot be used. The message names the file, the line and the key. \
        config.yaml at the root of the sources lists every key with its default; `dbfs config-defaults` \
        prints it.";
    E_CONNECTIONS_BUSY, Unavailable, "The node has as many connections as it takes. Try again in a moment, \
        or with fewer files at once (-j).";
    E_COPIES_LOST, Unavailable, "Nodes fail faster than chunks can be sent again, so the upload was given \
        up. See `dbfs status`, and run the command again once nodes are back.";
    E_CORRUPT, Integrity, "Bytes do not have the digest that they should have. No reader was given wrong \
        bytes. If it stays, the stored data and its metadata disagree: keep the cluster's directories and \
        report it.";
    E_DATA_DIR, Usage, "The data directory belongs to another installation, cluster or kind of process. \
        Nothing was touched. Check data_dir in the configuration; never point two processes at one \
        directory.";
    E_DATA_DIR_IN_USE, Conflict, "Another process uses this data directory. Two processes on one directory \
        would destroy it, so this one ended before it touched anything. Find the other one (its process id \
        is in the message), or name another data_dir.";
    E_DATA_PLANE, Unavailable, "The connection to a node broke while bytes were moved. Another node or \
        copy is tried by itself.";
    E_DEADLINE, Unavailable, "The server did not finish the request in time. It may still be carried out; \
        asking again is safe.";
    E_DECLINED, Other, "You answered no. Nothing was done.";
    E_DELEGATE_CONNECTIONS, Unavailable, "A node has as many connections to other nodes as it may. Try \
        again in a moment.";
    E_DELEGATE_RECEIPT, Unavailable, "The node that makes the second copy acknowledged something else than \
        it was sent. The chunk is sent elsewhere by itself.";
    E_DELEGATE_UNKNOWN, Unavailable, "A node has not heard yet where another one is that should make the \
        second copy. Its next heartbeat tells it.";
    E_DELEGATE_UNREACHABLE, Unavailable, "A node cannot reach the one that should make the second copy. \
        The chunk is sent elsewhere by itself; if it stays, look at the network between the nodes.";
    E_DEMO, Other, "The demonstration found something that is not as it should be: the message says what \
        was expected and what was there. Its installation is removed; --keep keeps it for looking at logs.";
    E_DENIED, Denied, "You are logged in, but may not do this. Files belong to the owner of their bucket; \
        only an admin manages users. `dbfs whoami` shows as whom the servers see you.";
    E_DIGEST, Usage, "A digest has a form that is none. The sender is not of this build.";
    E_DIGEST_MISMATCH, Integrity, "The digest of the whole file is not that of its chunks. Nothing was \
        stored. If it happens again, the memory of the client's machine may be bad.";
    E_DISK_BUSY, Unavailable, "A disk has as much to do as it takes. Another node is tried by itself.";
    E_DISK_FAILED, Unavailable, "A disk failed to write or read, so its node takes no new data on it. \
        Other copies are used. Replace the disk; see `dbfs status`.";
    E_DISK_FULL, Full, "A disk is full. Another node is tried by itself; if all are full, delete something \
        or add nodes.";
    E_DURABILITY, Usage, "Fewer than three nodes per cluster, or fewer than three supernodes, cannot keep \
        what is promised: data on two nodes while one is lost, and metadata on a majority. Say \
        `--durability reduced` if you accept that; receipts and status will say so too.";
    E_EPOCH, Unavailable, "The request was made under a leadership that is over. It is made anew by \
        itself.";
    E_EXISTS, Conflict, "Something is there already. Choose another name, or say --replace where a file \
        may be replaced.";
    E_FEATURE_LEVEL, Other, "A request needs a feature that the group does not use yet, because not all of its \
        members know it. Bring every member to this version: the group then raises its level by itself.";
    E_FINGERPRINT, Denied, "The server shows another CA certificate than expected. Either the installation \
        was set up anew, or someone stands between you and it. Compare with `dbfs cert fingerprint` on a \
        server before you go on.";
    E_GENERATION, Conflict, "The cluster was rebuilt since the upload began. Upload it again from the \
        beginning with --no-resume.";
    E_GRANT_EXPIRED, Unavailable, "A permit for one chunk has expired. A new one is asked for by itself.";
    E_GRANT_INVALID, Denied, "A node refused a permit for one chunk: forged, or for another node or \
        operation.";
    E_GRANT_KEY_UNKNOWN, Unavailable, "A node does not know the key of a permit yet. Its next heartbeat \
        brings it.";
    E_GROUP, Other, "A replicated group cannot do what was asked. The message and the log of the server \
        say more.";
    E_IDENTITY, Other, "The identity directory (ca.pem, node.pem, node.key) cannot be used: a file is \
        missing, cannot be read, is damaged, or is for another role or cluster. `dbfs cert issue` makes \
        one.";
    E_IDLE, Unavailable, "A connection was closed because nothing happened on it. A new one is made by \
        itself.";
    E_INTERNAL, Other, "Something happened that should not. Please report it with the request id and the \
        server's log.";
    E_INTERRUPTED, Interrupted, "The command was ended by Ctrl-C or a signal. Files that were done are \
        done; a large upload or a download goes on where it stopped when the same command is run again.";
    E_INTO_ITSELF, Usage, "A directory cannot be moved into itself.";
    E_INVALID, Usage, "The request can never succeed as it is. The message says what is wrong with it.";
    E_IS_A_DIRECTORY, Conflict, "A directory is where a file is needed. Name a file in it, or write a slash at the \
        end of the destination to put something into it.";
    E_KEY, Usage, "The key by which a repeated request is recognised has a form that is none. The client \
        is not of this build.";
    E_KEY_EXPIRED, Usage, "The upload began so long ago that its key is no longer remembered, so a retry \
        could store it twice and is refused. Run the command again with --no-resume.";
    E_KEY_FROM_FUTURE, Usage, "The upload's key carries a time that has not come yet: it is from another \
        installation, or the installation was restored from older state. Run the command again with \
        --no-resume.";
    E_KEY_REUSED, Conflict, "The key of the upload belongs to an upload of another path. Run the command \
        again with --no-resume.";
    E_KEY_UNKNOWN, Unavailable, "The token was signed with a key that this server does not know yet. Try \
        again in a moment; if it stays, log in again.";
    E_LAST_ADMIN, Conflict, "The last enabled admin cannot be disabled: nobody could enable them again. \
        Create or enable another admin first.";
    E_LIMIT, Usage, "A page of a listing was asked for with no entries at all. Ask for at least one, or leave \
        the number out.";
    E_LOCAL_FILE, Other, "A local file cannot be read or written; the message says which and why.";
    E_LOGIN, Denied, "The user name or the password is wrong, or the user is disabled; which of these is \
        not told. After several wrong ones a login takes longer.";
    E_MALFORMED, Usage, "A node received something that is no message of the data plane. Something else \
        may speak to its port.";
    E_MANIFEST_HOLE, Integrity, "The list of a file's chunks has a hole. No reader is given the file. Keep \
        the directories of the cluster and report this.";
    E_METADATA, Usage, "The metadata of a file is limited in number and length of keys and values. Shorten \
        what is given with --meta. Keys that begin with dbfs. are the system's own.";
    E_NOT_A_DIRECTORY, Conflict, "A file stands where a directory is needed on the way to the path.";
    E_NOT_A_FILE, Usage, "The path is a directory or a bucket. Name a file in it, or use -r where there is \
        such.";
    E_NOT_A_NODE, Denied, "A process says that it is a node which it is not: another cluster, or a node id \
        that its cluster does not know. Its data directory belongs to another installation.";
    E_NOT_EMPTY, Conflict, "The directory is not empty. Say -r to delete it with everything below it.";
    E_NOT_ENOUGH_NODES, Unavailable, "The cluster has too few live nodes with space for the copies that \
        are promised. Start the missing chunkservers (`dbfs status` shows them), or accept one copy with \
        `durability: reduced`.";
    E_NOT_FOUND, NotFound, "There is nothing at this path, or you may not know that there is. `dbfs list` \
        shows what you may see; paths are /bucket/dir/name, and a user's own bucket has their name.";
    E_NOT_LOGGED_IN, Denied, "The command needs to know who you are. Run `dbfs login HOST:PORT`, or set \
        DBFS_USER and DBFS_PASSWORD.";
    E_NOT_RESUMABLE, Usage, "An interrupted upload cannot go on: it was aborted, is too old, or the local \
        file has changed since. Upload it again from the beginning.";
    E_NOT_RUNNING, NotFound, "No local installation runs there. `dbfs up` starts it.";
    E_NOT_SEALED, Conflict, "The outcome of an upload was asked for that was not finished yet.";
    E_NO_CA, Denied, "The server does not show its CA certificate, so there is nothing to compare and pin. \
        Copy ca.pem from the installation by hand and name it with --ca.";
    E_NO_CLUSTER, Unavailable, "No cluster can take the file at the moment: none has registered, or each \
        one has no leader, too few live nodes or no space. `dbfs status` says why for each.";
    E_NO_HOME, Other, "There is no place for profiles: neither HOME nor XDG_CONFIG_HOME is set.";
    E_NO_KEY, Unavailable, "The group has no key to sign with yet; it makes one within seconds of its \
        founding.";
    E_NO_LEADER, Unavailable, "A group has no leader at the moment. An election takes a few seconds and \
        needs a majority of the group's voters: start the missing ones. The command has tried for a while \
        already.";
    E_NO_PLAN, Unavailable, "The cluster had no node to send a chunk to. It is asked again by itself; see \
        `dbfs status`.";
    E_NO_PROFILE, Usage, "No installation is known under this name, or none at all. `dbfs up` makes one on \
        this machine, `dbfs login HOST:PORT` remembers one that runs elsewhere.";
    E_NO_QUORUM, Unavailable, "A cluster cannot commit: fewer than half of its voters answer. Start the \
        missing ones; nothing is lost.";
    E_NO_SPACE, Full, "The disks of the cluster, or of its nodes that could take a copy, are full. Delete \
        something, wait until it is reclaimed, or add nodes. Deleting works on full disks.";
    E_NO_SUPERNODE, Unavailable, "A cluster knows no supernode that answers. Name them at \
        chunkserver.supernodes, and see that they run.";
    E_NUMBER, Usage, "A number in the request is larger than any that an installation gives out or keeps.";
    E_OTHER_BUCKET, Usage, "Files move only within their bucket, because buckets have owners and quotas of \
        their own. Download and upload the file, then delete the original.";
    E_OUTCOME_PENDING, Unavailable, "The file is stored, but its cluster has not heard from the supernodes \
        whether it became visible. Run the same command again: it finds out.";
    E_OUTCOME_UNKNOWN, Unavailable, "The answer was lost and could not be asked for again: the upload may \
        have become visible or not, but never in part. Run the same command again: it finds out first, and \
        stores nothing twice.";
    E_OUTPUT, Other, "The result cannot be written to stdout.";
    E_OUTPUT_CLOSED, Ok, "The program that read the output ended first, as `head` does. The command ended \
        without a word.";
    E_OVER_RESERVATION, Full, "More was sent than the quota of the bucket allowed when the upload began. \
        Nothing was stored. Make room, and upload again.";
    E_PAGE_TOKEN, Usage, "A listing was continued with a token that is not one of this listing. Begin it \
        anew.";
    E_PANIC, Other, "A part of a server or of this command broke down; the rest of a server goes on. It is a defect \
        of the program and not of what was asked. Please report it with the message and the log of the server.";
    E_PARTIAL, Partial, "Some of several things were done and some were not; both are listed above, these \
        with their reasons. The hint says how to do the rest.";
    E_PASSWORD, Denied, "User and password do not fit, or the user is disabled; or a new password is too \
        short. After several wrong ones in a row a login takes longer.";
    E_PATH, Usage, "Remote paths begin with / and a bucket: /bucket/dir/name. Components have at most 255 \
        bytes, are neither empty nor . nor .., and have no control characters.";
    E_PATTERN, Usage, "The pattern cannot be used. Patterns have *, ?, ** and [a-z]; a backslash takes the \
        next character as it is. To a search without any of these a part of the name is enough.";
    E_PROCESS, Other, "A process of the local installation could not be started or stopped; the message \
        says why.";
    E_PROFILES, Other, "The file with the profiles is damaged or was written by a newer build. It is left \
        as it is. Move it away and log in again.";
    E_PROTOCOL, Usage, "The other side sent something that this build cannot make sense of. Client and \
        servers may be of versions too far apart: `dbfs version` here and there.";
    E_PROTOCOL_VERSION, Usage, "Client and servers are of versions too far apart. Use builds that differ \
        by at most one version.";
    E_PUBLISH, Unavailable, "The supernodes answered something else than they were asked. It is asked \
        again by itself.";
    E_PUBLISHED, Conflict, "The upload cannot be aborted any more: its file is visible already. Delete it \
        instead.";
    E_PUT_SHAPE, Usage, "The blocks of a chunk do not fit together. The client is not of this build.";
    E_QUOTA, Full, "The bucket's quota is used up. Delete something, or ask an admin for a larger quota. \
        What was deleted counts until it leaves the trash: `dbfs trash empty` releases it.";
    E_READS_BUSY, Unavailable, "The node serves as many reads as it takes. Another copy is read, or the \
        same a moment later.";
    E_RECEIPT_FOREIGN, Denied, "An upload was to be finished with chunks of another upload, and was \
        refused.";
    E_RECEIPT_FORGED, Denied, "An upload was to be finished with an acknowledgement that no node of the \
        cluster gave, and was refused.";
    E_RECEIPT_ORDER, Usage, "An upload was to be finished with chunks missing or out of order, and was \
        refused.";
    E_REFUSED, Conflict, "The file was stored but was not allowed to become visible; the message says why. \
        Nothing of it will appear, and its space is reclaimed.";
    E_REQUESTS_BUSY, Unavailable, "The connection has as many requests under way as a node takes. Try \
        again in a moment.";
    E_SEAL, Other, "A cluster could not finish an upload because its log knows it otherwise. Please report \
        it with the log of the leader.";
    E_SECOND_INCARNATION, Conflict, "Two processes run with one identity: a data directory was copied, or a process \
        was started twice. The second one is refused and nothing that it stores counts. Stop it, and give a new \
        node an empty data directory.";
    E_SEED, Usage, "A new signing key has a form that is none.";
    E_SESSION_LOST, Unavailable, "The supernode that held the upload's session ended before the upload was \
        visible, again and again. Nothing of it will appear. Run the command again.";
    E_SHUTTING_DOWN, Unavailable, "The node is being stopped. Another node or copy is tried by itself.";
    E_SIZE_MISMATCH, Integrity, "The size of the file is not that of its chunks together. Nothing was \
        stored; upload it again.";
    E_SOURCE, Unavailable, "The local source failed while it was read. Nothing was stored.";
    E_SOURCE_CHANGED, Conflict, "The content or the time of change of the local file changed while it was \
        read, so that what would have been stored is neither the old content nor the new. Nothing was stored. \
        Upload a copy that nobody writes to. A file that only grows is no such case.";
    E_START, Unavailable, "The local installation did not become ready in time. The board shows what was \
        missing; the logs directory has a log for every process.";
    E_STARTING, Unavailable, "The node has just started and has not heard from its leader yet. Try again \
        in a moment.";
    E_STATE_LOST, Unavailable, "A cluster knows of things that the supernodes should know too and do not: \
        their state was lost or replaced by an older one. Nothing is reclaimed while this lasts. Restore \
        the state of the supernodes.";
    E_STORE, Unavailable, "A disk could not carry out an order of its cluster. It is repeated; see the log \
        of the node.";
    E_TICKET_EXPIRED, Unavailable, "The ticket for an upload or a read has expired. A new one is asked for \
        by itself.";
    E_TICKET_FORGED, Denied, "A cluster refused a ticket that the supernodes did not make.";
    E_TICKET_KEY, Unavailable, "A cluster does not know the key of a ticket yet. Its next heartbeat brings \
        it.";
    E_TICKET_PURPOSE, Denied, "A ticket was presented for something else than it was given for.";
    E_TIMEOUT, Unavailable, "Another server did not answer in time. It is asked again by itself.";
    E_TLS, Other, "TLS cannot be set up: a certificate or key is missing, damaged, or does not fit the \
        others.";
    E_TOKEN_EXPIRED, Denied, "Your login is over. Log in again: `dbfs login`. Profiles that `dbfs up` made \
        do that by themselves.";
    E_TOKEN_REVOKED, Denied, "The user was disabled or has another password now, which ends all earlier \
        logins. Log in again.";
    E_TOO_LARGE, Usage, "The request is larger than the servers take in one piece.";
    E_TOO_MANY, Usage, "The message holds more items than may be in one. The sender is not of this build.";
    E_TOO_MANY_CHUNKS, Usage, "The file is larger than any may be: 65,536 chunks, 4 TiB with chunks of 64 \
        MiB. Split it.";
    E_TOO_MANY_UPLOADS, Unavailable, "You have as many uploads open as one user may. Let some of them end; \
        those that were left alone are given up within a day.";
    E_TOO_SLOW, Unavailable, "Bytes came too slowly, so that the node gave the transfer up. It is tried \
        again by itself.";
    E_TRANSPORT, Unavailable, "A connection broke or a server answered with something else than ours \
        would. The command has tried again for a while already.";
    E_UNAUTHENTICATED, Denied, "The request carried no login. Run `dbfs login`.";
    E_UNREACHABLE, Unavailable, "None of the servers that should know answers. Check the addresses, that \
        the servers run, and that this machine may reach them. For a local installation: `dbfs up`.";
    E_UPLOAD_ABORTED, Conflict, "The upload was aborted before it became visible. Nothing of it will \
        appear. Run the command again.";
    E_UPLOAD_ENDED, Conflict, "More was sent for an upload that has ended already. Look with `dbfs stat` \
        whether the file is there.";
    E_UPLOAD_FORGOTTEN, Unavailable, "The upload ended so long ago that its outcome is not kept any more. \
        Look with `dbfs stat` whether the file is there.";
    E_UPLOAD_NOT_FOUND, NotFound, "The upload is not known (any more): it ended long ago, or belongs to \
        someone else.";
    E_UPLOAD_SEALED, Conflict, "The upload cannot be given up any more: all of it is stored, and the \
        supernodes decide whether it becomes visible.";
    E_UPLOAD_UNKNOWN, NotFound, "The upload is not known, or not any more. Look with `dbfs stat` whether \
        the file is there.";
    E_USAGE, Usage, "The command line cannot be carried out as it is. `dbfs COMMAND --help` shows how it \
        is meant.";
    E_USER_EXISTS, Conflict, "There is a user, or a bucket, of this name already.";
    E_USER_NAME, Usage, "User names are also names of buckets: use lower-case letters, digits and hyphens.";
    E_USER_NOT_FOUND, NotFound, "There is no user of this name. `dbfs user list` shows all to an admin.";
    E_VERSION, Conflict, "Another version of the file is current than the one that was named. Somebody \
        changed it meanwhile: look with `dbfs stat`, decide, and run the command again.";
    E_VERSION_UNKNOWN, NotFound, "The version is not at this cluster (any more): the file was replaced or \
        deleted meanwhile. Run the command again.";
    E_WRITES_BUSY, Unavailable, "The node receives as many bytes as it takes. It is tried again in a \
        moment by itself.";
    E_WRONG_CLUSTER, Denied, "The request reached a cluster that it was not meant for. An address was \
        taken over by another process: check the configuration.";
}

/// The code of this name, however it is written.
pub fn find(name: &str) -> Option<&'static Code> {
    let wanted = name.trim().to_ascii_uppercase().replace('-', "_");
    CODES
        .iter()
        .find(|code| code.name == wanted || code.name.strip_prefix("E_") == Some(wanted.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_found() {
        assert!(CODES.is_sorted_by(|a, b| a.name < b.name));
        for code in CODES {
            assert!(
                code.name.starts_with("E_") && code.text.ends_with(['.', '?']),
                "{}",
                code.name
            );
        }
        assert_eq!(find("no-leader").unwrap().name, "E_NO_LEADER");
        assert!(find("E_NONSENSE").is_none());
    }
}
