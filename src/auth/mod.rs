//! Who is calling: tokens, passwords, the authenticated caller.

pub mod actor;
pub mod password;
pub mod token;

pub use actor::Actor;
