//! What a broker says of a group.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{ANSWER, PARTITIONS};

/// `ConsumerGroupDescribe`, of KIP-848, in its first version.
const DESCRIBE: i16 = 69;
/// The coordinator of a group is to be found first, by a new connection.
const FOUND: Duration = Duration::from_secs(10);
/// A length that takes one byte; the protocol adds one to each.
const SHORT: usize = 0x7e;
/// That no number of the protocol has more bytes than.
const VARINT: u32 = 5;

/// A group, as far as it is of interest.
pub(super) struct Group {
    pub(super) members: usize,
    pub(super) state: String,
}

/// One of the classic protocol. Blocks.
pub(super) fn classic(broker: &str, group: &str) -> Result<Group> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", broker).create()?;
    let list = consumer.fetch_group_list(Some(group), ANSWER)?;
    let known = list.groups().iter().find(|known| known.name() == group);
    let known = known.ok_or_else(|| anyhow!("no group {group}"))?;
    Ok(Group { members: known.members().len(), state: known.state().to_owned() })
}

/// One of the protocol of KIP-848. The client can ask about the other ones only.
pub(super) async fn new_protocol(broker: &str, group: &str) -> Result<Group> {
    let asking = async {
        let mut stream = BufReader::new(TcpStream::connect(broker).await?);
        stream.write_all(&question(group)?).await?;
        answer(&mut stream).await
    };
    tokio::time::timeout(ANSWER, asking).await?
}

fn question(group: &str) -> Result<Vec<u8>> {
    ensure!(group.len() <= SHORT, "the group's name is too long to be asked for");
    let mut asked = Vec::new();
    asked.extend(DESCRIBE.to_be_bytes());
    // The version, and a number that the answer has, too.
    asked.extend([0; 6]);
    // No name of the client, and no further fields.
    asked.extend([0xff, 0xff, 0]);
    // One group.
    asked.extend([2, u8::try_from(group.len() + 1)?]);
    asked.extend(group.as_bytes());
    // Nothing about rights, and no further fields.
    asked.extend([0, 0]);
    let length = i32::try_from(asked.len())?;
    Ok([length.to_be_bytes().as_slice(), &asked].concat())
}

/// Up to the number of members: nobody needs what follows.
async fn answer(from: &mut (impl AsyncRead + Unpin)) -> Result<Group> {
    // Its length, the number of the question, further fields of the header, and for how long the broker wants to be left alone.
    from.read_i64().await?;
    ensure!(varint(from).await? == 0, "the answer has fields that were not asked for");
    from.read_i32().await?;
    ensure!(varint(from).await? == 2, "the answer is about another number of groups");
    let (error, said) = (from.read_i16().await?, text(from).await?);
    ensure!(error == 0, "error {error}: {said}");
    text(from).await?;
    let state = text(from).await?;
    // The epochs of the group and of its assignment.
    from.read_i64().await?;
    text(from).await?;
    let members = varint(from).await?.checked_sub(1).context("no list of members")?;
    Ok(Group { members, state })
}

async fn varint(from: &mut (impl AsyncRead + Unpin)) -> Result<usize> {
    let mut value = 0;
    for at in 0..VARINT {
        let byte = from.read_u8().await?;
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(anyhow!("a number without an end"))
}

/// Empty where there is none.
async fn text(from: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let mut bytes = vec![0; varint(from).await?.saturating_sub(1)];
    from.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes)?)
}

/// With which offsets the group's next consumer would begin in these partitions; 0 where nothing is known. Blocks.
pub(super) fn committed(broker: &str, group: &str, topic: &str) -> Result<Vec<u64>> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", broker).set("group.id", group);
    let consumer: BaseConsumer = settings.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, i32::from(PARTITIONS) - 1);
    // Dropped before its consumer: otherwise that would hang.
    let known = consumer.committed_offsets(list, FOUND)?;
    let offset = |partition| match known.find_partition(topic, partition).map(|known| known.offset()) {
        Some(Offset::Offset(offset)) => offset.unsigned_abs(),
        _ => 0,
    };
    Ok((0..PARTITIONS.into()).map(offset).collect())
}

/// For so long the broker takes a member of KIP-848 for alive that it hears nothing of.
pub(super) async fn session(admin: &AdminClient<DefaultClientContext>) -> Result<Duration> {
    const NAME: &str = "group.consumer.session.timeout.ms";
    let metadata = tokio::task::block_in_place(|| admin.inner().fetch_metadata(None, FOUND))?;
    let broker = metadata.brokers().first().context("no broker")?.id();
    let told = admin.describe_configs([&ResourceSpecifier::Broker(broker)], &AdminOptions::new()).await?;
    let config = told.into_iter().next().context("no configuration")?.map_err(|code| anyhow!("{code}"))?;
    let value = config.get(NAME).and_then(|entry| entry.value.clone()).with_context(|| NAME.to_owned())?;
    Ok(Duration::from_millis(value.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with these fields of a group.
    fn told(error: i16, state: &str, members: u8) -> Vec<u8> {
        let mut told = vec![0; 4 + 4 + 1 + 4];
        told.push(2);
        told.extend(error.to_be_bytes());
        for text in ["", "group", state] {
            told.push(u8::try_from(text.len() + 1).unwrap());
            told.extend(text.as_bytes());
        }
        told.extend([0; 8]);
        told.extend(b"\x08uniform");
        told.push(members + 1);
        told
    }

    #[tokio::test]
    async fn the_members_of_a_group_are_counted() {
        let group = answer(&mut told(0, "Stable", 1).as_slice()).await.unwrap();
        assert_eq!((group.members, group.state.as_str()), (1, "Stable"));
        assert!(answer(&mut told(69, "Dead", 0).as_slice()).await.is_err());
        let cut = &told(0, "Stable", 1)[..20];
        assert!(answer(&mut &*cut).await.is_err());
    }

    #[test]
    fn a_question_tells_its_length() {
        let asked = question("billing").unwrap();
        assert_eq!(asked[..6], [0, 0, 0, 22, 0, 69]);
        assert_eq!(asked.len(), 26);
        assert!(question(&"x".repeat(200)).is_err());
    }
}
