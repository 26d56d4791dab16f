"""The command ``almadet``."""

import signal
import threading

# Ctrl-C while the libraries below are loaded ends the program as it ends any other, without a traceback of an import.
_calm = threading.current_thread() is threading.main_thread() and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if _calm:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    from napari_almadet.cli.app import app
finally:
    if _calm:
        signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["app"]
