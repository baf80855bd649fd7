//! The file layer as its callers meet it: a real group of one member, a names layer that decides in memory.

mod api;
mod heartbeat;
mod names;
mod support;
