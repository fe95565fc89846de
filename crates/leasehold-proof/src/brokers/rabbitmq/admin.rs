//! The management API of RabbitMQ.

use anyhow::Result;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;

/// A virtual host of a round's own.
pub(super) struct Admin {
    api: String,
    vhost: String,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Open {
    name: String,
}

impl Admin {
    pub(super) async fn create(api: &str, vhost: &str, user: &str) -> Result<Self> {
        let api = api.trim_end_matches('/').to_owned();
        let admin = Self { api, vhost: vhost.to_owned(), client: reqwest::Client::new() };
        admin.ask(Method::PUT, &["vhosts", vhost], "{}").await?;
        let rights = r#"{"configure":".*","write":".*","read":".*"}"#;
        admin.ask(Method::PUT, &["permissions", vhost, user], rights).await?;
        Ok(admin)
    }

    async fn ask(&self, method: Method, path: &[&str], body: &'static str) -> Result<Response> {
        let mut url = reqwest::Url::parse(&self.api)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push("api").extend(path);
        }
        let request = self.client.request(method, url).header("content-type", "application/json").body(body);
        let answer = request.send().await?;
        // What is to go has gone already.
        if answer.status() == StatusCode::NOT_FOUND { Ok(answer) } else { Ok(answer.error_for_status()?) }
    }

    /// Closes all connections to the virtual host.
    pub(super) async fn disconnect(&self) -> Result<()> {
        let listed = self.ask(Method::GET, &["vhosts", &self.vhost, "connections"], "").await?;
        for Open { name } in listed.json::<Vec<Open>>().await? {
            self.ask(Method::DELETE, &["connections", &name], "").await?;
        }
        Ok(())
    }

    pub(super) async fn end(&self) -> Result<()> {
        self.ask(Method::DELETE, &["vhosts", &self.vhost], "").await.map(drop)
    }
}
