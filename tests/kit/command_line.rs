//! `makegood participant check`, as a user runs it.

use crate::world::World;

pub async fn the_command_prints_pass_or_fail_and_says_so_by_its_status(_world: World) {}

pub fn what_is_wrong_is_told() {}
