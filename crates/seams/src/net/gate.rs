//! The gate of a port: how many connections may be at their handshake at once, in all and from one address.
//!
//! It refuses to let one address take every place: where they are scarce, what is over its share is closed unread, at
//! once, so that the others still get in. What is over all places waits in the kernel's queue, which is bounded too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{BoxStream, Listener, Place, Places};

/// After an error of `accept`, most likely a shortage of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Places for connections that have not proved yet who they are.
pub struct Gate {
    room: Arc<Semaphore>,
    places: Places,
    /// Told of every connection that is closed because its address has had its share.
    refused: Box<dyn Fn() + Send + Sync>,
}

impl Gate {
    /// A gate with that many places; see [`Places`] for the share of one address.
    pub fn new(places: usize, share: usize, refused: impl Fn() + Send + Sync + 'static) -> Self {
        let room = Arc::new(Semaphore::new(places));
        Self { room, places: Places::new(places, share), refused: Box::new(refused) }
    }

    /// The next connection that has a place. Room first, then a connection: what does not fit waits in the kernel.
    pub async fn next(&self, listener: &mut dyn Listener) -> (Place, BoxStream, SocketAddr) {
        loop {
            let permit = Arc::clone(&self.room).acquire_owned().await.expect("nobody closes the semaphore");
            match listener.accept().await {
                Ok((stream, address)) => match self.places.take(address.ip()) {
                    Some(mut place) => {
                        place.permit = Some(permit);
                        return (place, stream, address);
                    }
                    None => {
                        tracing::debug!(%address, "an address has its share of handshakes");
                        (self.refused)();
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    use super::*;
    use crate::BoxFuture;

    /// Connections from these addresses, then none.
    struct Queue(VecDeque<(BoxStream, SocketAddr)>);

    impl Queue {
        fn push(&mut self, address: &str) -> tokio::io::DuplexStream {
            let (near, far) = tokio::io::duplex(64);
            self.0.push_back((Box::new(near), SocketAddr::new(address.parse().unwrap(), 1)));
            far
        }
    }

    impl Listener for Queue {
        fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
            match self.0.pop_front() {
                Some(accepted) => Box::pin(std::future::ready(Ok(accepted))),
                None => Box::pin(std::future::pending()),
            }
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn gate(places: usize, share: usize) -> (Gate, Arc<AtomicUsize>) {
        let refused = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&refused);
        let refuse = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        (Gate::new(places, share, refuse), refused)
    }

    async fn nobody(gate: &Gate, queue: &mut Queue) -> bool {
        timeout(Duration::from_millis(50), gate.next(queue)).await.is_err()
    }

    #[tokio::test]
    async fn what_is_over_the_share_of_an_address_is_closed_at_once() {
        let (gate, refused) = gate(4, 2);
        let mut queue = Queue(VecDeque::new());
        let ends: Vec<_> = ["10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"].map(|from| queue.push(from)).into();
        let mut places = Vec::new();
        for from in ["10.0.0.1", "10.0.0.1", "10.0.0.2"] {
            let (place, stream, address) = gate.next(&mut queue).await;
            assert_eq!(address.ip().to_string(), from);
            places.push((place, stream));
        }
        assert_eq!(refused.load(Ordering::Relaxed), 1);
        let closed = ends.into_iter().nth(2).unwrap().read(&mut [0]).await.unwrap();
        assert_eq!(closed, 0, "what is over the share is closed at once");

        places.remove(0);
        let _end = queue.push("10.0.0.1");
        places.push({
            let (place, stream, _) = gate.next(&mut queue).await;
            (place, stream)
        });
    }

    #[tokio::test]
    async fn what_is_over_all_places_waits() {
        let (gate, refused) = gate(2, 2);
        let mut queue = Queue(VecDeque::new());
        let _ends = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|from| queue.push(from));
        let (first, ..) = gate.next(&mut queue).await;
        let (_second, ..) = gate.next(&mut queue).await;
        assert!(nobody(&gate, &mut queue).await);
        assert_eq!((queue.0.len(), refused.load(Ordering::Relaxed)), (1, 0), "it stays in the queue");
        drop(first);
        let (_third, _, address) = gate.next(&mut queue).await;
        assert_eq!(address.ip().to_string(), "10.0.0.3");
    }
}
