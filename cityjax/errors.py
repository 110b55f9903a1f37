"""The one kind of error that a user can mend."""


class UserError(ValueError):
    """What was asked for cannot be done; the message is one line that says why and what to do.

    The command line prints it and exits with 2; every other exception is a bug and keeps its
    traceback.
    """
