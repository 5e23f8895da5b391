//! The binaries as a user meets them: roles, reasons, generated documents, bad input, the tour.
//!
//! It refuses more fleets than it needs: what only asks shares one, a test at a time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, reason = "tests fail loudly")]

#[path = "command_line/bad_input.rs"]
mod bad_input;
#[path = "command_line/console.rs"]
mod console;
#[path = "command_line/deploy.rs"]
mod deploy;
#[path = "command_line/describe.rs"]
mod describe;
#[path = "command_line/dev.rs"]
mod dev;
#[path = "command_line/documents.rs"]
mod documents;
#[path = "command_line/examples.rs"]
mod examples;
#[path = "command_line/joining.rs"]
mod joining;
#[path = "command_line/mask.rs"]
mod mask;
#[path = "command_line/mistakes.rs"]
mod mistakes;
#[path = "command_line/past.rs"]
mod past;
#[path = "command_line/roles.rs"]
mod roles;
#[path = "command_line/shared.rs"]
mod shared;
#[path = "command_line/verbs.rs"]
mod verbs;
