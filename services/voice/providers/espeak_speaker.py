"""One text through espeak-ng, as a program of its own: text on stdin, samples on stdout.

The library keeps its state in globals, is not re-entrant and may crash or hang on what it is told;
in a process of its own it can be killed, and takes nothing along. This file imports nothing of ours
and nothing installed, so that it starts in a few hundredths of a second.

    python -I -S espeak_speaker.py LIBRARY DATA VOICE WORDS_A_MINUTE

The calls are those of its documented header (https://github.com/espeak-ng/espeak-ng,
src/include/espeak-ng/speak_lib.h).
"""

import ctypes
import os
import resource
import sys

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples come to the callback, before the call returns
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_RATE = 1  # espeakRATE
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
_SAMPLES_A_SECOND = 22_050
_BUFFER_MS = 100
_GO_ON, _STOP = 0, 1

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


# Nothing of a text is left in a dump of a crash, no file is written, and no text takes all memory.
_LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_AS: 1 << 30,
}


def keep_within_limits() -> None:
    """For this process, and for good."""
    for which, most in _LIMITS.items():
        resource.setrlimit(which, (most, most))


def _speak(library: str, data: str, voice: str, words_a_minute: str, text: bytes) -> int:
    espeak = ctypes.CDLL(library)
    rate = espeak.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data.encode(), _DONT_EXIT)
    if rate != _SAMPLES_A_SECOND:
        return 2
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        return 3
    espeak.espeak_SetParameter(_RATE, int(words_a_minute), 0)
    heard = _Callback(_pass_on)
    espeak.espeak_SetSynthCallback(heard)
    size = ctypes.c_size_t(len(text) + 1)
    spoken = espeak.espeak_Synth(text, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
    return 0 if spoken == 0 else 4


def _pass_on(samples: object, count: int, _events: object) -> int:
    if not samples or count <= 0:
        return _GO_ON
    left = memoryview(ctypes.string_at(samples, 2 * count))  # type: ignore[arg-type]
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError:
        return _STOP
    return _GO_ON


if __name__ == "__main__":
    keep_within_limits()
    _library, _data, _voice, _words_a_minute = sys.argv[1:]
    sys.exit(_speak(_library, _data, _voice, _words_a_minute, sys.stdin.buffer.read()))
