//! Passwords: hashed with argon2id on threads of their own, few at a time.
//!
//! A hash takes 19 MiB and tens of milliseconds on purpose. A bounded queue keeps a storm of log-ins from taking all
//! memory and all cores from the sockets; who waits too long is told to come back. The threads are not those of the
//! blocking pool, because the C library keeps a hash's memory for each thread that ever made one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::{mpsc, oneshot};

use crate::domain::words::Password;
use crate::error::{Code, Error, Result};

/// How long a caller waits for its hash.
const PATIENCE: Duration = Duration::from_secs(5);
/// Callers that wait for their turn, at most.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&Hasher) + Send>;

/// The cost of one hash. The default is the floor that OWASP gives for argon2id.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// KiB of memory.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
}

/// Hashes and verifies passwords; cheap to clone. Its threads end with the last clone.
#[derive(Debug, Clone)]
pub struct Passwords(mpsc::Sender<Job>);

/// What a hashing thread works with.
struct Hasher {
    argon: Argon2<'static>,
    dummy: Arc<OnceLock<String>>,
}

impl Passwords {
    /// With this cost, at most `at_once` hashes at a time.
    pub fn new(cost: Cost, at_once: usize) -> Result<Self> {
        let params = Params::new(cost.memory, cost.passes, 1, None)
            .map_err(|error| Error::invalid("bad_argon2_cost", format!("argon2 refuses this cost: {error}")))?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let (jobs, queue) = mpsc::channel::<Job>(QUEUE);
        let (queue, dummy) = (Arc::new(Mutex::new(queue)), Arc::default());
        for _ in 0..at_once.max(1) {
            let hasher = Hasher { argon: argon.clone(), dummy: Arc::clone(&dummy) };
            let queue = queue.clone();
            let run = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    match next {
                        // A hash that panics is answered as a fault, and the thread goes on.
                        Some(job) => drop(catch_unwind(AssertUnwindSafe(|| job(&hasher)))),
                        None => return,
                    }
                }
            };
            std::thread::Builder::new().name("passwords".into()).spawn(run).map_err(Error::internal)?;
        }
        Ok(Self(jobs))
    }

    /// The hash to keep, in the PHC string format.
    pub async fn hash(&self, password: Password) -> Result<String> {
        self.in_turn(move |hasher| hash(&hasher.argon, &password)).await
    }

    /// Whether this is the password of that hash. Without a hash (no such user) it takes as long and says no.
    pub async fn verify(&self, password: Password, kept: Option<String>) -> Result<bool> {
        self.in_turn(move |hasher| {
            let known = kept.is_some();
            let kept = match kept {
                Some(kept) => kept,
                None => hasher.dummy()?,
            };
            let parsed = PasswordHash::new(&kept).map_err(|error| Error::internal(error.to_string()))?;
            let right = hasher.argon.verify_password(password.as_bytes(), &parsed).is_ok();
            Ok(known && right)
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce(&Hasher) -> Result<T> + Send + 'static) -> Result<T> {
        let busy = || {
            Error::new(Code::RateLimited, "too_many_logins", "too many log-ins at once, try again in a moment")
                .retry_after(PATIENCE)
        };
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |hasher| {
            // Whoever has given up by now needs no hash any more.
            if !done.is_closed() {
                let _ = done.send(work(hasher));
            }
        });
        self.0.try_send(job).map_err(|_| busy())?;
        tokio::time::timeout(PATIENCE, outcome).await.map_err(|_| busy())?.map_err(Error::internal)?
    }
}

impl Hasher {
    fn dummy(&self) -> Result<String> {
        if let Some(dummy) = self.dummy.get() {
            return Ok(dummy.clone());
        }
        let made = hash(&self.argon, &Password::new("nobody has this password")?)?;
        Ok(self.dummy.get_or_init(|| made).clone())
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
