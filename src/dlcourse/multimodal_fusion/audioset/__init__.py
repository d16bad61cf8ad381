"""Section 121.1b: labels for recorded sound, from the waveform and from its log-mel spectrogram."""
