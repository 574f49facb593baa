//! Black-box tests. One binary, so that linking happens once and one ephemeral cluster serves all.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "all of this is test code, also the helpers outside of #[test] functions, which clippy.toml allows"
)]

mod batching;
mod crashes;
mod embedded_pg;
mod golden;
mod http_contract;
mod isolation;
mod ordering;
mod postgres_es;
mod projections;
mod races;
mod support;
