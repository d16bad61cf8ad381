from .audioset.log_mel import LogMelSpectrogram as LogMelSpectrogram
