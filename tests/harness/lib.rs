//! The harness the stories are told with.
