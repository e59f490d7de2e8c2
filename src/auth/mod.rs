//! Who is calling: tokens, passwords, links, the authenticated caller.

pub mod actor;
pub mod link;
pub mod password;
pub mod token;

pub use actor::Actor;
