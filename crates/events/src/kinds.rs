//! What there is to say about the vocabulary itself: each kind of event with its words, from the same lines that its
//! documentation is made of.

/// One kind of event, as a reference shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKind {
    /// The variant's name, such as `JobStarted`. In JSON it is written `job_started`.
    pub variant: &'static str,
    /// What happened, line by line.
    pub doc: &'static [&'static str],
    /// What is told of it, in order.
    pub fields: &'static [EventField],
}

/// One field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventField {
    /// Its name, also in JSON.
    pub name: &'static str,
    /// Its Rust type.
    pub shape: &'static str,
    /// What it says, line by line.
    pub doc: &'static [&'static str],
}

impl EventKind {
    /// The name in JSON.
    pub fn name(&self) -> String {
        let mut name = String::with_capacity(self.variant.len() + 4);
        for (index, letter) in self.variant.char_indices() {
            if letter.is_ascii_uppercase() && index > 0 {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

/// Writes the enum and, from the same lines, [`Event::KINDS`](crate::Event::KINDS) and
/// [`Event::kind`](crate::Event::kind): a kind without documentation does not compile.
macro_rules! vocabulary {
    (
        $(#[$attribute:meta])*
        pub enum Event {
            $(
                $(#[doc = $doc:literal])+
                $variant:ident {
                    $( $(#[doc = $field_doc:literal])+ $field:ident: $shape:ty, )+
                },
            )+
        }
    ) => {
        $(#[$attribute])*
        pub enum Event {
            $(
                $(#[doc = $doc])+
                $variant {
                    $( $(#[doc = $field_doc])+ $field: $shape, )+
                },
            )+
        }

        impl Event {
            /// All kinds, in the order of this page.
            pub const KINDS: &'static [EventKind] = &[
                $(EventKind {
                    variant: stringify!($variant),
                    doc: &[$($doc),+],
                    fields: &[
                        $(EventField {
                            name: stringify!($field),
                            shape: stringify!($shape),
                            doc: &[$($field_doc),+],
                        }),+
                    ],
                }),+
            ];

            /// The name of its kind, as [`EventKind::variant`] has it.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Event::$variant { .. } => stringify!($variant),)+
                }
            }
        }
    };
}
pub(crate) use vocabulary;
