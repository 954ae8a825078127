"""Where does it live? Experiments about one fact, or many, and where a network holds it; each ends with a map, a grid, curves or points."""

from lab.events import Curves, Grid, Scatter, TraceMap

ENDS_WITH = (TraceMap, Grid, Curves, Scatter)
