//! Every command, applied to tables in memory.

mod accounts;
mod clusters;
mod directories;
mod model;
mod openings;
mod uploads;
