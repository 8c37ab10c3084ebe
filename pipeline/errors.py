"""Errors of the pipeline.

PipelineError
 |-- PromptError        a prompt list, or one prompt, cannot be used
 |-- PackError          a model pack is missing, damaged or incomplete
 |-- CheckpointError    a foreign checkpoint cannot be read, is refused, or does not fit
 |-- ParameterError     a command was called with a parameter that it does not take, or with a bad value
 |-- DeviceError        the device that was asked for is not there
 |-- MissingInputError  a stage was asked to run before the stage it reads from
 |    '-- SetAsideError  what it reads from is there but for a shard that failed
 |-- ShardError         one shard failed; the others go on
 '-- IncompleteError    a stage is short of shards that the next one cannot do without
"""


class PipelineError(Exception):
    """Base of everything the pipeline raises on purpose."""


class PromptError(PipelineError):
    """A prompt list, or one prompt of it, cannot be used; the message names file, row and remedy."""


class PackError(PipelineError):
    """A model pack is missing, damaged or lacks a model that was asked for."""


class CheckpointError(PipelineError):
    """A foreign checkpoint cannot be read, is refused, or does not fit; the message is one line."""


class MissingInputError(PipelineError):
    """A stage's input is not there; the message names the flow that makes it."""


class SetAsideError(MissingInputError):
    """Rows are asked for that a shard set aside was to make; the message says why that one failed."""


class ShardError(PipelineError):
    """One shard could not be made; the others go on.

    Attributes:
        stage: name of the stage.
        shard: number of the shard, from 0.
        reason: what went wrong, in one line.
    """

    def __init__(self, stage: str, shard: int, reason: str) -> None:
        super().__init__(stage, shard, reason)  # as they are, so that the error can be pickled
        self.stage, self.shard, self.reason = stage, shard, reason

    def __str__(self) -> str:
        return f"{self.stage} shard {self.shard}: {self.reason}"


class IncompleteError(PipelineError):
    """A stage is short of shards that failed, and the next stage needs them all; the message says which and why."""


class ParameterError(PipelineError):
    """A command's parameter is unknown, missing or out of range; the message names each."""


class DeviceError(PipelineError):
    """The device that was asked for is not there; the message says which are."""
