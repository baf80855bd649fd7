//! Passwords: argon2id, on the blocking pool, a few at a time (each check takes 19 MiB and a core).
//!
//! Invariant (P9): a login with an unknown name costs as much as one with a wrong password, so that time does not tell
//! which names exist.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use common::error::Kind;
use common::random::Random;
use common::time::Clock;
use proto::error::RpcError;
use zeroize::Zeroizing;

use crate::admission::{Admission, Place};

const SALT_BYTES: usize = 16;
/// How long a check waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Hashes and checks passwords.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    turns: Admission,
    random: Random,
    /// What unknown users' passwords are checked against: the hash of a random password, made on first use.
    decoy: Arc<tokio::sync::OnceCell<String>>,
}

impl Passwords {
    /// `checks_max` at once, `waiting_max` more that wait.
    pub(crate) fn new(checks_max: u32, waiting_max: u32, clock: Clock, random: Random) -> Self {
        Self {
            turns: Admission::new(checks_max, waiting_max, WAIT_MAX, clock),
            random,
            decoy: Arc::default(),
        }
    }

    /// The PHC string of `password`.
    ///
    /// # Errors
    /// `Busy`, or the hash could not be made.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, RpcError> {
        let turn = self.turns.admit().await?;
        let salt: [u8; SALT_BYTES] = self.random.bytes();
        on_the_pool(turn, move || hash(&password, &salt)).await?
    }

    /// Whether `password` is the one that `known` was made of; always false for `None`, after the same work.
    ///
    /// # Errors
    /// `Busy`.
    pub(crate) async fn check(
        &self,
        password: Zeroizing<String>,
        known: Option<String>,
    ) -> Result<bool, RpcError> {
        let exists = known.is_some();
        let against = match known {
            Some(hash) => hash,
            None => self.decoy().await?,
        };
        let turn = self.turns.admit().await?;
        let matches = on_the_pool(turn, move || verify(&password, &against)).await?;
        Ok(matches && exists)
    }

    async fn decoy(&self) -> Result<String, RpcError> {
        let made = self.decoy.get_or_try_init(|| async {
            let secret: [u8; SALT_BYTES] = self.random.bytes();
            self.hash(Zeroizing::new(format!("{secret:?}"))).await
        });
        made.await.cloned()
    }
}

async fn on_the_pool<T: Send + 'static>(
    turn: Place,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RpcError> {
    let job = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    job.await.map_err(|_| failed("the password could not be checked"))
}

fn hash(password: &str, salt: &[u8]) -> Result<String, RpcError> {
    let made: Result<PasswordHash, _> = Argon2::default().hash_password_with_salt(password.as_bytes(), salt);
    made.map(|hash| hash.to_string())
        .map_err(|error| failed(&format!("the password could not be hashed: {error}")))
}

fn verify(password: &str, known: &str) -> bool {
    Argon2::default()
        .verify_password(password.as_bytes(), known)
        .is_ok()
}

fn failed(message: &str) -> RpcError {
    RpcError::new(Kind::Retry, "E_INTERNAL", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(1, 8, Clock::real(), Random::seeded(5))
    }

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let passwords = passwords();
        let known = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(known.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{known}");
        let again = passwords.hash(secret("correct horse")).await.unwrap();
        assert_ne!(known, again, "salted");
        assert_eq!(
            passwords
                .check(secret("correct horse"), Some(known.clone()))
                .await,
            Ok(true)
        );
        assert_eq!(
            passwords.check(secret("wrong horse"), Some(known)).await,
            Ok(false)
        );
        assert_eq!(passwords.check(secret("correct horse"), None).await, Ok(false));
        let broken = Some("not a hash".to_owned());
        assert_eq!(passwords.check(secret("correct horse"), broken).await, Ok(false));
    }
}
