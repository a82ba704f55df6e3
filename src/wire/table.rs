//! One table for each nest, which defines its struct, encoding, decoding and lengths.

/// Makes the struct of a nest, with its encoding, its decoding and its length, of one table in the
/// order in which the kernel writes the attributes:
///
/// ```ignore
/// attributes! {
///     /// What the nest is.
///     pub struct DestinationAttributes of ipvs::destination {
///         /// `WEIGHT`.
///         weight: u32 = WEIGHT, "WEIGHT", U32Native;
///     }
/// }
/// ```
///
/// A row has the field, its type, the attribute's number in the named module, the name that errors
/// give the attribute, and its [`Codec`](super::codec::Codec). Fields that follow the table after
/// `and` are encoded and decoded by hand. A table that ends with `in order` can also be decoded in
/// its order, in far fewer steps, from answers that have every attribute of the table.
macro_rules! attributes {
    (
        $(#[$doc:meta])*
        pub struct $nest:ident of $module:path {
            $($(#[$field_doc:meta])* $field:ident: $value:ty = $kind:ident, $name:literal, $codec:ty;)*
        }
        and { $($other:tt)* }
        in order
    ) => {
        attributes! {
            $(#[$doc])*
            pub struct $nest of $module {
                $($(#[$field_doc])* $field: $value = $kind, $name, $codec;)*
            }
            and { $($other)* }
        }

        impl $nest {
            /// Decodes the attributes of the table if all of them are present, in the table's
            /// order; returns the bytes that follow them, too. The fast path: see
            /// docs/performance.md.
            #[inline(always)]
            fn decode_in_order(bytes: &[u8]) -> Option<(Self, &[u8])> {
                use $crate::wire::codec::Fixed;
                use $crate::wire::reader::InOrder;
                use $module as module;
                // Since the length is known at compile time, the reads below need no bounds checks.
                let (bytes, rest) = bytes.split_first_chunk::<{ $nest::LENGTH }>()?;
                let mut attributes = InOrder(bytes);
                let decoded = Self {
                    $($field: Some(<$codec>::next(&mut attributes, module::$kind)?),)*
                    ..Self::default()
                };
                Some((decoded, rest))
            }
        }
    };
    (
        $(#[$doc:meta])*
        pub struct $nest:ident of $module:path {
            $($(#[$field_doc:meta])* $field:ident: $value:ty = $kind:ident, $name:literal, $codec:ty;)*
        }
        $(and { $($(#[$other_doc:meta])* $other:ident: $other_type:ty;)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct $nest {
            $($(#[$field_doc])* pub $field: Option<$value>,)*
            $($($(#[$other_doc])* pub $other: Option<$other_type>,)*)?
        }

        impl $nest {
            /// The most bytes that the attributes of the table take.
            #[allow(dead_code)] // A nest that is never written needs no length.
            pub(crate) const LENGTH: usize =
                0 $(+ <$codec as $crate::wire::codec::Codec>::LENGTH)*;

            /// Encodes the attributes of the table.
            #[inline(always)]
            pub(crate) fn encode_table<S: $crate::wire::writer::Sink>(
                &self,
                sink: &mut S,
            ) -> $crate::wire::writer::Written {
                use $crate::wire::codec::Codec;
                use $module as module;
                $(if let Some(value) = self.$field {
                    <$codec>::encode(module::$kind, value, sink)?;
                })*
                Some(())
            }

            /// Decodes an attribute; tells whether the table has it.
            #[inline]
            pub(crate) fn decode_one(
                &mut self,
                kind: u16,
                bytes: &[u8],
            ) -> Result<bool, $crate::wire::DecodeError> {
                use $crate::wire::codec::Codec;
                use $crate::wire::reader::AttributeValue;
                use $module as module;
                match kind {
                    $(module::$kind => {
                        self.$field = <$codec>::decode(AttributeValue::new($name, bytes))?;
                    })*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

pub(crate) use attributes;
