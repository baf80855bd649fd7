//! Tests of the store as a whole: [`conformance`] on both drivers, [`damage`] on the simulated one, [`crash`] at every
//! step at which power can be cut, [`fixtures`] that must stay readable.

mod conformance;
mod crash;
mod damage;
mod fixtures;
mod lab;
