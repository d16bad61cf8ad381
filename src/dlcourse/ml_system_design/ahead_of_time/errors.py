"""Why a compiled model was not written, not loaded or not run: one class a reason."""


class CompiledModelError(ValueError):
    """Of a compiled model; its subclasses say which."""


class NotEqualToEager(CompiledModelError):
    """The compiled model does not answer as the model does; nothing was written."""


class DamagedPackage(CompiledModelError):
    """The file is damaged, or none that ``compile_ahead_of_time`` wrote; no code of it was run."""


class WrongEnvironment(CompiledModelError):
    """The file was compiled for another torch, device or processor; no code of it was run."""


class WrongInputs(CompiledModelError):
    """The inputs have not the number, dtypes, shapes or device that the model was compiled for."""
