"""`python -m tar2tokens`, where the folder of scripts is not on the PATH."""

import runpy

if __name__ == "__main__":
    # Not a call: a process that a command starts imports the main module again, but never one called __main__.
    runpy.run_module("tar2tokens.console", run_name="__main__", alter_sys=True)
