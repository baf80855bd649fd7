//! Open files: a process takes all that it may have, since each connection and each segment is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Where that is refused, the limit stays as it is.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // What is refused here is met again, and told, where descriptors run out.
    let _ = setrlimit(Resource::Nofile, raised);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = getrlimit(Resource::Nofile);
        let lower = Rlimit {
            current: Some(limit.maximum.map_or(512, |most| most.min(512))),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, lower).unwrap();
        raise_limit();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.maximum), (limit.maximum, limit.maximum));
    }
}
