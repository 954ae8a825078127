"""The picture that came back: experiments on text-to-image models. They take a model of pictures, and a manifest of its training pictures if there is one."""

from lab.events import Curves, Grid, Pictures, Scatter, Table

TAKES = "pictures"
ENDS_WITH = (Pictures, Curves, Grid, Scatter, Table)
TASK = "pictures"  # of the models that they take: see models.catalog
