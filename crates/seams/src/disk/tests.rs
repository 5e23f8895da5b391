//! What every disk must do alike, run against the machine's and the simulated one.
