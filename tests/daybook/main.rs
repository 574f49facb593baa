//! Black-box tests. One binary, so that linking happens once and one ephemeral cluster serves all.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "all of this is test code, also the helpers outside of #[test] functions, which clippy.toml allows; seeds are printed, so that a failure can be repeated"
)]

mod accounts;
mod api_calls;
mod audit_bundle;
mod audit_export;
mod audit_export_cli;
mod audit_plans;
mod audit_stream;
mod audit_views;
mod bad_input;
mod batching;
mod bookings;
mod canaries;
mod cli;
mod codes;
mod connections;
mod crashes;
mod dns;
mod domains;
mod edge;
mod embedded_pg;
mod erasure;
mod erasure_races;
mod erasure_reach;
mod evidence;
mod golden;
mod hijack;
mod hijack_matrix;
mod history;
mod http_contract;
mod http_limits;
mod interleaved;
mod isolation;
mod keys_and_roles;
mod keys_rotation;
mod leads;
mod ledger;
mod ledger_crashes;
mod ledger_heads;
mod ledger_http;
mod legal_holds;
mod limits;
mod links;
mod listing;
mod lockout;
mod log_canaries;
mod mail;
mod masquerade_attacks;
mod masquerade_clocks;
mod masquerade_crashes;
mod masquerade_races;
mod ordering;
mod permission_grants;
mod permission_grants_end;
mod permissions;
mod places;
mod plans;
mod platform;
mod pool;
mod postgres_es;
mod profile;
mod projections;
mod pruned_streams;
mod pruning;
mod pruning_races;
mod public;
mod races;
mod redacted_writes;
mod retention;
mod revocation;
#[cfg(feature = "route53")]
mod route53;
mod route_matrix;
mod sample_tenant;
mod sessions;
mod small_promises;
mod snapshots;
mod spare_schemas;
mod story;
mod support;
mod support_requests;
mod support_sessions;
mod support_streams;
mod takeovers;
mod tampering;
mod time_limits;
mod tokens;
mod turns;
