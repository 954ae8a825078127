"""Who talks to whom: where the heads of a model look, what they carry, and what changes with memory."""

from lab.events import Curves, Grid, Scatter, Table

ENDS_WITH = (Grid, Curves, Scatter, Table)
