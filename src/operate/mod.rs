//! Operator verbs.
