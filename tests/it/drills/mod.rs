//! Drills: what is promised, held to it by force.

mod projection;
