"""How far back can it remember? Experiments about what a model carries through its context, and about memories beside it."""

from lab.events import Curves, Grid, Scatter, Table

ENDS_WITH = (Curves, Grid, Scatter, Table)
