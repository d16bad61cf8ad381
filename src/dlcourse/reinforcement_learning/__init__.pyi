from .sim_to_real.gap import sim_to_real_gap as sim_to_real_gap
from .sim_to_real.identification import SystemIdentifier as SystemIdentifier
from .sim_to_real.randomization import DomainRandomization as DomainRandomization
