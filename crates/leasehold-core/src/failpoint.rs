//! Named points in the middle of things, for the proof: who reaches one may be stopped there, or end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// A coordination statement is on its way to the database, and not answered.
    QuerySent,
    /// It was answered, and nobody has seen the answer.
    Answered,
    /// A fenced transaction has committed, and nobody was told.
    Committed,
    /// A message was handed over, and its handler has not begun.
    HandlerStarted,
    /// What takes effect elsewhere is on its way there.
    EffectSent,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::QuerySent, Self::Answered, Self::Committed, Self::HandlerStarted, Self::EffectSent];
}

type Hook = Box<dyn Fn(Point) + Send + Sync>;

static HOOK: OnceLock<Hook> = OnceLock::new();

/// From now on this is called, in the midst of it, by whoever reaches a point. Once for a process; later calls change nothing.
pub fn set(hook: impl Fn(Point) + Send + Sync + 'static) {
    let _ = HOOK.set(Box::new(hook));
}

/// Says that a point is reached: for points outside of leasehold, too.
pub fn reached(point: Point) {
    if let Some(hook) = HOOK.get() {
        hook(point);
    }
}

/// Reaches a point when something was sent and is not answered. It is sent when it is polled for the first time, where a
/// connection is at hand.
pub async fn sent<T>(point: Point, sending: impl Future<Output = T>) -> T {
    let mut sending = pin!(sending);
    let mut is_sent = false;
    let answer = poll_fn(|cx| {
        let polled = sending.as_mut().poll(cx);
        if polled.is_pending() && !is_sent {
            is_sent = true;
            reached(point);
        }
        polled
    });
    answer.await
}
