//! The embedded broker, behind a small trait, so that any other MQTT 5 broker takes its place.
//!
//! Memory only: nothing of the promise rests on a broker. Bound to loopback unless told otherwise,
//! and then nobody is let in without a password.

use mqtt5::broker::config::{
    AuthConfig, BrokerConfig, RateLimitConfig, StorageBackend, StorageConfig,
};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use protocol::topics::PAYLOAD_MAX;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A broker that runs in this program.
pub trait EmbeddedBroker: Send + Sync {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// Stops it; returns when its connections are closed.
    fn stop(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not on this machine alone, and anybody could come in.
    #[error("{0} can be reached from other machines: give --password-file, or listen on 127.0.0.1")]
    Open(SocketAddr),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What was said.
        why: String,
    },
}

struct Mqtt5 {
    address: SocketAddr,
    shutdown: BrokerShutdownHandle,
    task: JoinHandle<()>,
}

impl EmbeddedBroker for Mqtt5 {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn stop(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            self.shutdown.shutdown();
            let abort = self.task.abort_handle();
            if tokio::time::timeout(Duration::from_secs(2), self.task)
                .await
                .is_err()
            {
                abort.abort();
            }
        })
    }
}

/// A broker on its way.
pub type Starting = Pin<Box<dyn Future<Output = Result<Box<dyn EmbeddedBroker>, Error>> + Send>>;

/// Starts the broker; port 0 takes a free one.
///
/// Behind a pointer: who waits for a plain `async fn` compiles it, and with it the whole broker again.
///
/// # Errors
/// Where it would be open to other machines without a password, or cannot listen.
pub fn start(address: SocketAddr, password_file: Option<PathBuf>) -> Starting {
    Box::pin(begin(address, password_file))
}

async fn begin(
    address: SocketAddr,
    password_file: Option<PathBuf>,
) -> Result<Box<dyn EmbeddedBroker>, Error> {
    if !address.ip().is_loopback() && password_file.is_none() {
        return Err(Error::Open(address));
    }
    let failed = |why: String| Error::Listen { address, why };
    let mut auth = AuthConfig::new().with_allow_anonymous(password_file.is_none());
    if let Some(file) = password_file {
        auth = auth.with_password_file(file);
    }
    // A ward behind one address must not lock itself out.
    auth.rate_limit = RateLimitConfig {
        max_attempts: 100,
        ..RateLimitConfig::default()
    };
    let storage = StorageConfig::new()
        .with_backend(StorageBackend::Memory)
        .with_persistence(false);
    let config = BrokerConfig::new()
        .with_bind_address(address)
        .with_auth(auth)
        .with_storage(storage)
        .with_max_packet_size(PAYLOAD_MAX)
        .with_max_retained_messages(100_000)
        .with_max_clients(2_000)
        .with_session_expiry(Duration::from_hours(1))
        .with_sys_topics_enabled(false);
    let mut broker = MqttBroker::with_config(config)
        .await
        .map_err(|e| failed(e.to_string()))?;
    let address = broker
        .local_addr()
        .ok_or_else(|| failed("no address".into()))?;
    let shutdown = broker.shutdown_handle();
    let mut ready = broker.ready_receiver();
    let task = tokio::spawn(async move {
        if let Err(e) = broker.run().await {
            crate::say!("thecal broker: {e}");
        }
    });
    if !*ready.borrow() {
        ready
            .changed()
            .await
            .map_err(|_| failed("stopped at once".into()))?;
    }
    Ok(Box::new(Mqtt5 {
        address,
        shutdown,
        task,
    }))
}
