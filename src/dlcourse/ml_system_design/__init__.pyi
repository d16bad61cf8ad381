from .monitoring.blocks import autocorrelation_time as autocorrelation_time
from .monitoring.corrections import adjust_p_values as adjust_p_values
from .monitoring.drift import DriftDetector as DriftDetector
from .monitoring.drift import DriftReport as DriftReport
from .monitoring.drift import FeatureTest as FeatureTest
from .monitoring.drift import population_stability_index as population_stability_index
