"""What can go wrong, said so that it can be mended: the fault, its usual cause, the cure. Imports nothing heavy."""

from __future__ import annotations


class LabError(Exception):
    """`fault` is what is wrong, `cause` why it usually is, `cure` what to do. `str()` is the three as sentences in one line."""

    def __init__(self, fault: str, cause: str = "", cure: str = "") -> None:
        super().__init__(fault, cause, cure)
        self.fault, self.cause, self.cure = fault, cause, cure

    def __str__(self) -> str:
        return " ".join(sentence(part) for part in (self.fault, self.cause[:1].upper() + self.cause[1:], self.cure) if part.strip())


class BadInput(LabError):
    """Someone's input is at fault. `setting` names the setting, so that a form can show the message beside its control."""

    def __init__(self, fault: str, cause: str = "", cure: str = "", *, setting: str = "") -> None:
        super().__init__(fault, cause, cure)
        self.setting = setting


class ModelError(BadInput):
    """A model cannot be had. Each usual cause has a class of its own below; `setting` is "model" unless said otherwise."""

    def __init__(self, fault: str, cause: str = "", cure: str = "", *, setting: str = "model") -> None:
        super().__init__(fault, cause, cure, setting=setting)


class NetworkMissing(ModelError):
    """The model is not on this machine, and it cannot be fetched."""


class UnknownModel(ModelError):
    """Nothing goes by that name."""


class GatedModel(ModelError):
    """The model's owner lets in only those who have signed in and accepted its terms."""


class PickleOnly(ModelError):
    """The weights come only in formats that can run code when they are read."""


class NoTokenizer(ModelError):
    """There is no tokenizer beside the weights, or none that fits them."""


class NotADecoder(ModelError):
    """This is no causal language model that the installed transformers knows."""


class NotAPipeline(ModelError):
    """This is no text-to-image pipeline that the lab reads."""


class RemoteCode(ModelError):
    """The model needs Python that came with its weights."""


class QuantizedWeights(ModelError):
    """The weights are stored quantized, so they cannot be edited as numbers."""


class BrokenWeights(ModelError):
    """A file of the model is damaged, missing, or belongs to another model."""


class TooLarge(ModelError):
    """The model does not fit the memory or the disk of this machine."""


def sentence(text: str) -> str:
    """`text` on one line, ending in a stop."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else line + "."
