//! Policies: the attributes that a request may have, and the lengths that the kernel accepts.

use crate::uapi::Errno;

/// The rule for an attribute; lengths are those of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttributeRule {
    U8,
    U16,
    U32,
    /// At most this many bytes.
    AtMost(usize),
    /// At least this many bytes.
    AtLeast(usize),
    /// A string of at most this many bytes and a NUL.
    Text(u32),
    Nest,
}

impl AttributeRule {
    fn check(self, value: &[u8]) -> Result<(), Errno> {
        let fits = match self {
            Self::U8 => !value.is_empty(),
            Self::U16 => value.len() >= 2,
            Self::U32 => value.len() >= 4,
            Self::AtMost(most) => value.len() <= most,
            Self::AtLeast(least) => value.len() >= least,
            // An empty value is a nest without attributes.
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

/// The rules for a nest's attributes, by the attributes' numbers.
#[derive(Debug)]
pub(super) struct AttributePolicy([Option<AttributeRule>; NUMBERS]);

/// More than the highest number of an attribute in any nest.
const NUMBERS: usize = 16;

impl AttributePolicy {
    /// A policy with these rules. The kernel skips attributes without a rule.
    pub(super) const fn new(rules: &[(u16, AttributeRule)]) -> Self {
        let mut by_number = [None; NUMBERS];
        let mut index = 0;
        while index < rules.len() {
            let (number, rule) = rules[index];
            by_number[number as usize] = Some(rule);
            index += 1;
        }
        Self(by_number)
    }

    fn rule(&self, number: u16) -> Option<AttributeRule> {
        self.0.get(usize::from(number)).copied().flatten()
    }
}

/// The extended acknowledgement: what the kernel says beside an error number.
#[derive(Debug, Default)]
pub(super) struct ExtendedAck {
    pub(super) message: Option<&'static str>,
    /// The offset in the request of the attribute that failed its rule, and the rule.
    pub(super) attribute: Option<(usize, AttributeRule)>,
}

/// The part of a request that should consist of attributes, and its offset in the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: usize,
}

/// Attributes that passed their policy, by their numbers; the last one of duplicates.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    values: [Option<Span<'a>>; NUMBERS],
}

const HEADER: usize = 4;

impl<'a> Parsed<'a> {
    /// Reads attributes by a policy; `ack` tells which of them is wrong.
    pub(super) fn read(
        from: Span<'a>,
        policy: &AttributePolicy,
        ack: &mut ExtendedAck,
    ) -> Result<Self, Errno> {
        let mut values = [None; NUMBERS];
        let Span { bytes, mut offset } = from;
        let mut rest = bytes;
        while let &[l0, l1, k0, k1, ref values_and_more @ ..] = rest {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            if length < HEADER || length > rest.len() {
                break;
            }
            let number = u16::from_ne_bytes([k0, k1]) & NUMBER;
            if let Some(rule) = policy.rule(number) {
                let value = &values_and_more[..length - HEADER];
                rule.check(value).inspect_err(|_| {
                    ack.message = Some("Attribute failed policy validation");
                    ack.attribute = Some((offset, rule));
                })?;
                values[usize::from(number)] = Some(Span { bytes: value, offset: offset + HEADER });
            }
            let step = length.next_multiple_of(4);
            offset += step;
            rest = rest.get(step..).unwrap_or_default();
        }
        if !rest.is_empty() {
            ack.message = Some("bytes leftover after parsing attributes");
        }
        Ok(Self { values })
    }

    pub(super) fn get(&self, number: u16) -> Option<Span<'a>> {
        self.values.get(usize::from(number)).copied().flatten()
    }

    pub(super) fn has(&self, numbers: &[u16]) -> bool {
        numbers.iter().all(|&number| self.get(number).is_some())
    }

    pub(super) fn u8(&self, number: u16) -> Option<u8> {
        self.integer(number).map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&self, number: u16) -> Option<u16> {
        self.integer(number).map(u16::from_ne_bytes)
    }

    pub(super) fn u16_network(&self, number: u16) -> Option<u16> {
        self.integer(number).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&self, number: u16) -> Option<u32> {
        self.integer(number).map(u32::from_ne_bytes)
    }

    /// The first `M` bytes of the value; a shorter value is filled up with zeros.
    pub(super) fn filled<const M: usize>(&self, number: u16) -> Option<[u8; M]> {
        let bytes = self.get(number)?.bytes;
        let length = bytes.len().min(M);
        let mut filled = [0; M];
        filled[..length].copy_from_slice(&bytes[..length]);
        Some(filled)
    }

    /// A string, up to its NUL.
    pub(super) fn text(&self, number: u16) -> Option<&'a [u8]> {
        self.get(number)?.bytes.split(|&byte| byte == 0).next()
    }

    fn integer<const M: usize>(&self, number: u16) -> Option<[u8; M]> {
        self.get(number)?.bytes.first_chunk().copied()
    }
}

/// The bits of an attribute's type that are its number. The other bits mark a nest or network
/// order, and the kernel ignores them here.
const NUMBER: u16 = 0x3fff;
