"""Is it memorized? Experiments that ask which items a model can recite, and how well it hides that; each ends with a survey of many items, one
completion token by token, or a table. The items are those of `lab.items`."""

from lab.events import Completion, Survey, Table

ENDS_WITH = (Survey, Completion, Table)
