//! The doors for shops and couriers: the real listener and the real worker in this process, with
//! the broker in memory and a store in a file. Each case shows the answer, and what was written.

#[allow(dead_code)] // the suite over real services uses the rest of it
#[path = "doors/client.rs"]
mod client;
#[allow(dead_code)] // the intake's suite uses the rest of it
#[path = "intake/forgetful.rs"]
mod forgetful;
#[path = "doors/orders.rs"]
mod orders;
#[path = "doors/push.rs"]
mod push;
#[path = "doors/shipments.rs"]
mod shipments;
#[path = "doors/strangers.rs"]
mod strangers;
#[path = "doors/world.rs"]
mod world;
