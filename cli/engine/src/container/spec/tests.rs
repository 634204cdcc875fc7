//! Specs against Docker's documented defaults.
