//! A virtual host of its own, and what a bystander sees of it.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use leasehold_testkit::proxy::FaultProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::PATIENCE;

pub fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} must name a server: see CONTRIBUTING.md, or run scripts/test"))
}

pub struct Broker {
    vhost: String,
    /// For consumers.
    pub url: String,
    channel: Channel,
    _connection: Connection,
}

impl Broker {
    /// A new virtual host with the queue `in`, of this type.
    pub async fn new(queue_type: &str) -> Self {
        let vhost = format!("test-{}", uuid::Uuid::now_v7().simple());
        admin("PUT", &format!("/api/vhosts/{vhost}"), "{}").await;
        let server = variable("LEASEHOLD_TEST_RABBITMQ");
        let user = server.split("://").nth(1).unwrap().split([':', '@']).next().unwrap().to_owned();
        let rights = r#"{"configure":".*","write":".*","read":".*"}"#;
        admin("PUT", &format!("/api/permissions/{vhost}/{user}"), rights).await;
        let (authority, _) = server.split_once("://").unwrap().1.split_once('/').unwrap();
        let url = format!("amqp://{authority}/{vhost}");
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let broker = Self { vhost, url, channel, _connection: connection };
        if !queue_type.is_empty() {
            broker.declare("in", &[("x-queue-type", queue_type)]).await;
        }
        broker
    }

    pub async fn declare(&self, queue: &str, arguments: &[(&str, &str)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            let value = match *value {
                "true" => AMQPValue::Boolean(true),
                text => AMQPValue::LongString(text.into()),
            };
            table.insert((*name).into(), value);
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), options, table).await.unwrap();
    }

    /// A fanout exchange, bound to a queue.
    pub async fn declare_exchange(&self, exchange: &str, queue: &str) {
        let (name, kind, table) = (exchange.into(), lapin::ExchangeKind::Fanout, FieldTable::default());
        self.channel.exchange_declare(name, kind, Default::default(), table.clone()).await.unwrap();
        let bind =
            self.channel.queue_bind(queue.into(), exchange.into(), "".into(), Default::default(), table);
        bind.await.unwrap();
    }

    /// Publishes to the queue `in`.
    pub async fn put(&self, body: &str) {
        self.put_with(body, BasicProperties::default()).await;
    }

    pub async fn publish(&self, exchange: &str, key: &str, body: &str) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let published =
            self.channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties);
        assert!(published.await.unwrap().await.unwrap().is_ack());
    }

    pub async fn put_with(&self, body: &str, properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let published =
            self.channel.basic_publish("".into(), "in".into(), options, body.as_bytes(), properties);
        assert!(published.await.unwrap().await.unwrap().is_ack());
    }

    /// How many messages are ready in a queue, and how many consumers it has.
    pub async fn look(&self, queue: &str) -> (u32, u32) {
        let channel = self._connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
        let counts = (declared.message_count(), declared.consumer_count());
        channel.close(200, "done".into()).await.unwrap();
        counts
    }

    /// Waits until a queue has so many messages ready and so many consumers. The broker tells nobody of that: it is asked.
    pub async fn until(&self, queue: &str, wanted: (u32, u32)) {
        let looking = async {
            while self.look(queue).await != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            panic!("{queue} has (ready, consumers) {:?}, not {wanted:?}", self.look(queue).await);
        }
    }

    /// Takes a message from a queue, when there is one.
    pub async fn take(&self, queue: &str) -> lapin::message::Delivery {
        let taking = async {
            loop {
                let options = BasicGetOptions { no_ack: true };
                if let Some(got) = self.channel.basic_get(queue.into(), options).await.unwrap() {
                    return got.delivery;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taking).await.expect("a message")
    }

    pub async fn delete_queue(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), Default::default()).await.unwrap();
    }

    /// A consumer of somebody else that wants the queue for itself.
    pub async fn stranger(&self, queue: &str) -> (Channel, lapin::Consumer) {
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        self.consume(queue, options).await.unwrap()
    }

    /// A consumer of somebody else.
    pub async fn consume(
        &self,
        queue: &str,
        options: BasicConsumeOptions,
    ) -> lapin::Result<(Channel, lapin::Consumer)> {
        let channel = self._connection.create_channel().await?;
        let consume = channel.basic_consume(queue.into(), "stranger".into(), options, FieldTable::default());
        let consumer = consume.await?;
        Ok((channel, consumer))
    }

    /// The connections of leasehold to this virtual host, by their names on the management page.
    pub async fn connections(&self) -> Vec<String> {
        let listed = admin(
            "GET",
            &format!("/api/vhosts/{}/connections?columns=name,client_properties.connection_name", self.vhost),
            "",
        )
        .await;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        let name =
            |of: &serde_json::Value| of["client_properties"]["connection_name"].as_str().map(str::to_owned);
        listed.iter().filter_map(name).filter(|name| name.starts_with("leasehold")).collect()
    }

    /// Waits until the management page shows so many, which is some seconds late.
    pub async fn until_connections(&self, count: usize) {
        let looking = async {
            while self.connections().await.len() != count {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            panic!("not {count}, but {:?}", self.connections().await);
        }
    }

    /// Consumer tags as the management page shows them, which is some seconds late, when there are any.
    pub async fn tags(&self) -> Vec<String> {
        let looking = async {
            loop {
                match self.tags_now().await {
                    tags if tags.is_empty() => tokio::time::sleep(Duration::from_millis(100)).await,
                    tags => return tags,
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("a consumer")
    }

    async fn tags_now(&self) -> Vec<String> {
        let listed = admin("GET", &format!("/api/consumers/{}", self.vhost), "").await;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        listed.iter().filter_map(|consumer| consumer["consumer_tag"].as_str().map(str::to_owned)).collect()
    }

    /// A proxy in front of the server, and the URL by it.
    pub async fn proxy(&self) -> (FaultProxy, String) {
        let (login, rest) = self.url.split_once('@').unwrap();
        let (server, vhost) = rest.split_once('/').unwrap();
        let server = tokio::net::lookup_host(server).await.unwrap().next().unwrap();
        let proxy = FaultProxy::start(server).await.unwrap();
        let url = format!("{login}@{}/{vhost}", proxy.address());
        (proxy, url)
    }

    pub async fn end(self) {
        admin("DELETE", &format!("/api/vhosts/{}", self.vhost), "").await;
    }
}

/// Asks the management API at LEASEHOLD_TEST_RABBITMQ_ADMIN, `http://user:password@host:port`.
pub async fn admin(method: &str, path: &str, body: &str) -> String {
    let server = variable("LEASEHOLD_TEST_RABBITMQ_ADMIN");
    let (login, host) =
        server.strip_prefix("http://").unwrap().trim_end_matches('/').split_once('@').unwrap();
    let login = base64(login.as_bytes());
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {login}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((200..300).contains(&status) || status == 404, "{method} {path}: {answer}");
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        dechunk(body)
    } else {
        body.to_owned()
    }
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |chunk: &[u8], at: usize| {
        let bits =
            chunk.iter().chain([&0, &0]).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        if at > chunk.len() { '=' } else { char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]) }
    };
    bytes.chunks(3).flat_map(|chunk| (0..4).map(move |at| digit(chunk, at))).collect()
}

/// Unused deliveries of a stranger are dropped with it.
pub async fn drop_all(mut consumer: lapin::Consumer) {
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(1), consumer.next()).await {}
}
