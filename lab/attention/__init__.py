"""Who talks to whom? Experiments about attention, within a text and over training; each ends with a grid, curves, points or a table."""

from lab.events import Curves, Grid, Scatter, Table

ENDS_WITH = (Grid, Curves, Scatter, Table)
