//! How fast frames of 256 KiB cross one connection over loopback, beside what one could reach without this crate.
//!
//! `cargo run --release -p bithealth-net --example pump [MiB]`: five rounds, each with all rows in turn, so that other
//! load on the machine meets all of them; medians in MB/s, and the ratio to a bare libp2p-stream pump over TLS.

use std::time::{Duration, Instant};

use bithealth_net::{Config, Event, Protocol};
use bithealth_proto::v1;
use bithealth_types::GenesisId;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, tls, yamux};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ROUNDS: usize = 5;
const FRAME_LEN: usize = 256 << 10;
const PUMP: StreamProtocol = StreamProtocol::new("/bithealth/pump/1");

type Rate = Result<f64, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Clone, Copy)]
enum Row {
    RawTcp,
    BareNoise,
    BareTls,
    BareQuic,
    FramedTcp,
    FramedQuic,
}

impl Row {
    const ALL: [(Self, &'static str); 6] = [
        (Self::RawTcp, "raw tokio TCP"),
        (Self::BareNoise, "libp2p-stream, TCP + noise + yamux as it comes"),
        (Self::BareTls, "libp2p-stream, TCP + TLS 1.3 + yamux as it comes"),
        (Self::BareQuic, "libp2p-stream, QUIC as it comes"),
        (Self::FramedTcp, "this crate, framed messages, TCP"),
        (Self::FramedQuic, "this crate, framed messages, QUIC"),
    ];

    async fn run(self, frames: usize) -> Rate {
        match self {
            Self::RawTcp => raw(frames).await,
            Self::BareNoise | Self::BareTls | Self::BareQuic => bare(self, frames).await,
            Self::FramedTcp => framed("/ip4/127.0.0.1/tcp/0", frames).await,
            Self::FramedQuic => framed("/ip4/127.0.0.1/udp/0/quic-v1", frames).await,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(256), |text| text.parse())?;
    let frames = (mib << 20) / FRAME_LEN;
    let mut rates = vec![Vec::new(); Row::ALL.len()];
    for _ in 0..ROUNDS {
        for ((row, _), rates) in Row::ALL.into_iter().zip(&mut rates) {
            rates.push(row.run(frames).await?);
        }
    }
    let median = |rates: &Vec<f64>| {
        let mut sorted = rates.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let bare = median(&rates[2]);
    println!("{mib} MiB in frames of 256 KiB, median of {ROUNDS}");
    for ((_, name), rates) in Row::ALL.into_iter().zip(&rates) {
        let rate = median(rates);
        let all: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("{name:50} {rate:6.0} MB/s  {:4.2}  [{}]", rate / bare, all.join(" "));
    }
    Ok(())
}

fn rate(frames: usize, took: Duration) -> f64 {
    (frames * FRAME_LEN) as f64 / took.as_secs_f64() / 1e6
}

async fn raw(frames: usize) -> Rate {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let sending = tokio::spawn(async move {
        let mut socket = tokio::net::TcpStream::connect(address).await?;
        let frame = vec![7; FRAME_LEN];
        for _ in 0..frames {
            socket.write_u32(FRAME_LEN as u32).await?;
            socket.write_all(&frame).await?;
        }
        socket.shutdown().await
    });
    let (mut socket, _) = listener.accept().await?;
    let mut frame = vec![0; FRAME_LEN];
    let began = Instant::now();
    for _ in 0..frames {
        socket.read_u32().await?;
        socket.read_exact(&mut frame).await?;
    }
    let took = began.elapsed();
    sending.await??;
    Ok(rate(frames, took))
}

fn bare_swarm(row: Row) -> Result<Swarm<libp2p_stream::Behaviour>, Box<dyn std::error::Error + Send + Sync>> {
    let tokio = SwarmBuilder::with_new_identity().with_tokio();
    let behaviour = |_: &_| libp2p_stream::Behaviour::new();
    let idle = |config: libp2p::swarm::Config| config.with_idle_connection_timeout(Duration::from_secs(60));
    Ok(match row {
        Row::BareNoise => tokio
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
            .with_behaviour(behaviour)?
            .with_swarm_config(idle)
            .build(),
        Row::BareQuic => tokio.with_quic().with_behaviour(behaviour)?.with_swarm_config(idle).build(),
        _ => tokio
            .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)?
            .with_behaviour(behaviour)?
            .with_swarm_config(idle)
            .build(),
    })
}

async fn bare(row: Row, frames: usize) -> Rate {
    let (mut receiver, mut sender) = (bare_swarm(row)?, bare_swarm(row)?);
    let listen = match row {
        Row::BareQuic => "/ip4/127.0.0.1/udp/0/quic-v1",
        _ => "/ip4/127.0.0.1/tcp/0",
    };
    receiver.listen_on(listen.parse()?)?;
    let address: Multiaddr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = receiver.select_next_some().await {
            break address;
        }
    };
    let to = *receiver.local_peer_id();
    let mut streams = receiver.behaviour().new_control().accept(PUMP)?;
    let mut control = sender.behaviour().new_control();
    sender.dial(address)?;
    let receiving = tokio::spawn(async move { while receiver.next().await.is_some() {} });
    loop {
        if let SwarmEvent::ConnectionEstablished { .. } = sender.select_next_some().await {
            break;
        }
    }
    let polling = tokio::spawn(async move { while sender.next().await.is_some() {} });
    let sending = tokio::spawn(async move {
        let mut stream = control.open_stream(to, PUMP).await.map_err(std::io::Error::other)?;
        let frame = vec![7; FRAME_LEN];
        for _ in 0..frames {
            stream.write_all(&(FRAME_LEN as u32).to_be_bytes()).await?;
            stream.write_all(&frame).await?;
        }
        stream.close().await
    });
    let (_, mut stream) = streams.next().await.ok_or("no stream")?;
    let mut frame = vec![0; FRAME_LEN];
    let began = Instant::now();
    for _ in 0..frames {
        stream.read_exact(&mut frame[..4]).await?;
        stream.read_exact(&mut frame).await?;
    }
    let took = began.elapsed();
    sending.await??;
    receiving.abort();
    polling.abort();
    Ok(rate(frames, took))
}

async fn framed(listen: &str, frames: usize) -> Rate {
    let config = Config { listen: vec![listen.into()], ..Config::default() };
    let (receiver, mut events) = bithealth_net::start([1; 32], GenesisId([7; 32]), config.clone()).await?;
    let (sender, _events) = bithealth_net::start([2; 32], GenesisId([7; 32]), config).await?;
    receiver.admit(sender.node_id()).await?;
    sender.admit(receiver.node_id()).await?;
    sender.dial(receiver.listen_addresses()).await?;
    let (to, from) = (receiver.node_id(), sender.clone());
    let sending = tokio::spawn(async move {
        let mut stream = from.open(to, Protocol::Exchange).await.map_err(std::io::Error::other)?;
        let data = bytes::Bytes::from(vec![7; FRAME_LEN]);
        for id in 0..frames as u64 {
            let leaves = v1::Leaves { id, data: data.clone(), proof: Vec::new() };
            let tell = v1::ExchangeTell { tell: Some(v1::exchange_tell::Tell::Leaves(leaves)) };
            stream.send(&tell).await.map_err(std::io::Error::other)?;
        }
        stream.close().await.map_err(std::io::Error::other)
    });
    let mut stream = loop {
        if let Event::Stream { stream, .. } = events.next().await.ok_or("stopped")? {
            break stream;
        }
    };
    let began = Instant::now();
    for _ in 0..frames {
        stream.recv::<v1::ExchangeTell>().await?.ok_or("ended early")?;
    }
    let took = began.elapsed();
    sending.await??;
    sender.stop().await;
    receiver.stop().await;
    Ok(rate(frames, took))
}
