"""What a user can fix: one base class, told as one message with exit code 1. Anything else is a traceback."""


class UserError(Exception):
    """Something that a user can fix. The message says what is wrong, where, and what to do."""


class ConfigError(UserError):
    """The configuration is wrong; the message has one line per problem: file, key, reason."""


class ContractError(UserError):
    """Rows, or the SQL that made them, break a contract in a way that must stop the pipeline."""


class MissingTableError(UserError):
    """A table that is asked for does not exist; the message names those that do, or the pipeline to run first."""


class GoneError(UserError):
    """What a table has held once is not kept any more; the message says what to do."""


class ForbiddenError(UserError):
    """What an environment may not do: write another one's tables, or run a pipeline that its settings refuse."""


class QueryError(UserError):
    """SQL that does not run; the message is the engine's."""


class StorageError(UserError):
    """A disk, an object store or MLflow's database does not do what it is asked, or holds something damaged; the
    message has its address, what it answers and, where that is known, what to do."""
