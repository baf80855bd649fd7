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
    E_ABSENT, Conflict, "The file that should be replaced or updated is not there. It may have been deleted or moved \
        meanwhile. Look with `dbfs stat`; use `dbfs upload` to create a file.";
    E_ADDRESS, Unavailable, "An address of the configuration cannot be bound or used: another process listens there, \
        or it is none of this machine's. Find out with `ss -ltnp`, or write another address (`--set \
        supernode.listen=...`).";
    E_BLOCK_CORRUPT, Integrity, "A block of stored data failed its checksum. Readers take another copy, and the bad \
        one is repaired. If it happens more than once on one node, replace that disk.";
    E_BUSY, Unavailable, "A server is at one of its limits and asked to be left alone for a moment. Nothing was done. \
        The command has waited and tried again already; run it later, or with fewer files at once (-j).";
    E_CHILD_ENDED, Other, "A process of the local installation ended by itself. The last lines of its log are shown; \
        the whole log is in the logs directory of the installation. `dbfs up` starts it again with all its data.";
    E_CHUNK_NOT_READABLE, Unavailable, "No copy of a chunk could be read at the moment. With one node down there is \
        another copy; with two down the chunk may be on exactly these. See `dbfs placement PATH` and `dbfs status`, \
        and start the nodes again: what they store is still there.";
    E_CHUNK_NOT_STORED, Unavailable, "A chunk could not be stored on the nodes that were planned for it, in several \
        tries. See in `dbfs status` whether at least two live nodes of the cluster have space.";
    E_CLUSTER_FULL, Full, "No cluster has room for the file. Delete something, wait until what was deleted is \
        reclaimed, or add nodes.";
    E_CONFIG, Usage, "The configuration cannot be used. The message names the file, the line and the key. \
        config.yaml at the root of the sources lists every key with its default; `dbfs config-defaults` prints it.";
    E_CONFLICT, Conflict, "A condition did not hold when the change was to become visible: another version is current \
        than --if-match says, or a file is there although --if-none-match was said. Nothing was changed. Look with \
        `dbfs stat`, decide, and run the command again.";
    E_CORRUPT, Integrity, "Bytes do not have the digest that they should have. No reader was given wrong bytes. If it \
        stays, the stored data and its metadata disagree: keep the cluster's directories and report it.";
    E_DATA_DIR, Usage, "The data directory belongs to another installation, cluster or kind of process. Nothing was \
        touched. Check data_dir in the configuration; never point two processes at one directory.";
    E_DATA_DIR_IN_USE, Conflict, "Another process uses this data directory. Two processes on one directory would \
        destroy it, so this one ended before it touched anything. Find the other one (its process id is in the \
        message), or name another data_dir.";
    E_DECLINED, Other, "You answered no. Nothing was done.";
    E_DEMO, Other, "The demonstration found something that is not as it should be: the message says what was expected \
        and what was there. Its installation is removed; --keep keeps it for looking at logs.";
    E_DENIED, Denied, "You are logged in, but may not do this. Files belong to the owner of their bucket; only an \
        admin manages users. `dbfs whoami` shows as whom the servers see you.";
    E_DURABILITY, Usage, "Fewer than three nodes per cluster, or fewer than three supernodes, cannot keep what is \
        promised: data on two nodes while one is lost, and metadata on a majority. Say `--durability reduced` if you \
        accept that; receipts and status will say so too.";
    E_EXISTS, Conflict, "Something is there already. Choose another name, or say --replace where a file may be \
        replaced.";
    E_FINGERPRINT, Denied, "The server shows another CA certificate than expected. Either the installation was set up \
        anew, or someone stands between you and it. Compare with `dbfs cert fingerprint` on a server before you go on.";
    E_IDENTITY, Other, "The identity directory (ca.pem, node.pem, node.key) cannot be used: a file is missing, cannot \
        be read, is damaged, or is for another role or cluster. `dbfs cert issue` makes one.";
    E_INTERNAL, Other, "Something happened that should not. Please report it with the request id and the server's log.";
    E_INTERRUPTED, Interrupted, "The command was ended by Ctrl-C or a signal. Files that were done are done; a large \
        upload or a download goes on where it stopped when the same command is run again.";
    E_INVALID, Usage, "The request can never succeed as it is. The message says what is wrong with it.";
    E_IS_A_DIRECTORY, Conflict, "A directory is where a file is needed. Name a file in it, or use -r.";
    E_KEY_EXPIRED, Usage, "The upload began so long ago that its key is no longer remembered, so a retry could store \
        it twice and is refused. Run the command again with --no-resume.";
    E_KEY_FROM_FUTURE, Usage, "The upload's key carries a time that has not come yet: it is from another installation, \
        or the installation was restored from older state. Run the command again with --no-resume.";
    E_LOCAL_FILE, Other, "A local file cannot be read or written; the message says which and why.";
    E_METADATA, Usage, "The metadata of a file is limited in number and length of keys and values. Shorten what is \
        given with --meta.";
    E_NOT_A_DIRECTORY, Conflict, "A file stands where a directory is needed on the way to the path.";
    E_NOT_A_FILE, Usage, "The path is a directory or a bucket. Name a file in it, or use -r where there is such.";
    E_NOT_FOUND, NotFound, "There is nothing at this path, or you may not know that there is. `dbfs list` shows what \
        you may see; paths are /bucket/dir/name, and a user's own bucket has their name.";
    E_NOT_LOGGED_IN, Denied, "The command needs to know who you are. Run `dbfs login HOST:PORT`, or set DBFS_USER and \
        DBFS_PASSWORD.";
    E_NOT_RESUMABLE, Usage, "An interrupted upload cannot go on: it was aborted, is too old, or the local file has \
        changed since. Upload it again from the beginning.";
    E_NOT_RUNNING, NotFound, "No local installation runs there. `dbfs up` starts it.";
    E_NO_CA, Denied, "The server does not show its CA certificate, so there is nothing to compare and pin. Copy ca.pem \
        from the installation by hand and name it with --ca.";
    E_NO_CLUSTER, Unavailable, "No cluster can take the file at the moment: none has registered, or each one has no \
        leader, too few live nodes or no space. `dbfs status` says why for each.";
    E_NO_HOME, Other, "There is no place for profiles: neither HOME nor XDG_CONFIG_HOME is set.";
    E_NO_LEADER, Unavailable, "A group has no leader at the moment. An election takes a few seconds and needs a \
        majority of the group's voters: start the missing ones. The command has tried for a while already.";
    E_NO_PROFILE, Usage, "No installation is known under this name, or none at all. `dbfs up` makes one on this \
        machine, `dbfs login HOST:PORT` remembers one that runs elsewhere.";
    E_NO_SPACE, Full, "The disks of the cluster, or of its nodes that could take a copy, are full. Delete something, \
        wait until it is reclaimed, or add nodes. Deleting works on full disks.";
    E_OUTCOME_UNKNOWN, Unavailable, "The answer was lost and could not be asked for again: the upload may have become \
        visible or not, but never in part. Run the same command again: it finds out first, and stores nothing twice.";
    E_OUTPUT, Other, "The result cannot be written to stdout.";
    E_PAGE_TOKEN, Usage, "A listing was continued with a token that is not one of this listing. Begin it anew.";
    E_PARTIAL, Partial, "Some of several files were not done; each is named above with its reason. Run the same \
        command again for them.";
    E_PASSWORD, Denied, "User and password do not fit, or the user is disabled; or a new password is too short. After \
        several wrong ones in a row a login takes longer.";
    E_PATH, Usage, "Remote paths begin with / and a bucket: /bucket/dir/name. Components have at most 255 bytes, are \
        neither empty nor . nor .., and have no control characters.";
    E_PATTERN, Usage, "The search pattern cannot be used. Patterns have *, ? and [a-z]; without them a part of the \
        name is enough.";
    E_PEER, Denied, "A process showed a certificate that is not for the role it claims. Issue it an identity for its \
        role and cluster with `dbfs cert issue`.";
    E_PROCESS, Other, "A process of the local installation could not be started or stopped; the message says why.";
    E_PROFILES, Other, "The file with the profiles is damaged or was written by a newer build. It is left as it is. \
        Move it away and log in again.";
    E_PROTOCOL, Usage, "The other side sent something that this build cannot make sense of. Client and servers may be \
        of versions too far apart: `dbfs version` here and there.";
    E_PROTOCOL_VERSION, Usage, "Client and servers are of versions too far apart. Use builds that differ by at most \
        one version.";
    E_PUBLISHED, Conflict, "The upload cannot be aborted any more: its file is visible already. Delete it instead.";
    E_QUOTA, Full, "The bucket's quota is used up. Delete something, or ask an admin for a larger quota. What was \
        deleted counts until it leaves the trash.";
    E_REFUSED, Conflict, "The file was stored but was not allowed to become visible; the message says why. Nothing of \
        it will appear, and its space is reclaimed.";
    E_RUNNING, Conflict, "A local installation runs already in this directory. `dbfs status` shows it, `dbfs down` \
        stops it.";
    E_SOURCE_CHANGED, Conflict, "The local file changed while it was read, so that what would have been stored is \
        neither the old content nor the new. Nothing was stored. Upload a copy that nobody writes to.";
    E_STALE, Unavailable, "The request was made under a plan or leadership that is over. It is made anew by itself; if \
        you see this, run the command again.";
    E_START, Unavailable, "The local installation did not become ready in time. The board shows what was missing; the \
        logs directory has a log for every process.";
    E_STOPPED, Unavailable, "The server is stopping. Others go on: run the command again.";
    E_TICKET, Denied, "A cluster refused the ticket for an upload or a read: expired, forged, or for something else. \
        The command asks for a new one by itself; if it stays, compare the clocks and see `dbfs status`.";
    E_TLS, Other, "TLS cannot be set up: a certificate or key is missing, damaged, or does not fit the others.";
    E_TOKEN_EXPIRED, Denied, "Your login is over. Log in again: `dbfs login`. Profiles that `dbfs up` made do that by \
        themselves.";
    E_TOKEN_INVALID, Denied, "The token is not one of this installation, or it was set up anew since. Log in again.";
    E_TOKEN_REVOKED, Denied, "The user was disabled or has another password now, which ends all earlier logins. Log in \
        again.";
    E_TRANSPORT, Unavailable, "A connection broke or a server answered with something else than ours would. The \
        command has tried again for a while already.";
    E_UNAUTHENTICATED, Denied, "The request carried no login. Run `dbfs login`.";
    E_UNREACHABLE, Unavailable, "None of the servers that should know answers. Check the addresses, that the servers \
        run, and that this machine may reach them. For a local installation: `dbfs up`.";
    E_UPLOAD_NOT_FOUND, NotFound, "The upload is not known (any more): it ended long ago, or belongs to someone else.";
    E_USAGE, Usage, "The command line cannot be carried out as it is. `dbfs COMMAND --help` shows how it is meant.";
    E_USER_EXISTS, Conflict, "There is a user, or a bucket, of this name already.";
    E_USER_NAME, Usage, "User names are also names of buckets: use lower-case letters, digits and hyphens.";
    E_USER_NOT_FOUND, NotFound, "There is no user of this name. `dbfs user list` shows all to an admin.";
    E_VERSION, NotFound, "The version is not one of this file, or is not kept any more.";
    E_WRONG_CLUSTER, Denied, "The request reached a cluster that it was not meant for. An address was taken over by \
        another process: check the configuration.";
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
