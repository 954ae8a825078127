"""Where does it live? Experiments take a prompt, a subject in it and an answer; each ends with a `TraceMap`."""

from lab.events import TraceMap

ENDS_WITH = TraceMap
