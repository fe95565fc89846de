//! Forwarding over TLS with an authority of one's own, and through a proxy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::bed;
use super::http::{PATIENCE, node, once, push};
use crate::Forward;
use crate::forward::ForwardConfig;
use crate::outgoing::Outgoing;
use crate::store::MessageStore;
use leasehold_core::secret::Secret;
use leasehold_testkit::cluster::Cluster;

/// An authority, and files with what it signed.
struct Authority {
    files: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { files: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, both in PEM.
    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.files.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn ca(&self) -> PathBuf {
        self.file("ca.pem", &self.pem)
    }

    fn identity(&self) -> PathBuf {
        let (certificate, key) = self.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
        self.file("client.pem", &(certificate + &key))
    }

    /// An endpoint that lets in whoever has a certificate of this authority.
    async fn endpoint(&self) -> (SocketAddr, UnboundedReceiver<String>) {
        let (certificate, key) = self.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let config = ServerConfig::builder().with_client_cert_verifier(clients).with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        );
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (send, got) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await
                    && let Some(request) = serve(stream).await
                {
                    let _ = send.send(request);
                }
            }
        });
        (address, got)
    }
}

/// Answers one request; its head.
async fn serve(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> Option<String> {
    let mut request = vec![0; 4096];
    let read = stream.read(&mut request).await.ok().filter(|read| *read > 0)?;
    request.truncate(read);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.ok()?;
    stream.shutdown().await.ok()?;
    Some(String::from_utf8_lossy(&request).into_owned())
}

fn to(address: SocketAddr, authority: Option<PathBuf>, identity: Option<PathBuf>) -> Forward {
    let mut config = ForwardConfig::new(format!("https://localhost:{}/in", address.port()));
    (config.ca, config.identity) = (authority, identity);
    Forward::from_config(config).unwrap()
}

async fn arrives(forward: Forward, got: &mut UnboundedReceiver<String>) -> String {
    let bed = bed(Cluster::sqlite().await);
    bed.store.append_all(&[Outgoing::text("x")]).await.unwrap();
    let node = node(&bed, "a", push(&bed, forward)).await;
    let request = tokio::time::timeout(PATIENCE, got.recv()).await.expect("in time").unwrap();
    node.shutdown().await;
    assert_eq!(bed.store.depth().await.unwrap().waiting, 0, "acknowledged");
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_and_an_authority_of_ones_own_are_used() {
    let authority = Authority::new();
    let (address, mut got) = authority.endpoint().await;
    let forward = to(address, Some(authority.ca()), Some(authority.identity()));
    assert!(arrives(forward, &mut got).await.starts_with("POST /in HTTP/1.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_trusted_gets_nothing_and_the_reason_says_why() {
    let (ours, strange) = (Authority::new(), Authority::new());
    let (address, mut got) = ours.endpoint().await;
    for authority in [Some(strange.ca()), None] {
        let text = once(to(address, authority, Some(ours.identity()))).await.reason;
        assert!(text.contains("was not reached") && text.contains("certificate"), "{text}");
    }
    // The endpoint turns these away.
    for identity in [None, Some(strange.identity())] {
        let text = once(to(address, Some(ours.ca()), identity)).await.reason;
        assert!(text.contains("gave no answer") || text.contains("was not reached"), "{text}");
    }
    assert!(got.try_recv().is_err(), "no message was sent");
}

#[test]
fn files_that_are_no_certificates_are_refused_at_start() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    let refused = |change: &dyn Fn(&mut ForwardConfig)| {
        let mut config = ForwardConfig::new("https://crm.example/");
        change(&mut config);
        Forward::from_config(config).unwrap_err().to_string()
    };
    let text = refused(&|config| config.ca = Some(authority.file("empty.pem", "nothing\n")));
    assert!(text.contains("empty.pem holds no certificate"), "{text}");
    for half in [&certificate, &key] {
        let text = refused(&|config| config.identity = Some(authority.file("half.pem", half)));
        assert!(text.contains("half.pem") && text.contains("both in PEM"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_asked_with_its_password_and_no_other_place_knows_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send, mut got) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Some(request) = serve(stream).await {
                let _ = send.send(request);
            }
        }
    });
    let mut config = ForwardConfig::new("http://crm.example/in");
    config.proxy = Some(Secret::literal(format!("http://user:hunter2@{address}")));
    let forward = Forward::from_config(config).unwrap();
    assert!(!format!("{forward:?}").contains("hunter2"));
    let request = arrives(forward, &mut got).await.to_lowercase();
    assert!(request.starts_with("post http://crm.example/in http/1.1"), "{request}");
    assert!(request.contains("proxy-authorization: basic dxnlcjpodw50zxiy"), "{request}");
}
