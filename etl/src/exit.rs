//! Exit codes: what the shell, cron and systemd learn about a run.

/// How the process ends. Where several hold, the one that comes first in
/// [`Exit::worst`]'s order wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 0: every record was delivered.
    Delivered,
    /// 64: the command line was wrong.
    Usage,
    /// 65: finished, some records were rejected or dead-lettered.
    Rejected,
    /// 69: something that the run needs is not there now: the source or a part of it
    /// could not be read, the spool or the state is in use or its disk is failing.
    SourceUnavailable,
    /// 70: a bug, such as books that do not balance.
    Internal,
    /// 75: finished, data is still in the spool.
    Spooled,
    /// 78: the configuration was refused.
    Config,
    /// 130: stopped by Ctrl-C, everything safe.
    Interrupted,
    /// 143: stopped by SIGTERM, everything safe.
    Terminated,
}

impl Exit {
    /// The number the process exits with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Delivered => 0,
            Exit::Usage => 64,
            Exit::Rejected => 65,
            Exit::SourceUnavailable => 69,
            Exit::Internal => 70,
            Exit::Spooled => 75,
            Exit::Config => 78,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }

    /// Of two outcomes the one to report: 78, 64, 70, 130/143, 69, 75, 65, 0.
    #[must_use]
    pub fn worst(self, other: Exit) -> Exit {
        if self.rank() <= other.rank() { self } else { other }
    }

    fn rank(self) -> u8 {
        match self {
            Exit::Config => 0,
            Exit::Usage => 1,
            Exit::Internal => 2,
            Exit::Interrupted => 3,
            Exit::Terminated => 4,
            Exit::SourceUnavailable => 5,
            Exit::Spooled => 6,
            Exit::Rejected => 7,
            Exit::Delivered => 8,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_worst_outcome_wins_in_the_documented_order() {
        let order = [
            Exit::Internal,
            Exit::Interrupted,
            Exit::SourceUnavailable,
            Exit::Spooled,
            Exit::Rejected,
            Exit::Delivered,
        ];
        for (rank, worse) in order.iter().enumerate() {
            for better in &order[rank..] {
                assert_eq!(worse.worst(*better), *worse);
                assert_eq!(better.worst(*worse), *worse);
            }
        }
    }
}
