"""One module a library, each with the same functions; see :mod:`libraries.timing` for what they share."""
