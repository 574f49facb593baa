//! Writes to several tables as one statement: one round trip, one start and end of the executor.

use sqlx::{Arguments, Encode, PgConnection, Postgres, Type, postgres::PgArguments};

/// Data-modifying statements that do not depend on each other, sent as one.
///
/// All of them see the tables as they were before, none sees another's rows; statement triggers fire when all are
/// done. In which order they are done is PostgreSQL's choice.
#[derive(Default)]
pub struct Combined {
    sql: String,
    arguments: PgArguments,
    parts: usize,
    /// Whether the part that was added last is of a single row.
    single: bool,
    failure: Option<sqlx::error::BoxDynError>,
}

impl Combined {
    /// Adds a statement. Its placeholders count from `$1`, and it has no other `$`; what is bound next is bound to them.
    pub fn part(&mut self, sql: &str) -> &mut Self {
        self.single = false;
        self.sql.push_str(if self.sql.is_empty() { "WITH " } else { ", " });
        let bound = self.arguments.len();
        // Names are only there because the syntax wants them.
        self.sql.push_str(&format!("part{} AS (", self.parts));
        self.parts += 1;
        let mut pieces = sql.split('$');
        self.sql.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = piece.split_at(digits);
            let number: usize = number.parse().unwrap_or_default();
            self.sql.push_str(&format!("${}", bound + number));
            self.sql.push_str(rest);
        }
        self.sql.push(')');
        self
    }

    /// Adds a statement over so many rows, `… FROM UNNEST($1::uuid[], …) AS w …`, whose columns are bound next, each with
    /// [`Self::column`].
    ///
    /// A single row is not sent as arrays of one: to take them apart is a sixth of what such a statement costs PostgreSQL.
    pub fn rows(&mut self, sql: &str, rows: usize) -> &mut Self {
        let pieces = sql
            .split_once("UNNEST(")
            .and_then(|(head, rest)| rest.split_once(')').map(|(columns, tail)| (head, columns, tail)));
        match pieces.filter(|_| rows == 1) {
            Some((head, columns, tail)) => {
                self.part(&format!("{head}(VALUES ({})){tail}", columns.replace("[]", "")));
                self.single = true;
                self
            }
            None => self.part(sql),
        }
    }

    /// Binds the next column of the rows that were added last.
    pub fn column<'v, T>(&mut self, mut values: Vec<T>) -> &mut Self
    where
        T: Encode<'v, Postgres> + Type<Postgres> + 'v,
        Vec<T>: Encode<'v, Postgres> + Type<Postgres> + 'v,
    {
        match values.pop() {
            Some(only) if self.single => self.bind(only),
            last => {
                values.extend(last);
                self.bind(values)
            }
        }
    }

    /// Binds the next placeholder of the part that was added last.
    pub fn bind<'v, T: Encode<'v, Postgres> + Type<Postgres> + 'v>(&mut self, value: T) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.failure.get_or_insert(error);
        }
        self
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    /// Does all of it, or nothing.
    ///
    /// # Errors
    /// When PostgreSQL refuses or a value could not be encoded.
    pub async fn execute(mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if let Some(error) = self.failure {
            return Err(sqlx::Error::Encode(error));
        }
        if self.is_empty() {
            return Ok(());
        }
        self.sql.push_str(" SELECT");
        sqlx::query_with(&self.sql, self.arguments).execute(connection).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placeholders_of_each_part_are_counted_on() {
        let mut combined = Combined::default();
        assert!(combined.is_empty());
        combined
            .part("INSERT INTO a SELECT * FROM UNNEST($1::bigint[], $2::text[])")
            .bind(vec![1_i64])
            .bind(vec!["x"]);
        combined.part("DELETE FROM b WHERE id = ANY($1)").bind(vec![2_i64]);
        assert_eq!(
            combined.sql,
            "WITH part0 AS (INSERT INTO a SELECT * FROM UNNEST($1::bigint[], $2::text[])), \
             part1 AS (DELETE FROM b WHERE id = ANY($3))"
        );
        assert_eq!(combined.arguments.len(), 3);
    }

    #[test]
    fn a_single_row_is_not_sent_as_arrays() {
        const INSERT: &str = "INSERT INTO a SELECT w.*, $3 FROM UNNEST($1::bigint[], $2::text[]) AS w (n, t)";
        let of = |rows: usize| {
            let mut combined = Combined::default();
            combined.rows(INSERT, rows).column(vec![1_i64; rows]).column(vec!["x"; rows]).bind(true);
            combined.part("DELETE FROM b WHERE id = ANY($1)").bind(vec![2_i64]);
            assert_eq!(combined.arguments.len(), 4);
            combined.sql
        };
        assert_eq!(
            of(1),
            "WITH part0 AS (INSERT INTO a SELECT w.*, $3 FROM (VALUES ($1::bigint, $2::text)) AS w (n, t)), \
             part1 AS (DELETE FROM b WHERE id = ANY($4))"
        );
        assert_eq!(of(2), format!("WITH part0 AS ({INSERT}), part1 AS (DELETE FROM b WHERE id = ANY($4))"));
    }
}
