//! Layers, good and bad.
