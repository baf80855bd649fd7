//! The rules that can be broken on purpose, each by one test, to see that the properties notice.

/// One rule of the protocol, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// `Doom` is applied without looking at the manifests again.
    DoomDoesNotLookAgain,
    /// `Seal` is applied although the manifest names a doomed chunk.
    SealNamesDoomed,
    /// `Abandon` is applied to a sealed upload.
    AbandonAfterSeal,
    /// The leader takes silence about a publish, which is "unknown", for "refused".
    UnknownIsRefused,
    /// The names layer forgets an outcome before the cluster has acknowledged it.
    ForgetsTooEarly,
    /// As before, and the leader takes the absence of a session for "refused". (It may not do the second even where
    /// the first is never done: each is the other's safety net, and the model shows no harm from the second alone.)
    AbsentIsRefused,
    /// `OpenUpload` does not remember keys.
    KeyNotRemembered,
    /// A client that gives up reports failure without waiting for the abort to be committed.
    FailureWithoutAbort,
    /// The leader orders drops of chunks that are only marked.
    DropsMarked,
    /// A node lets a late write bring back what it has tombstoned.
    TombstoneForgotten,
    /// `Dropped` is committed on the order alone, without the nodes' tombstones.
    DroppedWithoutTombstones,
    /// The names layer sends a release once, and does not wait for the acknowledgement.
    ReleaseSentOnce,
    /// The leader takes what it finds on a disk and not in its log for dead, without a look at the uploads that it alone
    /// knows.
    UnrecordedIsDead,
    /// A seal records an upload under a number that an earlier leadership gave out.
    SealUnderAnOldNumber,
    /// A leadership of the names layer does not record what its predecessor alone knew as lost: what is not known is
    /// refused, and a late publication that brings its opening along is carried out.
    LostNotRecorded,
    /// A session that gets its row from an opening gets it whatever else its key has led to.
    KeyNotLookedAtAgain,
}
