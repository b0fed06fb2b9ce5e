//! [`Steady`]: a moment of a clock that only goes forward.

/// Milliseconds of a clock that only goes forward, whatever somebody sets the time of day to: for waiting,
/// and for judging how long something takes. It begins anywhere, and has nothing to do with what other
/// machines, or records, call the time: that is [`crate::time::Timestamp`], and neither is ever held against
/// the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Steady(u64);

impl Steady {
    /// So many milliseconds after the clock began.
    pub fn from_ms(ms: u64) -> Self {
        Steady(ms)
    }

    /// This moment plus a number of milliseconds, saturating.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Steady(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; zero if `earlier` is later.
    pub fn since_ms(self, earlier: Steady) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
