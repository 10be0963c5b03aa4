"""Choice of a metadata value whose cells are the test set: ``site=B``, of leave-one-site-out."""

from cytolora.errors import ConfigError


def column_and_value(text: str) -> tuple[str, str]:
    """Reads ``COLUMN=VALUE``; the value may hold further equal signs.

    Raises:
        ConfigError: If it has no column or no value.
    """
    column, separator, value = (part.strip() for part in text.partition("="))
    if not (column and separator and value):
        raise ConfigError(f"leave_out names a metadata column and one of its values, as in site=B; got {text!r}.")
    return column, value
