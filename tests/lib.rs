//! What the whole workspace promises, tested from outside.
