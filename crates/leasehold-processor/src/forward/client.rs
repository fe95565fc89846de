//! The HTTP client.

use leasehold_core::bytes::{Bytes, BytesMut};
use leasehold_core::error::Chain;
use reqwest::{Certificate, Client, Identity, Proxy, Request, Response};

use super::answer::{Answer, Outcome};
use super::config::ForwardConfig;

pub(super) fn new(config: &ForwardConfig) -> Result<Client, String> {
    let mut builder = Client::builder()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.read_timeout)
        .timeout(config.timeout)
        .redirect(reqwest::redirect::Policy::none())
        // How often something is sent is counted, and up to the policy.
        .retry(reqwest::retry::never())
        .user_agent(concat!("leasehold/", env!("CARGO_PKG_VERSION")));
    builder = match &config.proxy {
        Some(proxy) => {
            let url = proxy.text().map_err(|problem| format!("proxy: {problem}"))?;
            // The error of the client would show it, and a proxy's URL may hold a password.
            builder.proxy(
                Proxy::all(url)
                    .map_err(|_| "proxy is no URL: give for example http://proxy.example:3128".to_owned())?,
            )
        }
        None => builder.no_proxy(),
    };
    if let Some(file) = &config.ca {
        let pem = read("ca", file)?;
        let known =
            Certificate::from_pem_bundle(&pem).map_err(|error| format!("ca {}: {error}", file.display()))?;
        if known.is_empty() {
            return Err(format!("ca {} holds no certificate in PEM", file.display()));
        }
        builder = builder.tls_certs_only(known);
    }
    if let Some(file) = &config.identity {
        let identity = Identity::from_pem(&read("identity", file)?);
        let identity = identity.map_err(|error| {
            format!(
                "identity {}: {error}; it takes a certificate and its key, both in PEM, in one file",
                file.display()
            )
        })?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| format!("the client cannot be made: {error}"))
}

fn read(what: &str, file: &std::path::Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{what} {} cannot be read: {error}", file.display()))
}

/// Sends a request, and reads the answer up to `most` bytes.
pub(super) async fn send(client: &Client, request: Request, most: usize) -> Outcome {
    // Errors of the client name the URL, which may hold what a message has.
    let text = |error: reqwest::Error| Chain(&error.without_url()).to_string();
    match client.execute(request).await {
        Err(error) if error.is_connect() => Outcome::Unreachable(text(error)),
        Err(error) => Outcome::Broken(text(error)),
        Ok(response) => match answer(response, most).await {
            Ok(answer) => Outcome::Answered(answer),
            Err(error) => Outcome::Broken(text(error)),
        },
    }
}

async fn answer(mut response: Response, most: usize) -> Result<Answer, reqwest::Error> {
    let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
    let mut body = BytesMut::new();
    let mut is_cut = false;
    while let Some(chunk) = response.chunk().await? {
        let left = most - body.len();
        if chunk.len() > left {
            body.extend_from_slice(&chunk[..left]);
            // The connection is closed with the rest of it.
            is_cut = true;
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body: Bytes::from(body), is_cut })
}
