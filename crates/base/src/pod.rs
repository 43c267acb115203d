//! Process identity: which attempt this is, and whether it runs in a Kubernetes pod.
#![expect(clippy::disallowed_methods, reason = "this is the module that asks")]

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A name no other process has had or will have: the pod or host, the process id and the time it was asked for.
///
/// Only ever written under the output's working folder, never into published files.
#[must_use]
pub fn attempt_id() -> String {
    let host = ["POD_NAME", "HOSTNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host: String =
        host.unwrap_or_else(|| "local".into()).chars().filter(char::is_ascii_alphanumeric).collect();
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{host}-{}-{nanoseconds:x}", std::process::id())
}

/// Whether this process runs in a Kubernetes pod.
#[must_use]
pub fn in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Leaves `message` where `kubectl describe pod` shows it as the termination message; does nothing outside a pod.
pub fn termination_message(message: &str) {
    let path = Path::new("/dev/termination-log");
    if in_pod() && path.exists() {
        // A message that cannot be left must not turn a finished job into a failed one.
        let _ = std::fs::write(path, message);
    }
}
