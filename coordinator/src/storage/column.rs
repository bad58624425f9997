//! How columns of rows become arrays for the database: written straight into the message, without
//! a copy of the rows by column.

use std::io::Write;

use flotilla_engine::Json;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgBindIterExt, PgHasArrayType, PgTypeInfo, Postgres,
};
use sqlx::{Arguments, Encode, Type};

/// A call of a function with named arguments, put together argument by argument, so that name and
/// value stand side by side.
pub(super) struct Call {
    sql: String,
    arguments: PgArguments,
}

impl Call {
    pub(super) fn new(function: &str, bytes: usize) -> Self {
        let mut arguments = PgArguments::default();
        arguments.reserve(96, bytes);
        let mut sql = String::with_capacity(4096);
        sql.push_str("SELECT * FROM ");
        sql.push_str(function);
        Self { sql, arguments }
    }

    /// Adds one value.
    pub(super) fn value<'q, T>(&mut self, name: &str, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        let separator = if self.arguments.len() == 0 { '(' } else { ',' };
        self.arguments.add(value)?;
        self.sql.push(separator);
        self.sql.push_str(name);
        self.sql.push_str(" => $");
        self.sql.push_str(&self.arguments.len().to_string());
        Ok(())
    }

    /// Adds the values of one column.
    pub(super) fn column<'q, I>(&mut self, name: &str, values: I) -> Result<(), BoxDynError>
    where
        I: Iterator,
        I::Item: Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType,
    {
        self.value(name, values.bind_iter())
    }

    /// The statement and its arguments.
    pub(super) fn finish(mut self) -> (String, PgArguments) {
        self.sql.push(')');
        (self.sql, self.arguments)
    }
}

/// JSON text as a `jsonb`: the text goes out as it is.
pub(super) struct Jsonb<'a>(pub(super) &'a str);

impl<'a> From<&'a Json> for Jsonb<'a> {
    fn from(json: &'a Json) -> Self {
        Self(json.text())
    }
}

impl Type<Postgres> for Jsonb<'_> {
    fn type_info() -> PgTypeInfo {
        <sqlx::types::Json<()> as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Jsonb<'_> {
    fn array_type_info() -> PgTypeInfo {
        <sqlx::types::Json<()> as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for Jsonb<'_> {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // The version of the binary format.
        buf.push(1);
        buf.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

/// A list of numbers as the text of a Postgres array, since arrays of arrays of different lengths
/// do not exist.
pub(super) struct NumberList<'a>(pub(super) &'a [u32]);

impl Type<Postgres> for NumberList<'_> {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for NumberList<'_> {
    fn array_type_info() -> PgTypeInfo {
        <&str as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for NumberList<'_> {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let mut separator = b'{';
        for number in self.0 {
            buf.push(separator);
            write!(&mut **buf, "{number}")?;
            separator = b',';
        }
        if self.0.is_empty() {
            buf.push(b'{');
        }
        buf.push(b'}');
        Ok(IsNull::No)
    }
}

/// A count or number as a Postgres `integer`. What does not fit becomes a number that the
/// constraints of the tables refuse.
pub(super) fn integer(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(-1)
}

/// A number as a Postgres `bigint`, likewise.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(-1)
}
