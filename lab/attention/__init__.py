"""Who reads whom? Experiments about attention: maps, heads, parts of a text, and how they come into being."""

from lab.events import AttentionMap, Curves, Grid, Scatter, Table

ENDS_WITH = (AttentionMap, Grid, Curves, Scatter, Table)
