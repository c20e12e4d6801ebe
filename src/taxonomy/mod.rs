//! Classes and leaves, and the changes that lead from one manifest to the next, as pure functions.
//!
//! The network's softmax has rows, its **leaves**. A **class** is what people see and owns a set of leaves:
//!
//! ```text
//! p(class | text) = sum of softmax(W h + b)[leaf] over the leaves of the class
//! ```
//!
//! So a merge is the union of two leaf sets: no weight changes, the probabilities are exact, and undoing it is exact.

mod change;
mod check;
mod classes;
mod descent;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod groups;
mod id;
mod lookup;
mod manifest;
mod name;
mod translate;
mod tree;

pub use change::{Edit, Part, Provenance};
pub use classes::{Base, Classes, Delta};
pub use groups::LeafGroups;
pub use id::{ClassId, LeafId, Revision, VersionNumber};
pub use lookup::Meaning;
pub use manifest::{Change, Class, ClassState, Manifest, UndoPoint};
pub use name::{ClassName, MAX_CLASS_NAME_BYTES};
pub use translate::{Translation, Unresolved};
