//! The signals by which people and supervisors end a process.
//!
//! It refuses to end anything itself: who waits for them does, in good order.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at SIGTERM or SIGINT; never when they cannot be heard, which leaves them to end the process.
pub async fn until_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
