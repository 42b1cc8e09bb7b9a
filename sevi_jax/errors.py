"""The one exception that stands for a mistake of the user's; knows nothing of the rest."""


class InputError(ValueError):
    """A file, field or flag that the user gave is not what was expected.

    The message is one line: the file (and table or field), what was found, what was expected. The
    command lines print it and exit with status 2.
    """
