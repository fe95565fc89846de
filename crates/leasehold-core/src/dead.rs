//! What is written beside a message that could not be handled, in its headers, wherever it is put.

use crate::lease::Lease;

/// What the handler said.
pub const REASON: &str = "x-leasehold-reason";
/// How often the message was handed over.
pub const ATTEMPTS: &str = "x-leasehold-attempts";
/// Where it was taken from, as its source names that.
pub const SOURCE: &str = "x-leasehold-source";
/// The artifact that put it here.
pub const ARTIFACT: &str = "x-leasehold-artifact";

/// The longest reason that is sent along, in bytes: a header is no place for a stack trace.
const MAX_REASON: usize = 2_000;

/// Why a message is put away.
#[derive(Clone, Copy, Debug)]
pub struct Why<'a> {
    /// Under which it was handled.
    pub lease: &'a Lease,
    /// How often it was handed over.
    pub attempts: u32,
    /// What the handler said.
    pub reason: &'a str,
    /// Where it was taken from.
    pub source: &'a str,
}

impl Why<'_> {
    /// As headers. A long reason is cut.
    pub fn headers(&self) -> [(&'static str, String); 4] {
        [
            (REASON, self.reason[..self.reason.floor_char_boundary(MAX_REASON)].to_owned()),
            (ATTEMPTS, self.attempts.to_string()),
            (SOURCE, self.source.to_owned()),
            (ARTIFACT, self.lease.artifact().to_string()),
        ]
    }
}
