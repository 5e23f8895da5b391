//! The seams between certwright and the machine: clock, entropy, network, disk and workers, each a trait with a real
//! and a simulated implementation, so that a whole cluster runs in a deterministic simulation.
//!
//! It refuses ambient authority: outside this crate nobody reads a clock, draws randomness, opens a socket or a file,
//! or starts a thread (clippy.toml enforces it).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub mod clock;
pub mod disk;
pub mod entropy;
pub mod exec;
pub mod net;
pub mod sim;
pub mod tls;

pub use clock::Clock;
pub use disk::Disk;
pub use entropy::Entropy;
pub use exec::Exec;
pub use net::Net;

/// A boxed future, for traits that must be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One of each, handed to constructors.
#[derive(Clone)]
pub struct Seams {
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Listening and connecting.
    pub net: Arc<dyn Net>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Named workers for blocking and CPU-bound work.
    pub exec: Arc<dyn Exec>,
}

impl Seams {
    /// The machine itself: its clocks, randomness, TCP, files and threads.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(clock::SystemClock::new()),
            entropy: Arc::new(entropy::SystemEntropy),
            net: Arc::new(net::TcpNet),
            disk: Arc::new(disk::OsDisk),
            exec: Arc::new(exec::ThreadExec::new()),
        }
    }
}
