//! Passwords: hashed with argon2id on the blocking pool, few at a time.
//!
//! A hash takes 19 MiB and tens of milliseconds on purpose. The semaphore keeps a storm of log-ins from taking all
//! memory and all cores from the sockets; who waits too long is told to come back.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::Semaphore;

use crate::domain::words::Password;
use crate::error::{Code, Error, Result};

/// How long a caller waits for a turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cost of one hash. The default is the floor that OWASP gives for argon2id.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// KiB of memory.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
}

/// Hashes and verifies passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    argon: Argon2<'static>,
    turns: Arc<Semaphore>,
    dummy: Arc<OnceLock<String>>,
}

impl Passwords {
    /// With this cost, at most `at_once` hashes at a time.
    pub fn new(cost: Cost, at_once: usize) -> Result<Self> {
        let params = Params::new(cost.memory, cost.passes, 1, None)
            .map_err(|error| Error::invalid("bad_argon2_cost", format!("argon2 refuses this cost: {error}")))?;
        Ok(Self {
            argon: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            turns: Arc::new(Semaphore::new(at_once.max(1))),
            dummy: Arc::default(),
        })
    }

    /// The hash to keep, in the PHC string format.
    pub async fn hash(&self, password: Password) -> Result<String> {
        self.in_turn(move |this| hash(&this.argon, &password)).await
    }

    /// Whether this is the password of that hash. Without a hash (no such user) it takes as long and says no.
    pub async fn verify(&self, password: Password, kept: Option<String>) -> Result<bool> {
        self.in_turn(move |this| {
            let known = kept.is_some();
            let kept = match kept {
                Some(kept) => kept,
                None => this.dummy()?,
            };
            let parsed = PasswordHash::new(&kept).map_err(|error| Error::internal(error.to_string()))?;
            let right = this.argon.verify_password(password.as_bytes(), &parsed).is_ok();
            Ok(known && right)
        })
        .await
    }

    fn dummy(&self) -> Result<String> {
        if let Some(dummy) = self.dummy.get() {
            return Ok(dummy.clone());
        }
        let made = hash(&self.argon, &Password::new("nobody has this password")?)?;
        Ok(self.dummy.get_or_init(|| made).clone())
    }

    async fn in_turn<T: Send + 'static>(&self, job: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned())
            .await
            .map_err(|_| {
                Error::new(Code::RateLimited, "too_many_logins", "too many log-ins at once, try again in a moment")
                    .retry_after(PATIENCE)
            })?
            .map_err(Error::internal)?;
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let done = job(&this);
            drop(turn);
            done
        })
        .await
        .map_err(Error::internal)?
    }
}

fn hash(argon: &Argon2<'_>, password: &Password) -> Result<String> {
    argon
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| Error::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_right() {
        let passwords = Passwords::new(Cost { memory: 64, passes: 1 }, 2).expect("a cost");
        let password = |text| Password::new(text).expect("long enough");
        let kept = passwords.hash(password("correct horse")).await.expect("a hash");
        assert!(kept.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{kept}");
        assert!(passwords.verify(password("correct horse"), Some(kept.clone())).await.expect("checked"));
        assert!(!passwords.verify(password("wrong horse!"), Some(kept)).await.expect("checked"));
        assert!(!passwords.verify(password("nobody has this password"), None).await.expect("checked"));
    }
}
