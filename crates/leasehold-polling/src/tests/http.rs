//! Endpoints of URLs, on a server of the test's own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::get;
use leasehold_core::secret::Secret;
use leasehold_testkit::cluster::Cluster;
use tokio::sync::mpsc::unbounded_channel;

use super::{SOON, condition, impaired, next, start, teller, until};
use crate::conformance::{Bed, Polled, Probe};
use crate::http::{Auth, Pages};
use crate::{Endpoint, Http};

type Answerer = Arc<dyn Fn(&HeaderMap, &[(String, String)]) -> Response<Body> + Send + Sync>;

/// A server that answers by a function.
async fn serve(
    answer: impl Fn(&HeaderMap, &[(String, String)]) -> Response<Body> + Send + Sync + 'static,
) -> SocketAddr {
    async fn answered(
        State(answer): State<Answerer>,
        Query(query): Query<Vec<(String, String)>>,
        headers: HeaderMap,
    ) -> Response<Body> {
        answer(&headers, &query)
    }
    let answer: Answerer = Arc::new(answer);
    let app = Router::new().route("/", get(answered)).with_state(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn body(text: impl Into<String>) -> Response<Body> {
    Response::new(Body::from(text.into()))
}

fn status(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn asked(query: &[(String, String)], name: &str) -> usize {
    query.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| value.parse().unwrap())
}

/// A feed of pages that a cursor leads through.
struct Feed {
    texts: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
}

impl Feed {
    async fn new() -> Self {
        let texts: Arc<Mutex<Vec<String>>> = Arc::default();
        let feed = Arc::clone(&texts);
        let address = serve(move |_, query| {
            const PAGE: usize = 9;
            let (after, texts) = (asked(query, "after"), feed.lock().unwrap());
            let end = texts.len().min(after + PAGE);
            let items: Vec<_> =
                (after..end).map(|n| serde_json::json!({ "n": n, "text": texts[n] })).collect();
            body(serde_json::json!({ "data": items, "next": end }).to_string())
        });
        Self { texts, address: address.await }
    }
}

#[async_trait]
impl Polled for Feed {
    fn endpoint(&self, probe: Probe) -> Endpoint {
        let http = Http::get("feed", format!("http://{}/?kind=new", self.address)).unwrap();
        let pages = Pages::Cursor { parameter: "after".to_owned(), pointer: "/next".to_owned() };
        http.items("/data").id("/n").pages(pages).handler(probe).unwrap()
    }

    async fn put(&self, texts: Vec<String>) {
        self.texts.lock().unwrap().extend(texts);
    }
}

async fn bed() -> Bed<Feed> {
    let cluster = Cluster::sqlite().await;
    let (database, name) = (cluster.url.clone(), cluster.name.clone());
    Bed { polled: Feed::new().await, database, cluster: name, keep: Some(Box::new(cluster)) }
}

crate::poller_conformance!(bed());

fn http(address: SocketAddr) -> Http {
    Http::get("feed", format!("http://{address}/")).unwrap().every(SOON)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_sent_again_also_not_to_the_next_holder() {
    let cluster = Cluster::sqlite().await;
    let (version, asked) = (Arc::new(Mutex::new(1)), Arc::new(Mutex::new(Vec::new())));
    let (current, log) = (Arc::clone(&version), Arc::clone(&asked));
    let address = serve(move |headers, _| {
        let tag = format!("\"{}\"", current.lock().unwrap());
        let known = headers.get(header::IF_NONE_MATCH).map(|value| value.to_str().unwrap().to_owned());
        let since = headers.get(header::IF_MODIFIED_SINCE).map(|value| value.to_str().unwrap().to_owned());
        log.lock().unwrap().push((known.clone(), since));
        if known.as_ref() == Some(&tag) {
            return status(StatusCode::NOT_MODIFIED);
        }
        let mut answer = body(format!("version {tag}"));
        answer.headers_mut().insert(header::ETAG, tag.parse().unwrap());
        answer.headers_mut().insert(header::LAST_MODIFIED, "Sun, 09 Sep 2001 01:46:40 GMT".parse().unwrap());
        answer
    });
    let address = address.await;
    let (tell, mut told) = unbounded_channel();
    let endpoint = || http(address).lag(Duration::ZERO).handler(teller(tell.clone())).unwrap();
    let node = start(&cluster, "a", endpoint()).await;
    assert_eq!(next(&mut told).await.0, "version \"1\"");
    until("it asks again", async || asked.lock().unwrap().len() > 3).await;
    node.shutdown().await;
    let before = asked.lock().unwrap().len();
    let node = start(&cluster, "b", endpoint()).await;
    until("the next one asks", async || asked.lock().unwrap().len() > before).await;
    let since = Some("Sun, 09 Sep 2001 01:46:40 GMT".to_owned());
    assert_eq!(asked.lock().unwrap()[before], (Some("\"1\"".to_owned()), since));
    *version.lock().unwrap() = 2;
    assert_eq!(next(&mut told).await.0, "version \"2\"");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_through_pages_and_the_secret_goes_along() {
    let cluster = Cluster::sqlite().await;
    let address = serve(|headers, query| {
        if headers.get(header::AUTHORIZATION).is_none_or(|value| value != "Bearer hunter2") {
            return status(StatusCode::UNAUTHORIZED);
        }
        let page = asked(query, "page");
        let mut answer = body(format!("[{{\"id\":{page},\"amount\":1.10}}]"));
        if page < 2 {
            answer
                .headers_mut()
                .insert(header::LINK, format!("</?page={}>; rel=\"next\"", page + 1).parse().unwrap());
        } else {
            answer.headers_mut().insert(header::ETAG, "\"end\"".parse().unwrap());
        }
        answer
    });
    let address = address.await;
    let (tell, mut told) = unbounded_channel();
    let links = || http(address).items("").pages(Pages::Link).every(Duration::from_secs(3600));
    let auth = Auth::Bearer(Secret::literal("hunter2"));
    let node = start(&cluster, "a", links().auth(auth).handler(teller(tell.clone())).unwrap()).await;
    for page in 0..3 {
        assert_eq!(
            next(&mut told).await.0,
            format!("{{\"id\":{page},\"amount\":1.10}}"),
            "exactly as it is written"
        );
    }
    node.shutdown().await;
    let node = start(&cluster, "b", links().handler(teller(tell)).unwrap()).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    assert!(impaired(&shown).contains("401 Unauthorized; look at auth"), "{shown:?}");
    node.shutdown().await;
}

/// Polls once, and tells what is shown.
async fn shown(
    configure: impl Fn(Http) -> Http,
    answer: impl Fn(&HeaderMap, &[(String, String)]) -> Response<Body> + Send + Sync + 'static,
) -> String {
    let cluster = Cluster::sqlite().await;
    let address = serve(answer).await;
    let endpoint = configure(http(address)).handler(teller(unbounded_channel().0)).unwrap();
    let node = start(&cluster, "a", endpoint).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    node.shutdown().await;
    impaired(&shown).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_not_like_is_told_with_the_remedy() {
    let same = |http| http;
    let text = shown(same, |_, _| status(StatusCode::FOUND)).await;
    assert!(text.contains("redirects are not followed"), "{text}");
    let text = shown(|http| http.max_bytes(10), |_, _| body("x".repeat(100_000))).await;
    assert!(text.contains("more than max-bytes 10"), "{text}");
    let text = shown(|http| http.items("/orders"), |_, _| body("{\"orders\":{\"secret\":1}}")).await;
    assert!(text.contains("no array at items \"/orders\"") && !text.contains("secret"), "{text}");
    let text = shown(|http| http.items(""), |_, _| body("<html>")).await;
    assert!(text.contains("is no JSON"), "{text}");
    let abroad = |_: &HeaderMap, _: &[(String, String)]| {
        let mut answer = body("[]");
        answer.headers_mut().insert(header::LINK, "<http://elsewhere.example/>; rel=next".parse().unwrap());
        answer
    };
    let text = shown(|http| http.items("").pages(Pages::Link), abroad).await;
    assert!(text.contains("another host"), "{text}");
    let slow = |http: Http| {
        http.timeouts(Duration::from_secs(1), Duration::from_millis(100), Duration::from_secs(5))
    };
    let hanging = |_: &HeaderMap, _: &[(String, String)]| {
        let never = futures_util::stream::pending::<Result<leasehold_core::bytes::Bytes, std::io::Error>>();
        Response::new(Body::from_stream(never))
    };
    let text = shown(slow, hanging).await;
    assert!(text.contains("timed out"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_as_long_as_it_is_asked_to() {
    let cluster = Cluster::sqlite().await;
    let times = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&times);
    let address = serve(move |_, _| {
        *counted.lock().unwrap() += 1;
        let mut busy = status(StatusCode::SERVICE_UNAVAILABLE);
        busy.headers_mut().insert(header::RETRY_AFTER, "3000".parse().unwrap());
        busy
    });
    let endpoint = http(address.await).handler(teller(unbounded_channel().0)).unwrap();
    let node = start(&cluster, "a", endpoint).await;
    condition(&node, |shown| impaired(shown).contains("503")).await;
    tokio::time::sleep(SOON * 10).await;
    assert_eq!(*times.lock().unwrap(), 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_as_utf_8() {
    let cluster = Cluster::sqlite().await;
    let address = serve(|_, _| {
        let mut answer = Response::new(Body::from(&b"gr\xfc\xdfe"[..]));
        answer.headers_mut().insert(header::CONTENT_TYPE, "text/csv; charset=iso-8859-1".parse().unwrap());
        answer
    });
    let (tell, mut told) = unbounded_channel();
    let node = start(&cluster, "a", http(address.await).handler(teller(tell)).unwrap()).await;
    assert_eq!(next(&mut told).await.0, "grüße");
    node.shutdown().await;
}
