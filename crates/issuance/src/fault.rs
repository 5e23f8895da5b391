//! Points at which a test may kill the process: `CERTWRIGHT_FAULT=NAME:COUNT` aborts at the COUNT-th pass of NAME.
//!
//! It refuses to exist in release builds: there a point is nothing at all.
//!
//! The points, in the order in which a transaction passes them:
//!
//! | name             | where                                                                  |
//! |------------------|------------------------------------------------------------------------|
//! | `before_propose` | decided and claimed, not yet handed to the log                         |
//! | `after_append`   | handed to the log, which may or may not have it                        |
//! | `after_commit`   | applied here, nobody was told                                          |
//! | `during_release` | the caller is about to be told                                         |
//! | `after_intent`   | a CA certificate's intent is in the log, nothing is signed yet         |
//! | `after_step`     | between two steps of a bootstrap                                       |
//! | `after_rotation` | between two steps of replacing the data key                            |

/// A point by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// Decided and claimed, not yet handed to the log.
    BeforePropose,
    /// Handed to the log.
    AfterAppend,
    /// Applied here.
    AfterCommit,
    /// The caller is about to be told.
    DuringRelease,
    /// A CA certificate's intent is committed.
    AfterIntent,
    /// Between two steps of a bootstrap.
    AfterStep,
    /// Between two steps of replacing the data key.
    AfterRotation,
}

impl Point {
    /// Every point.
    pub const ALL: &'static [Self] = &[
        Self::BeforePropose,
        Self::AfterAppend,
        Self::AfterCommit,
        Self::DuringRelease,
        Self::AfterIntent,
        Self::AfterStep,
        Self::AfterRotation,
    ];

    /// Its name in `CERTWRIGHT_FAULT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforePropose => "before_propose",
            Self::AfterAppend => "after_append",
            Self::AfterCommit => "after_commit",
            Self::DuringRelease => "during_release",
            Self::AfterIntent => "after_intent",
            Self::AfterStep => "after_step",
            Self::AfterRotation => "after_rotation",
        }
    }
}

/// Passes a point; aborts the process when it is armed and this is the pass it was armed for.
#[cfg(debug_assertions)]
pub fn point(point: Point) {
    armed::pass(point);
}

/// Passes a point: nothing in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_point: Point) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    struct Armed {
        point: Point,
        left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    /// Reads `NAME:COUNT`; COUNT is 1 when absent.
    pub(super) fn parse(text: &str) -> Option<(Point, u64)> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let point = Point::ALL.iter().copied().find(|point| point.name() == name)?;
        let count = count.parse().ok().filter(|&count| count > 0)?;
        Some((point, count))
    }

    fn from_environment() -> Option<Armed> {
        let text = std::env::var("CERTWRIGHT_FAULT").ok()?;
        let parsed = parse(&text);
        if parsed.is_none() {
            tracing::warn!(%text, "CERTWRIGHT_FAULT names no fault point");
        }
        parsed.map(|(point, count)| Armed { point, left: AtomicU64::new(count) })
    }

    pub(super) fn pass(point: Point) {
        let Some(armed) = ARMED.get_or_init(from_environment) else { return };
        if armed.point == point && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::error!(point = point.name(), "fault point reached, aborting as asked");
            std::process::abort();
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::{Point, armed};

    #[test]
    fn every_point_is_found_by_its_name() {
        for &point in Point::ALL {
            assert_eq!(armed::parse(point.name()), Some((point, 1)));
            assert_eq!(armed::parse(&format!("{}:7", point.name())), Some((point, 7)));
        }
    }

    #[test]
    fn nonsense_arms_nothing() {
        for text in ["", "nowhere", "after_commit:0", "after_commit:x", "after_commit:-1"] {
            assert_eq!(armed::parse(text), None, "{text:?}");
        }
    }
}
