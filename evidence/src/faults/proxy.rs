//! A network between gateway and broker that can be parted: both ends live, and nothing passes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A TCP relay on a loopback port.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    parted: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    /// Relays to `to`, which need not be there yet.
    pub(super) fn start(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (parted, stop) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (p, s) = (parted.clone(), stop.clone());
        std::thread::spawn(move || {
            for from in listener.incoming() {
                if s.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(from) = from else { continue };
                if p.load(Ordering::Relaxed) {
                    // A parted network answers nobody: the connection stands and stays silent.
                    hold(from, p.clone(), s.clone());
                } else if let Ok(to) = TcpStream::connect(to) {
                    join(&from, &to, &p, &s);
                }
            }
        });
        Ok(Self {
            address,
            parted,
            stop,
        })
    }

    pub(super) fn part(&self, parted: bool) {
        self.parted.store(parted, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn hold(stream: TcpStream, parted: Arc<AtomicBool>, stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        while parted.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(stream);
    });
}

fn join(one: &TcpStream, two: &TcpStream, parted: &Arc<AtomicBool>, stop: &Arc<AtomicBool>) {
    let ends = [
        (one.try_clone(), two.try_clone()),
        (two.try_clone(), one.try_clone()),
    ];
    for (from, to) in ends {
        let (Ok(from), Ok(to)) = (from, to) else {
            return;
        };
        let (parted, stop) = (parted.clone(), stop.clone());
        std::thread::spawn(move || carry(from, to, &parted, &stop));
    }
}

/// Carries bytes one way until either end closes. While parted, bytes wait on both sides.
fn carry(mut from: TcpStream, mut to: TcpStream, parted: &AtomicBool, stop: &AtomicBool) {
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let _ = to.set_nodelay(true);
    let mut buffer = [0; 16 * 1024];
    loop {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if parted.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                if to.write_all(buffer.get(..n).unwrap_or(&[])).is_err() {
                    break;
                }
            }
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
