//! Numbers that name things within a model. Distinct types, so that one cannot stand where another belongs.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Names a class for ever; counted from 1.
    ClassId(u32)
}
id! {
    /// Names a row of the softmax for ever, wherever it stands in the matrix; counted from 1.
    LeafId(u32)
}
id! {
    /// Numbers the manifests of a model; counted from 1.
    Revision(u64)
}
id! {
    /// Numbers the versions of a model; counted from 1.
    VersionNumber(u64)
}
