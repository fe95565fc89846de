//! The timings of a node: one number given, the rest derived, all checked together.

use std::time::Duration;

/// `ttl` unless set: failover in seconds, at under one write per second and node.
pub const DEFAULT_TTL: Duration = Duration::from_secs(5);
/// Below this, scheduling delays of an ordinary machine look like death.
pub const MIN_TTL: Duration = Duration::from_millis(500);
/// Above this, "failover in about one ttl" stops being a useful promise.
pub const MAX_TTL: Duration = Duration::from_secs(600);
/// `watch` never needs to be longer: at 4 small reads a second a node is cheap already.
pub const MAX_DERIVED_WATCH: Duration = Duration::from_millis(250);
/// How long a run may finish its work after its lease was revoked politely, unless set.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(20);
/// How long a user's runtime may stay silent before it is reported, unless set.
pub const DEFAULT_STALL: Duration = Duration::from_secs(60);
/// Calls that may carry many rows are given at least this, however short the `ttl`.
pub const MIN_PATIENCE: Duration = Duration::from_secs(2);
/// No call to the database is given less than this, however little trust is left.
pub const MIN_CALL: Duration = Duration::from_millis(20);

/// The timings of a node, valid together. A session's `ttl` never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timings {
    /// How long a session lives in the eyes of others after a renewal that they saw.
    pub ttl: Duration,
    /// Time between renewals: `ttl / 4` unless set.
    pub renew: Duration,
    /// Time between reads of the cluster: the smaller of 250 ms and `ttl / 8` unless set.
    pub watch: Duration,
    /// How much earlier than `ttl` a node stops trusting its own session: `ttl / 5` unless set. Clocks whose
    /// rates differ by less than `ttl / (ttl - margin)` are safe.
    pub margin: Duration,
    /// How long a run may finish its work after a polite revocation.
    pub drain: Duration,
    /// How long a user's runtime may stay silent before it is reported.
    pub stall: Duration,
}

/// Timings that cannot work together. The message carries the numbers and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimingError(String);

impl Default for Timings {
    fn default() -> Self {
        Self::derived(DEFAULT_TTL)
    }
}

impl Timings {
    /// The timings that follow from `ttl` alone.
    pub fn derived(ttl: Duration) -> Self {
        Self {
            ttl,
            renew: ttl / 4,
            watch: MAX_DERIVED_WATCH.min(ttl / 8),
            margin: ttl / 5,
            drain: DEFAULT_DRAIN,
            stall: DEFAULT_STALL,
        }
    }

    /// Checks that the numbers work together.
    ///
    /// # Errors
    /// [`TimingError`] naming the two numbers that do not fit and what to change.
    pub fn validate(self) -> Result<Self, TimingError> {
        let Self { ttl, renew, watch, margin, drain, .. } = self;
        let fail = |text: String| Err(TimingError(text));
        if ttl < MIN_TTL || ttl > MAX_TTL {
            return fail(format!("ttl {ttl:?} is out of range: give {MIN_TTL:?} to {MAX_TTL:?}"));
        }
        if watch.is_zero() || watch > ttl / 8 {
            return fail(format!(
                "ttl {ttl:?} is too short for watch {watch:?}: at most ttl/8 ({:?}); raise ttl to {:?} or lower watch",
                ttl / 8,
                watch * 8,
            ));
        }
        if renew < watch || renew > ttl / 3 {
            return fail(format!(
                "renew {renew:?} does not fit ttl {ttl:?}: give at least watch ({watch:?}) and at most ttl/3 ({:?}), so that one lost renewal costs no lease",
                ttl / 3,
            ));
        }
        if margin < ttl / 50 || margin > ttl / 2 {
            return fail(format!(
                "margin {margin:?} does not fit ttl {ttl:?}: give at least ttl/50 ({:?}), for clocks whose rates differ, and at most ttl/2 ({:?})",
                ttl / 50,
                ttl / 2,
            ));
        }
        if renew * 2 > ttl - margin {
            return fail(format!(
                "renew {renew:?} leaves no second try within ttl - margin ({:?}): lower renew to {:?} or less",
                ttl - margin,
                (ttl - margin) / 2,
            ));
        }
        if drain.is_zero() {
            return fail("drain 0 s would cut off every run at a polite stop: give at least 1 ms".to_owned());
        }
        Ok(self)
    }

    /// How long before its trust ends a session stops its runs: enough for a runtime to drop them.
    pub(crate) fn guard(&self) -> Duration {
        (self.margin / 4).min(Duration::from_millis(100))
    }

    /// How long the answer of a call that may carry many rows is waited for. Longer than a `ttl` is no use to anybody,
    /// but a short `ttl` does not make ten thousand rows travel faster.
    pub(crate) fn patience(&self) -> Duration {
        self.ttl.max(MIN_PATIENCE)
    }

    /// How long a call that failed is not repeated, from when it was sent: a database that fails each call at once is asked
    /// for the same at most so often.
    pub(crate) fn pause(&self) -> Duration {
        self.watch / 4
    }

    /// The timeout of a renewal or a watch when `trust` is left.
    pub(crate) fn call(&self, trust: Duration) -> Duration {
        let left = if trust.is_zero() { self.ttl } else { trust };
        (self.ttl / 4).min(left / 2).max(MIN_CALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_timings_are_valid_at_both_ends() {
        for ttl in [MIN_TTL, Duration::from_secs(2), DEFAULT_TTL, MAX_TTL] {
            Timings::derived(ttl).validate().unwrap();
        }
        assert_eq!(Timings::default().watch, Duration::from_millis(250));
    }

    #[test]
    fn refuses_impossible_combinations_with_the_numbers() {
        let base = Timings::derived(Duration::from_secs(1));
        let error = |timings: Timings| timings.validate().unwrap_err().to_string();
        assert_eq!(
            error(Timings { watch: Duration::from_millis(500), ..base }),
            "ttl 1s is too short for watch 500ms: at most ttl/8 (125ms); raise ttl to 4s or lower watch"
        );
        assert!(error(Timings { ttl: Duration::from_millis(100), ..base }).contains("500ms to 600s"));
        assert!(error(Timings { renew: Duration::from_millis(400), ..base }).contains("at most ttl/3"));
        assert!(error(Timings { margin: Duration::ZERO, ..base }).contains("at least ttl/50"));
        assert!(
            error(Timings { margin: Duration::from_millis(400), ..base }.with_renew(320))
                .contains("no second try")
        );
        assert!(error(Timings { drain: Duration::ZERO, ..base }).contains("drain"));
    }

    impl Timings {
        fn with_renew(self, millis: u64) -> Self {
            Self { renew: Duration::from_millis(millis), ..self }
        }
    }
}
