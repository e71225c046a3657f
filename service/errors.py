"""The base class of the errors that stop the service from starting."""


class StartError(Exception):
    """The service cannot start. The text tells the operator why, in one sentence or one sentence a line."""


class SettingsInvalid(StartError):
    """Environment variables have invalid values. ``problems`` has a sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
