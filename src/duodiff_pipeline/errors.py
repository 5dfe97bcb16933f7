"""Mistakes that whoever called can mend."""


class InputError(ValueError):
    """Bad input; its message is one line that names the thing and the way out, and all that a user is shown."""
