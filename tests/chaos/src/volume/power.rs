//! The power of one machine or of several: on until it is cut, by hand or after so many operations of their disks.
//!
//! It refuses to come back by itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones are the same power.
#[derive(Clone, Default)]
pub struct Power(Arc<Mutex<Supply>>);

#[derive(Default)]
struct Supply {
    is_on: bool,
    /// Operations that are left until it goes.
    left: Option<u32>,
}

impl Power {
    fn lock(&self) -> MutexGuard<'_, Supply> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches it on, for that many operations if so told.
    pub fn switch_on(&self, operations: Option<u32>) {
        *self.lock() = Supply { is_on: true, left: operations };
    }

    /// Has it stay on, if it still is; answers whether it is.
    pub fn stay(&self) -> bool {
        let mut supply = self.lock();
        supply.left = None;
        supply.is_on
    }

    /// Cuts it: from now on nothing reaches a disk.
    pub fn cut(&self) {
        self.lock().is_on = false;
    }

    /// Whether there is power.
    pub fn is_on(&self) -> bool {
        self.lock().is_on
    }

    /// Whether there is power for one more operation.
    pub fn spend(&self) -> bool {
        let mut supply = self.lock();
        match &mut supply.left {
            Some(0) => supply.is_on = false,
            Some(left) => *left -= 1,
            None => {}
        }
        supply.is_on
    }
}
