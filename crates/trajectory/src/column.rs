//! Columns: the values of one feature, one row per sample, contiguous.

/// Variable-length values (strings, encoded images) stored end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blobs {
    /// `rows + 1` byte offsets into `bytes`.
    offsets: Vec<usize>,
    bytes: Vec<u8>,
}

impl Default for Blobs {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl Blobs {
    /// Appends one value.
    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.offsets.push(self.bytes.len());
    }

    /// The value of row `row`; panics past the end, like a slice.
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row]..self.offsets[row + 1]]
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, offsets aside.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// A copy of the rows in `rows`.
    #[must_use]
    pub fn slice(&self, rows: std::ops::Range<usize>) -> Self {
        let mut out = Self::default();
        for row in rows {
            out.push(self.get(row));
        }
        out
    }
}

impl<'a> FromIterator<&'a [u8]> for Blobs {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(values: I) -> Self {
        let mut out = Self::default();
        for value in values {
            out.push(value);
        }
        out
    }
}

/// The values of one feature. Numeric variants are row-major `[rows, width]`, where `width` is the product of
/// the feature's shape; the others hold one value per row.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// IEEE single precision, as recorded.
    F32(Vec<f32>),
    /// IEEE double precision, as recorded.
    F64(Vec<f64>),
    /// Any integer type, widened.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// UTF-8 text.
    Str(Blobs),
    /// Opaque bytes: encoded images and other blobs.
    Bytes(Blobs),
}

/// The type of a [`Column`], without its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// See [`Column::F32`].
    F32,
    /// See [`Column::F64`].
    F64,
    /// See [`Column::I64`].
    I64,
    /// See [`Column::Bool`].
    Bool,
    /// See [`Column::Str`].
    Str,
    /// See [`Column::Bytes`].
    Bytes,
}

impl ColumnKind {
    /// The name shown to people and written to JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I64 => "int64",
            Self::Bool => "bool",
            Self::Str => "string",
            Self::Bytes => "bytes",
        }
    }
}

impl Column {
    /// An empty column of type `kind`.
    #[must_use]
    pub fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::F32 => Self::F32(Vec::new()),
            ColumnKind::F64 => Self::F64(Vec::new()),
            ColumnKind::I64 => Self::I64(Vec::new()),
            ColumnKind::Bool => Self::Bool(Vec::new()),
            ColumnKind::Str => Self::Str(Blobs::default()),
            ColumnKind::Bytes => Self::Bytes(Blobs::default()),
        }
    }

    /// The type of the values.
    #[must_use]
    pub fn kind(&self) -> ColumnKind {
        match self {
            Self::F32(_) => ColumnKind::F32,
            Self::F64(_) => ColumnKind::F64,
            Self::I64(_) => ColumnKind::I64,
            Self::Bool(_) => ColumnKind::Bool,
            Self::Str(_) => ColumnKind::Str,
            Self::Bytes(_) => ColumnKind::Bytes,
        }
    }

    /// Number of scalar values (numeric) or of blobs.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::Str(b) | Self::Bytes(b) => b.len(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of payload held in memory.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        match self {
            Self::F32(v) => v.len() * 4,
            Self::F64(v) => v.len() * 8,
            Self::I64(v) => v.len() * 8,
            Self::Bool(v) => v.len(),
            Self::Str(b) | Self::Bytes(b) => b.byte_len(),
        }
    }

    /// A copy of rows `rows`, each `width` values wide.
    #[must_use]
    pub fn slice(&self, rows: std::ops::Range<usize>, width: usize) -> Self {
        let values = rows.start * width..rows.end * width;
        match self {
            Self::F32(v) => Self::F32(v[values].to_vec()),
            Self::F64(v) => Self::F64(v[values].to_vec()),
            Self::I64(v) => Self::I64(v[values].to_vec()),
            Self::Bool(v) => Self::Bool(v[values].to_vec()),
            Self::Str(b) => Self::Str(b.slice(rows)),
            Self::Bytes(b) => Self::Bytes(b.slice(rows)),
        }
    }
}
