//! The loops of a member.
//!
//! | loop | period | runs on | may change |
//! |---|---|---|---|
//! | `leadership` | a change of leader; `timings.tick` | the leader | commits `LeaderStarted` and `Tick` |
//! | `voters` | 500 ms | the leader | adds, promotes, replaces, removes members |
//! | `levels` | 1 s | the leader | raises the feature level once all members know a higher one |
//! | `presence` | 1 s | every member | announces this member's record; learns where others are |
//! | `upkeep` | 1 s | every member | makes the state machine durable, lets the log behind it go, tidies files, refuses commands on a full disk |
//! | `publish` | a change; 100 ms | every member | the status that watchers see |

pub(crate) mod leadership;
pub(crate) mod levels;
pub(crate) mod presence;
pub(crate) mod publish;
pub(crate) mod upkeep;
pub(crate) mod voters;
