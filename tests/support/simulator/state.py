"""Everything that outlives one request."""

from dataclasses import dataclass, field

from tests.support.simulator.faults import FaultBook
from tests.support.simulator.headers import LastHeaders
from tests.support.simulator.ledger import Ledger
from tests.support.simulator.options import Options


@dataclass(slots=True)
class Simulator:
    defaults: Options = field(default_factory=Options)
    faults: FaultBook = field(default_factory=FaultBook)
    ledger: Ledger = field(default_factory=Ledger)
    headers: LastHeaders = field(default_factory=LastHeaders)
