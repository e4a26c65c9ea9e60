//! A line between two processes that is as long as an ocean is wide: what goes in comes out a fixed time later.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::soon;

/// Read from one side at a time.
const RUN_LEN: usize = 64 << 10;
/// Runs under way in one direction: 256 MiB, more than a window holds, so that only the distance slows anything down.
const RUNS_MAX: usize = 4096;

/// A TCP port that leads to another one, each way of which takes `one_way`.
#[derive(Debug)]
pub(crate) struct Distance {
    address: SocketAddr,
}

impl Distance {
    /// Listens for as long as the process lives, at `listen`, on a thread that does `before` first.
    ///
    /// # Panics
    /// If no port can be had.
    pub(crate) fn new(
        listen: IpAddr,
        target: SocketAddr,
        one_way: Duration,
        before: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (told, address) = sync_channel(1);
        // Threads that it starts are in its network namespace.
        thread::spawn(move || {
            before();
            let listener = TcpListener::bind((listen, 0)).expect("a port is free");
            told.send(listener.local_addr().expect("it is bound")).expect("the address is waited for");
            for near in listener.incoming().flatten() {
                thread::spawn(move || join(&near, target, one_way));
            }
        });
        Self { address: address.recv().expect("it listens") }
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The handshake of TCP takes a round trip too: who is called hears of it one way later.
fn join(near: &TcpStream, target: SocketAddr, one_way: Duration) {
    soon(one_way);
    let Ok(far) = TcpStream::connect(target) else { return };
    let ends = [near, &far].map(|end| end.set_nodelay(true).and_then(|()| end.try_clone()));
    let [Ok(back), Ok(there)] = ends else { return };
    let (Ok(near), Ok(far)) = (near.try_clone(), far.try_clone()) else { return };
    carry(near, there, one_way);
    carry(far, back, one_way);
}

/// Carries what comes from one end to the other.
fn carry(mut from: TcpStream, to: TcpStream, one_way: Duration) {
    let (runs, queue) = sync_channel(RUNS_MAX);
    thread::spawn(move || deliver(&queue, to));
    thread::spawn(move || {
        loop {
            let mut run = vec![0; RUN_LEN];
            let len = from.read(&mut run).unwrap_or(0);
            run.truncate(len);
            if runs.send((Instant::now() + one_way, run)).is_err() || len == 0 {
                return;
            }
        }
    });
}

fn deliver(queue: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (due, run) in queue {
        soon(due.saturating_duration_since(Instant::now()));
        if run.is_empty() || to.write_all(&run).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write); // the other end may have gone before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_and_no_sooner_than_the_way_takes() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let one_way = Duration::from_millis(30);
        let distance = Distance::new([127, 0, 0, 1].into(), echo.local_addr().unwrap(), one_way, || ());
        thread::spawn(move || {
            let mut end = echo.accept().unwrap().0;
            let mut bytes = [0; 5];
            end.read_exact(&mut bytes).unwrap();
            end.write_all(&bytes).unwrap();
        });
        let mut near = TcpStream::connect(distance.address()).unwrap();
        let began = Instant::now();
        near.write_all(b"hel").unwrap();
        near.write_all(b"lo").unwrap();
        let mut back = Vec::new();
        near.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"hello");
        assert!(began.elapsed() >= 3 * one_way, "the call, the way there and the way back");
    }
}
