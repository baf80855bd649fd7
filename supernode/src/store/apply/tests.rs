//! Every command, applied to tables in memory.

mod accounts;
mod census;
mod clusters;
mod damage;
mod directories;
mod model;
mod openings;
mod uploads;
