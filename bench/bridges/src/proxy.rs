//! A TCP path that can be cut: its connections end, and new ones end at once until it is mended.

use anyhow::Context;
use device_sim::clock::rest;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    cut: AtomicBool,
    stop: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// Passes connections on to a port of this machine.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens at a free port.
    ///
    /// # Errors
    /// Where there is none.
    pub fn start(to_port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for the proxy")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            to: SocketAddr::from(([127, 0, 0, 1], to_port)),
            cut: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            open: Mutex::new(Vec::new()),
        });
        let inner = shared.clone();
        let thread = std::thread::spawn(move || serve(&listener, &inner));
        Ok(Self {
            port,
            shared,
            thread: Some(thread),
        })
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.end_all();
    }

    /// Mends it.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }

    /// Connections that were passed on so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.end_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn end_all(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((near, _)) if !shared.cut.load(Ordering::SeqCst) => {
                // Where the far end is away, the near one is told so by the end of its connection.
                let _ = pass_on(near, shared);
            }
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => rest(2),
            Err(_) => rest(20),
        }
    }
}

fn pass_on(near: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    near.set_nonblocking(false)?;
    let far = TcpStream::connect(shared.to)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let pairs = [
        (near.try_clone()?, far.try_clone()?),
        (far.try_clone()?, near.try_clone()?),
    ];
    {
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(near);
        open.push(far);
    }
    shared.accepted.fetch_add(1, Ordering::SeqCst);
    // Cut between the question and here: what was opened ends at once.
    if shared.cut.load(Ordering::SeqCst) {
        shared.end_all();
    }
    for (mut from, mut to) in pairs {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Duration;

    #[test]
    fn a_cut_ends_connections_and_a_mended_path_carries_again() {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(far.local_addr().unwrap().port()).unwrap();
        let connect = || {
            let near = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
            near.set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            near
        };
        let mut near = connect();
        let (mut there, _) = far.accept().unwrap();
        near.write_all(b"abc").unwrap();
        let mut seen = [0; 3];
        there.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"abc");
        proxy.cut();
        assert_eq!(near.read(&mut seen).unwrap(), 0, "ended");
        assert!(!matches!(connect().read(&mut seen), Ok(1..)), "cut");
        proxy.mend();
        let mut near = connect();
        let (mut there, _) = far.accept().unwrap();
        there.write_all(b"def").unwrap();
        near.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"def");
        assert_eq!(proxy.accepted(), 2);
    }
}
