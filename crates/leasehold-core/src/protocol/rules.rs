//! The rules whose absence was shown to be unsafe, each with a name, so that a model can leave one out.

/// A rule of the protocol. `ARCHITECTURE.md` gives the counterexample for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A renewal succeeds only under the incarnation that the session joined.
    RenewalChecksIncarnation,
    /// Trust counts from the moment a renewal was sent, not from its answer.
    TrustCountsFromSend,
    /// A beat is stamped when its answer arrives, not when it was asked for.
    BeatStampedAtReceipt,
    /// An expiry deletes a row only while its beat is the one that was seen.
    ExpiryChecksBeat,
    /// A lease whose holder has no row is free, without anybody freeing it.
    HolderWithoutRowIsFree,
    /// A session may get leases only after its first renewal.
    EligibleAfterFirstRenewal,
    /// A grant changes a lease only while its token is the one that was read.
    GrantChecksToken,
    /// A planner reads the leases first and the nodes afterwards.
    LeasesReadBeforeNodes,
    /// Once a run of token t has ended, no token up to t is run again, whatever a read says.
    FinishedTokens,
    /// Before a lease is given away its token counts as finished, also when it was never run.
    GivenAwayIsFinished,
    /// A handover is repeated until the row says otherwise.
    HandoverRepeats,
    /// Grants, handovers and reruns happen only while the adopted incarnation is live.
    ChangesCheckIncarnation,
    /// Adoption waits for the cluster's longest ttl, not for the adopter's own.
    AdoptionWaitsMaxTtl,
    /// Adoption raises the epoch, the high part of tokens.
    AdoptionRaisesEpoch,
    /// The epoch of a grant and the incarnation it checks come from one read, made with or before the leases.
    EpochFromOneRead,
    /// Everyone observes everyone with every renewal, so that two deaths at once cost one detection.
    EveryoneObserves,
    /// Of two answers the one asked later counts, whichever arrives later.
    OlderAnswersDropped,
}

/// Which rules are kept: all of them, unless a model or a proof leaves one out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    #[cfg(feature = "mutations")]
    broken: Option<Rule>,
    #[cfg(feature = "mutations")]
    releases_early: bool,
}

impl Rules {
    /// All rules but one.
    #[cfg(feature = "mutations")]
    pub const fn without(rule: Rule) -> Self {
        Self { broken: Some(rule), releases_early: false }
    }

    /// All rules, but a node gives a revoked lease away before the run has ended: not the machine's mistake but its keeper's.
    #[cfg(feature = "mutations")]
    pub const fn releasing_before_drain() -> Self {
        Self { broken: None, releases_early: true }
    }

    /// Whether a revoked lease is given away only when its run has ended.
    pub(crate) fn releases_after_drain(self) -> bool {
        #[cfg(feature = "mutations")]
        return !self.releases_early;
        #[cfg(not(feature = "mutations"))]
        true
    }

    /// Whether `rule` is kept. Always, in a build without the feature `mutations`.
    #[inline]
    pub fn keep(self, rule: Rule) -> bool {
        #[cfg(feature = "mutations")]
        return self.broken != Some(rule);
        #[cfg(not(feature = "mutations"))]
        {
            let _ = rule;
            true
        }
    }
}
