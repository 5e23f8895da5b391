//! certwright-agent.
