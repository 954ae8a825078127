"""Who talks to whom? Experiments on the attention of a model: what its heads do, and what they share; each ends with a grid, curves, points or a table."""

from lab.events import Curves, Grid, Scatter, Table

ENDS_WITH = (Grid, Curves, Scatter, Table)
