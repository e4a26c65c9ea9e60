//! The floor: the same bytes over one TLS 1.3 connection with AES-256-GCM, from a file to a file, and nothing else.
//!
//! Both ends are this program, with commands that only it calls.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{Serving, Source, Tool, the_file};
use crate::corpus::Corpus;

/// Bytes read, sent and written at a time.
const TURN_LEN: usize = 256 << 10;
/// The name in the certificate.
const NAME: &str = "floor";

/// The floor.
pub(crate) struct Floor;

struct Ready {
    process: Serving,
    address: String,
    certificate: PathBuf,
}

impl Tool for Floor {
    fn name(&self) -> &'static str {
        "TLS 1.3 floor"
    }

    fn version(&self) -> Option<String> {
        Some("rustls, AES-256-GCM, blocking sockets".into())
    }

    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>> {
        let certificate = folder.join("certificate");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("tls-send").arg(the_file(corpus)?).arg(&certificate).stdout(Stdio::piped());
        let mut process = Serving(command.spawn()?);
        let mut address = String::new();
        BufReader::new(process.0.stdout.take().expect("it is piped")).read_line(&mut address)?;
        Ok(Box::new(Ready { process, address: address.trim().to_owned(), certificate }))
    }
}

impl Source for Ready {
    fn processes(&self) -> Vec<u32> {
        vec![self.process.0.id()]
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("tls-receive").arg(&self.address).arg(&self.certificate).arg(into.join("file"));
        Ok(command)
    }
}

/// Sends a file to whoever connects, again and again; prints where.
pub(crate) fn send(file: &Path, certificate: &Path) -> Result<()> {
    let own = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    fs::write(certificate, own.cert.der())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key_pair.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for socket in listener.incoming() {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone())?, socket?);
        pass(&mut File::open(file)?, &mut stream)?;
        stream.conn.send_close_notify();
        stream.flush()?;
    }
    Ok(())
}

/// Receives it into a file that is on the disk afterwards.
pub(crate) fn receive(address: &str, certificate: &Path, file: &Path) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(fs::read(certificate)?))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(address).with_context(|| address.to_owned())?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME)?)?;
    let mut file = File::create(file)?;
    pass(&mut StreamOwned::new(connection, socket), &mut file)?;
    Ok(file.sync_all()?)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![TLS13_AES_256_GCM_SHA384];
    Arc::new(provider)
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> Result<()> {
    let mut turn = vec![0; TURN_LEN];
    loop {
        match from.read(&mut turn)? {
            0 => return Ok(to.flush()?),
            len => to.write_all(&turn[..len])?,
        }
    }
}
