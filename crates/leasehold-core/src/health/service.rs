//! The health of a node over HTTP, for whatever speaks tower: `axum::Router::nest_service("/health", node.health_service())`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::HealthProbe;

/// Answers `…/live` and `…/ready` with 200 or 503, and everything else with 404; the body is [`Health`](super::Health) as JSON.
/// It names artifacts and their last errors: let only those reach it who may read the log.
#[derive(Clone, Debug)]
pub struct HealthService(pub(crate) HealthProbe);

impl<B> Service<Request<B>> for HealthService {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let health = self.0.health();
        let well = match request.uri().path().rsplit('/').next() {
            Some("live") => Some(health.live),
            Some("ready") => Some(health.ready),
            _ => None,
        };
        let (status, body) = match well {
            Some(well) => {
                let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, serde_json::to_string(&health).unwrap_or_default())
            }
            None => (StatusCode::NOT_FOUND, "{\"error\":\"ask for live or ready\"}".to_owned()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        ready(Ok(response))
    }
}
