//! `shoptalk users`: what an operator does with accounts.

use clap::Subcommand;

use super::dead::{Configured, configuration};
use super::print;
use crate::domain::words::Email;
use crate::error::Result;
use crate::operate;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub(super) enum Users {
    /// Show what somebody is to the shop, or make them something else from their next token on
    Role {
        /// The address of the account
        email: String,
        /// buyer, seller, agent or admin
        role: Option<String>,
    },
}

/// Does it.
pub(super) async fn users(command: Users, configured: Configured) -> Result<()> {
    let config = configuration(configured.config.as_deref())?;
    let Users::Role { email, role } = command;
    let role = role.map(|role| role.parse()).transpose()?;
    let user = operate::users::role(&config, &Email::new(&email)?, role).await?;
    print(&format!("{}  {}  {}\n", user.id, user.role, user.email));
    Ok(())
}
