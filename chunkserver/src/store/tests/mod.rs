//! Tests of the store as a whole: [`conformance`] on both drivers, [`damage`] on the simulated one, [`crash`] at every
//! step at which power can be cut, [`faults`] at every call that can fail, [`standing`] of a disk that refuses, [`fixtures`]
//! that must stay readable.

mod conformance;
mod cost;
mod crash;
mod damage;
mod faults;
mod fixtures;
mod lab;
mod standing;
