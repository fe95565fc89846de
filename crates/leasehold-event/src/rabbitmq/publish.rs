//! Publishing with confirms.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};

use super::link::Route;
use crate::error::{Error, ErrorKind};

/// A name of AMQP, which has at most 255 bytes: the client's own conversion panics at longer ones.
pub(super) fn short(what: &str, name: &str) -> Result<ShortString, Error> {
    ShortString::try_new(name).map_err(|_| {
        let told = format!("{what} {name:?} has {} bytes: AMQP allows 255", name.len());
        Error::new(ErrorKind::Config, "name", told)
    })
}

/// Publishes a message and waits until the broker has it. After an error of kind [`ErrorKind::Timeout`] or
/// [`ErrorKind::Unreachable`] the outcome is unknown.
pub(super) async fn publish(
    channel: &Channel,
    route: &Route,
    exchange: &str,
    routing_key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<(), Error> {
    const OPERATION: &str = "publish";
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (to, key) = (short("exchange", exchange)?, short("routing key", routing_key)?);
    let publishing = async { channel.basic_publish(to, key, options, body, properties).await?.await };
    let refused = |kind, what: &str, remedy: &str| {
        let to = if exchange.is_empty() {
            format!("queue {routing_key:?}")
        } else {
            format!("exchange {exchange:?} with routing key {routing_key:?}")
        };
        Err(Error::new(kind, OPERATION, format!("{} {what} to {to}: {remedy}", route.address)))
    };
    match route.ask(OPERATION, publishing).await? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => refused(
            ErrorKind::Missing,
            "knows no queue for what is published",
            "make the queue or its binding",
        ),
        Confirmation::Nack(None) => refused(
            ErrorKind::Unreachable,
            "did not take what was published",
            "the queue may be full, or its node away",
        ),
        Confirmation::NotRequested => {
            refused(ErrorKind::Other, "confirms nothing that is published", "use another broker")
        }
    }
}

/// The shortest and the longest delay of a delay queue, in milliseconds: the broker takes none of 2^32 and more.
const SHORTEST: u64 = 128;
const LONGEST: u64 = 1 << 31;
/// How long an unused delay queue stays after its messages have left it.
const IDLE: Duration = Duration::from_secs(300);

/// What the name of a delay queue has beside that of its queue, at most.
pub(super) const SUFFIX: usize = ".delay.2147483648".len();

/// A delay queue: its messages go on to `queue` after their time. There are few of them, because a queue lets go of its
/// messages in order: one per power of two.
pub(super) struct Delay {
    pub(super) name: String,
    pub(super) ttl_ms: i64,
    pub(super) expires_ms: i64,
}

impl Delay {
    pub(super) fn of(queue: &str, delay: Duration) -> Self {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).clamp(SHORTEST, LONGEST);
        let ttl = i64::try_from(millis.next_power_of_two()).unwrap_or(i64::MAX);
        let idle = i64::try_from(IDLE.as_millis()).unwrap_or(i64::MAX);
        Self {
            name: format!("{queue}.delay.{ttl}"),
            ttl_ms: ttl,
            expires_ms: (2 * ttl).saturating_add(idle).min(i64::from(u32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_powers_of_two_that_the_broker_takes() {
        let of = |delay| Delay::of("in", delay);
        assert_eq!(of(Duration::from_millis(300)).name, "in.delay.512");
        let longest = of(Duration::MAX);
        assert_eq!((longest.ttl_ms, longest.name.len()), (1 << 31, "in".len() + SUFFIX));
        assert!(longest.expires_ms > longest.ttl_ms && longest.expires_ms <= i64::from(u32::MAX));
    }
}
