//! Policies: which attributes a request may have, and how liberally they are read.

use rustix::io::Errno;

/// What an attribute has to be; its length is that of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Anything of at least this many bytes.
    Any(usize),
    U8,
    U16,
    U32,
    /// At most this many bytes.
    Bytes(usize),
    /// A string of at most this many bytes and a NUL.
    Text(u32),
    Nest,
}

impl Rule {
    fn check(self, value: &[u8]) -> Result<(), Errno> {
        let fits = match self {
            Self::Any(least) => value.len() >= least,
            Self::U8 => !value.is_empty(),
            Self::U16 => value.len() >= 2,
            Self::U32 => value.len() >= 4,
            Self::Bytes(most) => value.len() <= most,
            // An empty nest is one without attributes.
            Self::Nest => value.is_empty() || value.len() >= HEADER,
            Self::Text(most) => {
                let most = most as usize;
                let looked_at = &value[..value.len().min(most + 1)];
                if !looked_at.contains(&0) {
                    return Err(Errno::INVAL);
                }
                value.len() - usize::from(value.ends_with(&[0])) <= most
            }
        };
        if fits { Ok(()) } else { Err(Errno::RANGE) }
    }
}

/// The extended acknowledgement: what the kernel says beside an error number.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) message: Option<&'static str>,
    /// Where in the request the attribute is that failed its rule.
    pub(super) attribute: Option<(usize, Rule)>,
}

/// Attributes, or what should be some, and where in the request they begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: usize,
}

/// The values of attributes, by their numbers; of duplicates the last.
#[derive(Debug)]
pub(super) struct Attributes<'a, const N: usize> {
    values: [Option<Bytes<'a>>; N],
}

const HEADER: usize = 4;

impl<'a, const N: usize> Attributes<'a, N> {
    /// Reads attributes by a policy, which has a rule for each number but 0.
    pub(super) fn read(
        from: Bytes<'a>,
        policy: &[Rule; N],
        report: &mut Report,
    ) -> Result<Self, Errno> {
        let mut values = [None; N];
        let Bytes { bytes, mut offset } = from;
        let mut rest = bytes;
        while let &[l0, l1, k0, k1, ref values_and_more @ ..] = rest {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            if length < HEADER || length > rest.len() {
                break;
            }
            let kind = usize::from(u16::from_ne_bytes([k0, k1]) & KIND);
            if (1..N).contains(&kind) {
                let value = &values_and_more[..length - HEADER];
                policy[kind].check(value).inspect_err(|_| {
                    report.message = Some("Attribute failed policy validation");
                    report.attribute = Some((offset, policy[kind]));
                })?;
                values[kind] = Some(Bytes { bytes: value, offset: offset + HEADER });
            }
            let step = length.next_multiple_of(4);
            offset += step;
            rest = rest.get(step..).unwrap_or_default();
        }
        if !rest.is_empty() {
            report.message = Some("bytes leftover after parsing attributes");
        }
        Ok(Self { values })
    }

    pub(super) fn get(&self, kind: u16) -> Option<Bytes<'a>> {
        self.values.get(usize::from(kind)).copied().flatten()
    }

    pub(super) fn has(&self, kinds: &[u16]) -> bool {
        kinds.iter().all(|&kind| self.get(kind).is_some())
    }

    pub(super) fn u8(&self, kind: u16) -> Option<u8> {
        self.number(kind).map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&self, kind: u16) -> Option<u16> {
        self.number(kind).map(u16::from_ne_bytes)
    }

    pub(super) fn u16_network(&self, kind: u16) -> Option<u16> {
        self.number(kind).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&self, kind: u16) -> Option<u32> {
        self.number(kind).map(u32::from_ne_bytes)
    }

    /// What fits into `M` bytes of the value, filled with zeros.
    pub(super) fn filled<const M: usize>(&self, kind: u16) -> Option<[u8; M]> {
        let bytes = self.get(kind)?.bytes;
        let length = bytes.len().min(M);
        let mut filled = [0; M];
        filled[..length].copy_from_slice(&bytes[..length]);
        Some(filled)
    }

    /// A string, up to its NUL.
    pub(super) fn text(&self, kind: u16) -> Option<&'a [u8]> {
        self.get(kind)?.bytes.split(|&byte| byte == 0).next()
    }

    fn number<const M: usize>(&self, kind: u16) -> Option<[u8; M]> {
        self.get(kind)?.bytes.first_chunk().copied()
    }
}

/// The bits of an attribute's type that are its number; the others say that it is a nest or in
/// network order, which nobody looks at here.
const KIND: u16 = 0x3fff;
