//! Resumable work: a plan agreed on once, and done markers that are the truth.
//!
//! Flow: [`Ledger::probe`] the store, [`Ledger::agree`] on the plan, then for each task skip it if [`Ledger::outcome`] has
//! something, else do it under an attempt-unique name and [`Ledger::complete`] it.
//!
//! Built on put-if-absent alone. Its answer may be lost or repeated by the network (a retried PUT meets its own 412, NFS
//! replays `link()`), so "already exists" is never believed as such: the marker is read, and whoever's attempt id it holds
//! has won. A process may so be killed between any two instructions, or run twice, and a rerun does only what is missing.
//!
//! Invariants, as absences: no marker is ever changed or removed while work goes on; nothing a loser wrote is ever read.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::{Put, Store, StoreError};

/// Why work could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage lets a second writer replace what the first one created: two workers could publish different data.
    #[error(
        "{location}: the storage does not refuse to create a file twice, so no job can be shared or resumed on it safely"
    )]
    NoPutIfAbsent {
        /// The output.
        location: String,
    },
    /// A marker or plan is there but is not one.
    #[error("{key}: {problem}")]
    Damaged {
        /// Which.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Who did a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// This attempt: what it staged counts.
    Won,
    /// Another attempt: what this one staged is worthless.
    Lost,
}

/// The shared record of one job, below one key prefix of the output's store.
#[derive(Debug, Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    prefix: String,
    attempt: String,
    pause: Duration,
}

/// How often a file that is refused as existing, yet cannot be seen, is asked for.
const TRIES: u32 = 8;

/// The first pause between two such tries; each later one is twice as long, 1.3 s in all.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker<T> {
    attempt: String,
    outcome: T,
}

impl Ledger {
    /// The record below `prefix`, written to as `attempt`, a name no other process has.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, prefix: &str, attempt: &str) -> Self {
        Self { store, prefix: prefix.into(), attempt: attempt.into(), pause: PAUSE }
    }

    /// Makes sure that the store refuses a second create.
    ///
    /// # Errors
    /// [`PublishError::NoPutIfAbsent`] if it does not.
    pub fn probe(&self) -> Result<(), PublishError> {
        let key = format!("{}/probe/{}", self.prefix, self.attempt);
        self.store.put_if_absent(&key, b"first")?;
        let second = self.store.put_if_absent(&key, b"second")?;
        let kept = self.store.get(&key)?;
        self.store.delete(&key)?;
        if second == Put::AlreadyExists && kept.as_deref() == Some(b"first") {
            return Ok(());
        }
        Err(PublishError::NoPutIfAbsent { location: self.store.location().into() })
    }

    /// What was agreed on under `name`, if anything was yet.
    ///
    /// # Errors
    /// If the storage fails.
    pub fn agreed(&self, name: &str) -> Result<Option<Vec<u8>>, PublishError> {
        Ok(self.store.get(&format!("{}/{name}", self.prefix))?)
    }

    /// Proposes `bytes` under `name` and returns what is agreed on: the first proposal.
    ///
    /// # Errors
    /// If the storage fails, or says that there is a proposal and never shows it.
    pub fn agree(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, PublishError> {
        let standing = self.create(&format!("{}/{name}", self.prefix), bytes)?;
        Ok(standing.unwrap_or_else(|| bytes.to_vec()))
    }

    /// A key for the data of `task` that no other attempt uses.
    #[must_use]
    pub fn staging_key(&self, task: &str) -> String {
        format!("{}/staged/{task}.{}", self.prefix, self.attempt)
    }

    /// What came of `task`, if it is done.
    ///
    /// # Errors
    /// If the storage fails or the marker cannot be read.
    pub fn outcome<T: DeserializeOwned>(&self, task: &str) -> Result<Option<T>, PublishError> {
        Ok(self.marker(task)?.map(|marker| marker.outcome))
    }

    /// Records that `task` is done. Everything `outcome` speaks of is durable by now.
    ///
    /// # Errors
    /// If the storage fails, or says that there is a marker and never shows it; the task may count as done nevertheless,
    /// which a rerun will see.
    pub fn complete<T: Serialize + DeserializeOwned>(
        &self,
        task: &str,
        outcome: T,
    ) -> Result<Completion, PublishError> {
        let key = self.marker_key(task);
        let marker = Marker { attempt: self.attempt.clone(), outcome };
        let bytes = serde_json::to_vec(&marker).expect("outcomes have string keys");
        match self.create(&key, &bytes)? {
            None => Ok(Completion::Won),
            Some(standing) if parse::<T>(&key, &standing)?.attempt == self.attempt => Ok(Completion::Won),
            Some(_) => Ok(Completion::Lost),
        }
    }

    /// Creates `key`, or returns what stands there already.
    fn create(&self, key: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, PublishError> {
        for attempt in 0..TRIES {
            if attempt > 0 {
                // Refused, yet not there: a delayed view of the folder.
                std::thread::sleep(self.pause * (1 << (attempt - 1)));
            }
            if self.store.put_if_absent(key, bytes)? == Put::Created {
                return Ok(None);
            }
            if let Some(standing) = self.store.get(key)? {
                return Ok(Some(standing));
            }
        }
        let problem = "the storage says that it exists and shows no file there; remove it if it is a folder, \
                       make sure that nothing else deletes files here, and run again";
        Err(PublishError::Damaged { key: key.into(), problem: problem.into() })
    }

    fn marker<T: DeserializeOwned>(&self, task: &str) -> Result<Option<Marker<T>>, PublishError> {
        let key = self.marker_key(task);
        self.store.get(&key)?.map(|bytes| parse(&key, &bytes)).transpose()
    }

    fn marker_key(&self, task: &str) -> String {
        format!("{}/done/{task}.json", self.prefix)
    }
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<Marker<T>, PublishError> {
    serde_json::from_slice(bytes).map_err(|error| PublishError::Damaged {
        key: key.into(),
        problem: format!("not a file of this version: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Object, Upload};
    use std::ops::Range;

    fn ledger(store: &MemoryStore, attempt: &str) -> Ledger {
        Ledger::new(Arc::new(store.clone()), "work", attempt)
    }

    #[test]
    fn the_first_to_complete_wins_and_the_second_learns_it() {
        let store = MemoryStore::default();
        let (a, b) = (ledger(&store, "a"), ledger(&store, "b"));
        assert_eq!(a.outcome::<u32>("t").unwrap(), None);
        assert_eq!(a.complete("t", 1u32).unwrap(), Completion::Won);
        assert_eq!(b.complete("t", 2u32).unwrap(), Completion::Lost);
        assert_eq!(b.outcome::<u32>("t").unwrap(), Some(1));
        assert_ne!(a.staging_key("t"), b.staging_key("t"));
    }

    /// A retried request meets its own marker: the answer says "exists", the marker says "you".
    #[test]
    fn a_repeated_answer_is_still_a_win() {
        let store = MemoryStore::default();
        let a = ledger(&store, "a");
        a.complete("t", 1u32).unwrap();
        assert_eq!(a.complete("t", 1u32).unwrap(), Completion::Won);
    }

    #[test]
    fn everyone_gets_the_first_plan() {
        let store = MemoryStore::default();
        assert_eq!(ledger(&store, "a").agree("plan.json", b"one").unwrap(), b"one");
        assert_eq!(ledger(&store, "b").agree("plan.json", b"two").unwrap(), b"one");
    }

    #[test]
    fn a_damaged_marker_is_named() {
        let store = MemoryStore::default();
        (&store as &dyn Store).put("work/done/t.json", b"{").unwrap();
        let error = ledger(&store, "a").outcome::<u32>("t").unwrap_err().to_string();
        assert!(error.starts_with("work/done/t.json: not a file of this version: "), "{error}");
    }

    /// A folder where the marker should be, as an example: its name is taken and there is no file to read.
    #[test]
    fn what_exists_and_cannot_be_seen_is_named_after_a_few_tries() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("work/done/t.json")).unwrap();
        std::fs::create_dir_all(dir.path().join("work/plan.json")).unwrap();
        let store = crate::store::LocalStore::new(dir.path().to_str().unwrap(), "work/tmp");
        let mut ledger = Ledger::new(Arc::new(store), "work", "a");
        ledger.pause = Duration::ZERO;
        let done = ledger.complete("t", 1u32).unwrap_err();
        assert!(matches!(&done, PublishError::Damaged { key, .. } if key == "work/done/t.json"), "{done}");
        assert!(done.to_string().contains("run again"), "{done}");
        let plan = ledger.agree("plan.json", b"one").unwrap_err();
        assert!(matches!(&plan, PublishError::Damaged { key, .. } if key == "work/plan.json"), "{plan}");
    }

    /// A store that lets everyone create.
    #[derive(Debug)]
    struct Permissive(MemoryStore);

    impl Store for Permissive {
        fn location(&self) -> &'static str {
            "permissive"
        }
        fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
            self.0.list(prefix)
        }
        fn head(&self, key: &str) -> Result<Object, StoreError> {
            self.0.head(key)
        }
        fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
            self.0.read(key, range)
        }
        fn create(&self, key: &str) -> Result<Box<dyn Upload>, StoreError> {
            self.0.create(key)
        }
        fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
            (&self.0 as &dyn Store).put(key, bytes)?;
            Ok(Put::Created)
        }
        fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.0.delete(key)
        }
        fn sweep(&self) -> Result<(), StoreError> {
            self.0.sweep()
        }
    }

    #[test]
    fn a_store_without_put_if_absent_is_found_out() {
        assert!(ledger(&MemoryStore::default(), "a").probe().is_ok());
        let bad = Ledger::new(Arc::new(Permissive(MemoryStore::default())), "work", "a");
        assert!(matches!(bad.probe(), Err(PublishError::NoPutIfAbsent { .. })));
    }
}
