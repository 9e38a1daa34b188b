//! What the random and the exhaustive tests of the core share: the rules that every saga keeps,
//! and a world of participants that keep their contract.

pub mod rules;
pub mod world;
