//! What a node exports to whoever watches it, asked over HTTP as Prometheus does and read by a parser that others wrote.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use nom_openmetrics::parser::openmetrics;

use crate::Clinic;

/// What an address answered.
#[derive(Debug)]
pub struct Scrape {
    /// The status.
    pub status: u16,
    /// The media type; empty: none.
    pub content_type: String,
    /// The text.
    pub body: String,
}

/// The metrics of a node at one moment.
#[derive(Debug)]
pub struct Page {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    /// Names and values.
    labels: Vec<(String, String)>,
    value: f64,
}

/// Asks for a path, with a token if there is one.
///
/// # Panics
/// If nobody answers.
pub fn scrape(address: SocketAddr, path: &str, token: Option<&str>) -> Scrape {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("the node listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, address.to_string());
        let request = match token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).expect("a request")).await;
        let answer = answer.expect("it answers");
        let status = answer.status().as_u16();
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let content_type = content_type.to_owned();
        let body = answer.into_body().collect().await.expect("the whole answer").to_bytes();
        Scrape { status, content_type, body: String::from_utf8_lossy(&body).into_owned() }
    })
}

impl Page {
    /// Reads OpenMetrics text.
    ///
    /// # Panics
    /// If it is not.
    pub fn read(text: &str) -> Self {
        let (rest, families) = openmetrics(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(rest, "", "nothing comes after the end");
        let samples = families.iter().flat_map(|family| &family.samples).map(|sample| {
            let labels = sample.labels().iter().map(|it| (it.name.to_owned(), it.value.clone())).collect();
            Sample { name: sample.name().to_owned(), labels, value: sample.number() }
        });
        Self { samples: samples.collect() }
    }

    /// The sum of the samples of this name that have these labels, others besides; none if there is no such sample.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |given: &Sample| {
            labels
                .iter()
                .all(|(key, value)| given.labels.iter().any(|(k, v)| (k.as_str(), v.as_str()) == (*key, *value)))
        };
        let mut found = self.samples.iter().filter(|sample| sample.name == name && has(sample)).peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }

    /// The same, of one that is there.
    ///
    /// # Panics
    /// If it is not.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in {self:?}"))
    }
}

impl Clinic {
    /// The metrics of its node now.
    ///
    /// # Panics
    /// If it exports none.
    pub fn metrics(&self) -> Page {
        let token = std::fs::read_to_string(self.home.join("metrics.token")).expect("a token was made");
        let answer = scrape(self.metrics_address(), "/metrics", Some(token.trim()));
        assert_eq!(answer.status, 200, "{answer:?}");
        Page::read(&answer.body)
    }
}
