//! What stops a command, and the exit code it ends with.

use base::config::ConfigError;
use base::exit::Exit;
use base::publish::PublishError;
use base::store::StoreError;
use trajectory::read::ReadError;
use trajectory::write::WriteError;

/// What stops a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The configuration or the input is wrong; the text says what to do.
    #[error("{0}")]
    Invalid(String),
    /// An `@ file.toml` or map cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The input cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job's record cannot be used.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The output cannot be encoded.
    #[error("writing the output: {0}")]
    Write(#[from] WriteError),
    /// The process was asked to stop.
    #[error("stopped as asked; run the same command again to continue")]
    Stopped(Exit),
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// The exit code for it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Invalid(_) | Self::Config(_) | Self::Read(_) => Exit::Invalid,
            Self::Store(e) | Self::Publish(PublishError::Store(e)) => match e {
                StoreError::Unavailable { .. } => Exit::Unavailable,
                StoreError::NotFound { .. } | StoreError::Unsupported { .. } => Exit::Invalid,
            },
            Self::Publish(PublishError::NoPutIfAbsent { .. } | PublishError::Damaged { .. }) => Exit::Invalid,
            Self::Write(WriteError::Sink(_)) => Exit::Unavailable,
            Self::Write(WriteError::Schema { .. } | WriteError::Dataset(_)) => Exit::Invalid,
            Self::Write(_) => Exit::Failed,
            Self::Stopped(exit) => *exit,
        }
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
