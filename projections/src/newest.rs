//! The order of lists that are newest first, and narrowed by what has an index of its own.
//!
//! To the planner, which is not told what is looked for, it is often cheaper to walk the index by time and to pass over
//! what was not asked for: that is so for what there is much of, and without an end for what is rare. So the index by time
//! is in an order that only a list reads which nothing but time narrows: its nulls, of which there are none, come first.
//!
//! Nor may it be read for a range: of two bounds on a time the planner takes it that there is next to nothing in between.
//! Of a bound that is a row it does not, so the upper one always is.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

/// A condition: before this time, and at it before this id. Before a time alone is before its first id.
pub(crate) fn push_before(
    query: &mut QueryBuilder<'_, Postgres>,
    [at, id]: [&str; 2],
    (time, first): (DateTime<Utc>, Uuid),
) {
    query.push(" AND (").push(at).push(", ").push(id).push(") < (");
    query.push_bind(time).push(", ").push_bind(first).push(")");
}

/// Ends a statement: newest first by these columns, and so many.
pub(crate) fn push_newest(
    query: &mut QueryBuilder<'_, Postgres>,
    [at, id]: [&str; 2],
    narrowed: bool,
    limit: i64,
) {
    let direction = if narrowed { " DESC" } else { " DESC NULLS LAST" };
    query.push(" ORDER BY ").push(at).push(direction).push(", ").push(id).push(direction);
    query.push(" LIMIT ").push_bind(limit);
}
