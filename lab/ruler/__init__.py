"""How far is it from never having learned? The full model at one end, oracles at the other, the spread between oracles as the noise."""

from lab.events import Curves, Table

ENDS_WITH = (Table, Curves)
