"""The picture that came back: experiments on text-to-image models. They take a model of pictures, and a manifest of its training pictures if there is one."""

from lab.events import Curves, Grid, Pictures, Scatter, Table, Unlearning

TAKES = "pictures"  # of the models that the catalog knows
ENDS_WITH = (Pictures, Curves, Grid, Scatter, Table, Unlearning)
