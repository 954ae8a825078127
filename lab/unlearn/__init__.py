"""Take it out: each experiment takes a model and what it is to forget, and yields edited models as it goes; it ends with the curves of its run."""

from lab.events import Unlearning

ENDS_WITH = (Unlearning,)
