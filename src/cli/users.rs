//! `shoptalk users`: what an operator does with accounts.

use clap::Subcommand;

use super::dead::{Configured, configuration};
use super::print;
use crate::domain::words::{Email, ExternalId};
use crate::error::Result;
use crate::operate::{self, users::External};

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
    /// Show by which id the shop knows somebody, or set it: order events can name them by it
    External {
        /// The address of the account
        email: String,
        /// The shop's own id of them
        #[arg(conflicts_with = "remove")]
        external_id: Option<String>,
        /// Take it away
        #[arg(long)]
        remove: bool,
    },
}

/// Does it.
pub(super) async fn users(command: Users, configured: Configured) -> Result<()> {
    let config = configuration(configured.config.as_deref())?;
    match command {
        Users::Role { email, role } => {
            let role = role.map(|role| role.parse()).transpose()?;
            let user = operate::users::role(&config, &Email::new(&email)?, role).await?;
            print(&format!("{}  {}  {}\n", user.id, user.role, user.email));
        }
        Users::External { email, external_id, remove } => {
            let wanted = match external_id {
                Some(id) => External::Is(ExternalId::new(&id)?),
                None if remove => External::None,
                None => External::Kept,
            };
            let user = operate::users::external(&config, &Email::new(&email)?, wanted).await?;
            let external = user.external_id.map_or_else(|| "-".to_owned(), String::from);
            print(&format!("{}  {external}  {}\n", user.id, user.email));
        }
    }
    Ok(())
}
