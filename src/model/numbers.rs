//! The numbers of an array, which its clones share.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Weak},
};

/// Numbers that do not change. Cloning shares them.
#[derive(Clone)]
pub struct Numbers(Arc<Box<[f32]>>);

/// Leads to numbers for as long as somebody holds them, and keeps none of their memory.
#[derive(Debug, Clone)]
pub struct WeakNumbers(Weak<Box<[f32]>>);

impl Numbers {
    /// Leads to them without holding them.
    pub fn downgrade(&self) -> WeakNumbers {
        WeakNumbers(Arc::downgrade(&self.0))
    }

    /// The numbers, to be changed; copied first where somebody else holds them.
    pub fn to_mut(&mut self) -> &mut [f32] {
        let numbers: &mut Box<[f32]> = Arc::make_mut(&mut self.0);
        numbers
    }

    /// Whether both are the same memory.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Tells them apart from all others that exist, or that a [`WeakNumbers`] leads to.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl WeakNumbers {
    /// The numbers, if somebody holds them still.
    pub fn upgrade(&self) -> Option<Numbers> {
        self.0.upgrade().map(Numbers)
    }

    /// Whether somebody holds them still.
    pub fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// As [`Numbers::address`].
    pub fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl From<Vec<f32>> for Numbers {
    fn from(numbers: Vec<f32>) -> Self {
        Self(Arc::new(numbers.into_boxed_slice()))
    }
}

impl From<&[f32]> for Numbers {
    fn from(numbers: &[f32]) -> Self {
        Self(Arc::new(numbers.into()))
    }
}

impl<const N: usize> From<[f32; N]> for Numbers {
    fn from(numbers: [f32; N]) -> Self {
        numbers.as_slice().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_the_same_memory_and_equal_ones_need_not_be() {
        let numbers = Numbers::from(vec![1.0, 2.0]);
        let (clone, other) = (numbers.clone(), Numbers::from([1.0, 2.0]));
        assert!(clone.is_shared_with(&numbers) && !other.is_shared_with(&numbers));
        assert!(clone == other && numbers.address() != other.address());
    }

    #[test]
    fn nobody_is_led_to_what_nobody_holds() {
        let numbers = Numbers::from([1.0].as_slice());
        let weak = numbers.downgrade();
        assert_eq!((weak.address(), weak.upgrade()), (numbers.address(), Some(numbers.clone())));
        drop(numbers);
        assert!(!weak.is_held() && weak.upgrade().is_none());
    }
}
