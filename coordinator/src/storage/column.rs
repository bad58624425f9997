//! How columns of rows become arrays for the database: written straight into the message, without
//! a copy of the rows by column.

use std::fmt::Write as _;
use std::io::Write as _;
use std::iter;
use std::marker::PhantomData;
use std::sync::OnceLock;

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
    statement: &'static OnceLock<String>,
    /// What the statement is, where no call has put it together yet.
    sql: Option<String>,
    arguments: PgArguments,
}

impl Call {
    /// The statement is put together once; all calls with it have the same names in the same order.
    pub(super) fn new(statement: &'static OnceLock<String>, function: &str, bytes: usize) -> Self {
        let mut arguments = PgArguments::default();
        arguments.reserve(96, bytes);
        let sql = match statement.get() {
            Some(_) => None,
            // Among the columns of a query a function costs less than as its table, which is set up anew each time.
            None => Some(format!("SELECT {function}")),
        };
        Self {
            statement,
            sql,
            arguments,
        }
    }

    /// Adds one value.
    pub(super) fn value<'q, T>(&mut self, name: &str, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.arguments.add(value)?;
        if let Some(sql) = &mut self.sql {
            let number = self.arguments.len();
            let separator = if number == 1 { '(' } else { ',' };
            write!(sql, "{separator}{name} => ${number}")?;
        }
        Ok(())
    }

    /// Adds the values of one column; no array if there are none.
    pub(super) fn column<'q, I>(&mut self, name: &str, values: I) -> Result<(), BoxDynError>
    where
        I: Iterator,
        I::Item: Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType,
    {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return self.value(name, NoArray::<I::Item>(PhantomData));
        }
        self.value(name, values.bind_iter())
    }

    /// Adds the values of one column; no array if all of them are NULL, which is what rows get then.
    pub(super) fn sparse<'q, T>(
        &mut self,
        name: &str,
        mut values: impl Iterator<Item = Option<T>>,
    ) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
    {
        let mut nulls = 0;
        let first = values.by_ref().find(|value| {
            nulls += usize::from(value.is_none());
            value.is_some()
        });
        let Some(first) = first else {
            return self.value(name, NoArray::<T>(PhantomData));
        };
        let before = iter::repeat_with(|| None).take(nulls);
        self.value(
            name,
            before.chain(iter::once(first)).chain(values).bind_iter(),
        )
    }

    /// The statement and its arguments.
    pub(super) fn finish(self) -> (&'static str, PgArguments) {
        let sql = self.sql.unwrap_or_default();
        let statement = self.statement.get_or_init(|| sql + ")");
        (statement, self.arguments)
    }
}

/// NULL in place of an array of these.
struct NoArray<T>(PhantomData<T>);

impl<T: PgHasArrayType> Type<Postgres> for NoArray<T> {
    fn type_info() -> PgTypeInfo {
        T::array_type_info()
    }
}

impl<T: PgHasArrayType> Encode<'_, Postgres> for NoArray<T> {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
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
