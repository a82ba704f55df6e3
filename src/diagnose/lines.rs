//! The files of procfs, line by line.

/// The values of a file's lines. If the file has lines and none can be read, its form is not known, and
/// `None` is not taken for an empty file.
pub(super) fn read<'a, T>(
    lines: impl IntoIterator<Item = &'a str>,
    read: impl FnMut(&'a str) -> Option<T>,
) -> Option<Vec<T>> {
    let mut lines = lines.into_iter().peekable();
    let is_empty = lines.peek().is_none();
    let values: Vec<_> = lines.filter_map(read).collect();
    (is_empty || !values.is_empty()).then_some(values)
}
