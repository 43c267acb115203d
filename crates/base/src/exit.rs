//! Exit codes: an interface that scripts and `podFailurePolicy` rely on.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is there: 0.
    Done,
    /// Anything else that went wrong: 1.
    Failed,
    /// The configuration or the input is wrong, or changed since the work began; trying again will not help: 2.
    Invalid,
    /// Done, with episodes left out: 3. In a Job this is 0, since no failure policy can turn another code into success;
    /// there the manifest and the termination message say so.
    DoneWithSkips,
    /// Storage stayed unavailable; trying again may help: 75, `EX_TEMPFAIL` of sysexits.h.
    Unavailable,
    /// Stopped by SIGTERM: 143, 128 + 15 as shells report it.
    Terminated,
    /// Stopped by SIGINT: 130.
    Interrupted,
}

impl Exit {
    /// The number the process ends with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Invalid => 2,
            Self::DoneWithSkips => 3,
            Self::Unavailable => 75,
            Self::Terminated => 143,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
