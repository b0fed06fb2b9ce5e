//! What this crate renders and hashes, against the PostgreSQL servers that are installed here.

mod configuration;
mod passwords;
mod quoting;
mod sealing;
mod throwaway;
