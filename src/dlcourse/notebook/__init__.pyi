from .prose import ClaimError as ClaimError
from .prose import claim as claim
from .prose import say as say
from .recorded import keep as keep
from .recorded import load_ipython_extension as load_ipython_extension
from .recorded import recorded as recorded
from .source_code import show_source as show_source
from .widgets import explore as explore
