"""Every method that is compared, in the order of the tables; the specification comes first."""

from benchmarks.ours import OURS, SPECIFICATION
from benchmarks.peers import PEERS

CANDIDATES = (SPECIFICATION, *PEERS, *OURS)
LABELS = {candidate.name: candidate.label for candidate in CANDIDATES}
