"""The root of the errors that stop the service from starting."""


class StartError(Exception):
    """The service cannot start. The text is one sentence, or one a line, for the operator."""


class SettingsInvalid(StartError):
    """Environment variables have values that cannot be used: a sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
