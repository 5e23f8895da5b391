//! What frames mean for the chain over the log: every anchor on the way must agree with the entries before it.
//!
//! It refuses to hold entries; recovery and verification both check with it.

use super::chains::Chains;
use super::frame::{Frame, Seal};
use super::header::ChainPoint;

/// The chain over the frames seen so far.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) chains: Chains,
    /// The least `next_index` since the current segment began.
    pub(super) low: u64,
}

impl Fold {
    pub(super) fn new(start: ChainPoint) -> Self {
        Self { chains: Chains::new(start), low: start.next_index }
    }

    /// The next segment begins; its header must say what the frames before it say.
    pub(super) fn begin(&mut self, start: ChainPoint) -> Result<(), String> {
        agree("the header", start, self.chains.end())?;
        self.low = start.next_index;
        Ok(())
    }

    /// Folds one frame in, or says how it contradicts those before it.
    pub(super) fn frame(&mut self, frame: &Frame) -> Result<(), String> {
        let end = self.chains.end();
        match frame {
            Frame::Entry(record) if record.index != end.next_index => {
                Err(format!("entry {} stands where entry {} belongs", record.index, end.next_index))
            }
            Frame::Entry(record) => {
                self.chains.push(record);
                Ok(())
            }
            Frame::Truncate(point) if point.next_index > end.next_index => {
                Err(format!("a truncation to entry {} is beyond the end, {}", point.next_index, end.next_index))
            }
            Frame::Truncate(point) => {
                let known = self.chains.at(point.next_index);
                agree("a truncation", *point, known)?;
                self.chains.truncate(*point);
                self.low = self.low.min(point.next_index);
                Ok(())
            }
            Frame::Purge(mark, chain) => {
                let point = ChainPoint { next_index: mark.index + 1, chain: *chain };
                agree("a purge mark", point, self.chains.at(point.next_index))?;
                self.chains.purge(point);
                Ok(())
            }
            Frame::Seal(Seal { end: sealed, low, .. }) => {
                agree("the seal", *sealed, end)?;
                if *low == self.low { Ok(()) } else { Err(format!("the seal says low {low}, frames say {}", self.low)) }
            }
            Frame::Vote(_) | Frame::Committed(_) => Ok(()),
        }
    }
}

/// Two views of one point: the index must be the same, and the chain wherever both know it.
pub(super) fn agree(who: &str, one: ChainPoint, other: ChainPoint) -> Result<(), String> {
    if one.next_index != other.next_index {
        return Err(format!("{who} says entry {} comes next, the frames say {}", one.next_index, other.next_index));
    }
    match (one.chain, other.chain) {
        (Some(one), Some(other)) if one != other => Err(format!("{who} and the entries before it have another chain")),
        _ => Ok(()),
    }
}
