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
    failure: Option<sqlx::error::BoxDynError>,
}

impl Combined {
    /// Adds a statement. Its placeholders count from `$1`, and it has no other `$`; what is bound next is bound to them.
    pub fn part(&mut self, sql: &str) -> &mut Self {
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
}
