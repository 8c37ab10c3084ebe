"""Errors of the pipeline.

PipelineError
 |-- PromptError        a prompt list, or one prompt, cannot be used
 |-- PackError          a model pack is missing, damaged or incomplete
 |-- CheckpointError    a foreign checkpoint cannot be read, is refused, or does not fit
 |-- ParameterError     a command was called with a parameter that it does not take, or with a bad value
 |-- DeviceError        the device that was asked for is not there
 '-- MissingInputError  a stage was asked to run before the stage it reads from
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


class ParameterError(PipelineError):
    """A command's parameter is unknown, missing or out of range; the message names each."""


class DeviceError(PipelineError):
    """The device that was asked for is not there; the message says which are."""
