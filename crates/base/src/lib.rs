//! The one room with windows: the environment, clocks, storage and process identity.
//!
//! Everything above takes what it needs as values, so that it can be run twice with the same result; only this crate
//! asks the machine. `clippy.toml` holds the rest of the workspace to that.
//!
//! - [`config`]: `@ file.toml` arguments
//! - [`store`]: objects under a root, local or in memory, with put-if-absent
//! - [`publish`]: the plan and the done markers that make a job resumable
//! - [`pod`]: who this process is
//! - [`telemetry`]: time taken and progress shown
//! - [`shutdown`]: being asked to stop
//! - [`exit`]: what the exit code says

pub mod config;
pub mod exit;
pub mod pod;
pub mod publish;
pub mod shutdown;
pub mod store;
pub mod telemetry;
