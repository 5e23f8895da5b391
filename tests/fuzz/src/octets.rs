//! An input taken apart from its front: what is not there reads as zero.
//!
//! It refuses to fail: every input is some input.

/// What is left of an input.
pub(crate) struct Octets<'a>(pub(crate) &'a [u8]);

impl<'a> Octets<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }

    /// As many as that, or as there are.
    pub(crate) fn take(&mut self, octets: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(octets.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// As many as the next two octets say.
    pub(crate) fn slice(&mut self) -> &'a [u8] {
        let octets = self.u16();
        self.take(octets.into())
    }

    /// A number of one octet, or, behind an octet of ones, of eight.
    pub(crate) fn number(&mut self) -> u64 {
        match self.u8() {
            u8::MAX => {
                let mut wide = [0; 8];
                let octets = self.take(8);
                wide[..octets.len()].copy_from_slice(octets);
                u64::from_be_bytes(wide)
            }
            small => small.into(),
        }
    }
}

/// Octets behind their length, as [`Octets::slice`] reads them.
pub(crate) fn sliced(octets: &[u8]) -> Vec<u8> {
    let len = u16::try_from(octets.len()).expect("seeds are small");
    [&len.to_be_bytes()[..], octets].concat()
}
