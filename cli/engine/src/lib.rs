//! Containers, sandboxes, logs, and their durable state.

mod engine;

pub use engine::{
    Attachment, CreateRequest, Engine, EngineConfig, LogQuery, OutputChunk, PullProgress,
    WaitCondition,
};
