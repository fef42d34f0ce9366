//! Metrics, log output and host statistics.

pub mod host_stats;
pub mod logging;
pub mod metrics;
pub mod recent_log;
