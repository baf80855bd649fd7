//! Whether a version may become what its path points at: judged when publish is applied, and once before, when the
//! upload is opened, so that nobody sends gigabytes for a condition that already fails.

use common::error::Kind;
use common::ids::VersionId;

use super::quota::Quota;
use super::refusal::Refusal;

/// What the client asked to hold at the moment of publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The path must have no file.
    pub(crate) if_absent: bool,
    /// The path's current version must be this one.
    pub(crate) if_version: Option<VersionId>,
    /// The path must have a file.
    pub(crate) if_present: bool,
}

impl Condition {
    /// Whether no state at all could satisfy it.
    pub(crate) const fn contradicts_itself(self) -> bool {
        self.if_absent && (self.if_present || self.if_version.is_some())
    }
}

/// What is at the path at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file with this version.
    File(VersionId),
    /// Nothing; parents that are missing can be made.
    Nothing,
    /// A directory (or a bucket).
    Directory,
    /// A component above the path is a file: the path of that file.
    BelowFile(String),
}

/// The facts of one publication.
#[derive(Clone, Debug)]
pub(crate) struct Case<'a> {
    /// For messages.
    pub(crate) path: &'a str,
    /// What is there.
    pub(crate) target: Target,
    /// What the client asked for.
    pub(crate) condition: Condition,
    /// Bytes of the new version (at opening: as expected).
    pub(crate) size_bytes: u64,
    /// Of the bucket's owner, without what this upload itself has reserved.
    pub(crate) quota: Quota,
}

/// The version that the new one replaces, where there is one.
///
/// # Errors
/// Why it may not be published.
pub(crate) fn judge(case: &Case<'_>) -> Result<Option<VersionId>, Refusal> {
    let current = match &case.target {
        Target::File(version) => Some(*version),
        Target::Nothing => None,
        Target::Directory => return Err(Refusal::is_a_directory(case.path)),
        Target::BelowFile(file) => return Err(Refusal::not_a_directory(file)),
    };
    judge_condition(case.path, case.condition, current)?;
    case.quota.admit(case.size_bytes)?;
    Ok(current)
}

/// Whether `condition` holds where `current` is the version at `path`.
///
/// # Errors
/// Which part does not hold.
pub(crate) fn judge_condition(
    path: &str,
    condition: Condition,
    current: Option<VersionId>,
) -> Result<(), Refusal> {
    match current {
        Some(version) if condition.if_absent => Err(Refusal::new(
            Kind::Conflict,
            "E_EXISTS",
            format!("{path} exists already, as version {version}"),
        )),
        None if condition.if_present || condition.if_version.is_some() => Err(Refusal::new(
            Kind::NotFound,
            "E_ABSENT",
            format!("{path} has no file, and the request says that it must"),
        )),
        Some(version) if condition.if_version.is_some_and(|wanted| wanted != version) => Err(Refusal::new(
            Kind::Conflict,
            "E_VERSION",
            format!("{path} is at version {version}, which is not the one the request names"),
        )
        .hint("read the current version and decide again")),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(target: Target, condition: Condition) -> Case<'static> {
        Case {
            path: "/me/x",
            target,
            condition,
            size_bytes: 10,
            quota: Quota::new(None, 0, 0),
        }
    }

    fn code(case: &Case<'_>) -> String {
        judge(case).map_or_else(|refusal| refusal.code().to_owned(), |old| format!("{old:?}"))
    }

    #[test]
    fn conditions_are_judged_against_what_is_there() {
        let there = || Target::File(VersionId::new(7));
        let absent = Condition {
            if_absent: true,
            ..Condition::default()
        };
        let present = Condition {
            if_present: true,
            ..Condition::default()
        };
        let seven = Condition {
            if_version: Some(VersionId::new(7)),
            ..Condition::default()
        };
        let eight = Condition {
            if_version: Some(VersionId::new(8)),
            ..Condition::default()
        };
        assert_eq!(code(&case(there(), Condition::default())), "Some(VersionId(7))");
        assert_eq!(code(&case(there(), seven)), "Some(VersionId(7))");
        assert_eq!(code(&case(there(), eight)), "E_VERSION");
        assert_eq!(code(&case(there(), absent)), "E_EXISTS");
        assert_eq!(code(&case(Target::Nothing, absent)), "None");
        assert_eq!(code(&case(Target::Nothing, present)), "E_ABSENT");
        assert_eq!(code(&case(Target::Nothing, seven)), "E_ABSENT");
        assert_eq!(code(&case(Target::Directory, absent)), "E_IS_A_DIRECTORY");
        let below = Target::BelowFile("/me".to_owned());
        assert_eq!(code(&case(below, absent)), "E_NOT_A_DIRECTORY");
    }

    #[test]
    fn the_quota_is_the_last_word() {
        let mut full = case(Target::Nothing, Condition::default());
        full.quota = Quota::new(Some(15), 4, 2);
        assert_eq!(code(&full), "E_QUOTA");
        full.quota = Quota::new(Some(16), 4, 2);
        assert_eq!(code(&full), "None");
    }
}
