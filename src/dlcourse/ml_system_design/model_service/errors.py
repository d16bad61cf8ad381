"""Why a request got no answer: one class a reason, so that a server can choose a status for each.

All are ``ServiceError``. Beside each stands the HTTP status that says the same (RFC 9110; 429 is
RFC 6585).
"""


class ServiceError(RuntimeError):
    """A request to a ``ModelService`` that was not answered."""


class ServiceFull(ServiceError):
    """The queue is full: come back later (503, or 429 where one client causes it)."""


class ServiceTimeout(ServiceError):
    """The answer did not come in time (504)."""


class ServiceClosed(ServiceError):
    """The service is not open: not yet, or no longer (503)."""


class ModelError(ServiceError):
    """``predict_fn`` raised on this request (500). What it raised is the ``__cause__``."""


class BadModelOutput(ModelError):
    """``predict_fn`` returned what can't be one answer for each request (500)."""


class ModelProcessError(RuntimeError):
    """The model of a ``ModelProcess`` raised; type, text and traceback are those of its process.

    No ``ServiceError``: behind a ``ModelService`` it is the cause of a ``ModelError``.
    """


class ModelProcessDied(ModelProcessError):
    """The process ended during the call, as after a crash; another one was started."""


class ModelProcessTimeout(ModelProcessError):
    """The call took too long; its process was killed and another one started."""
