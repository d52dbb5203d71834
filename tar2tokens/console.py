"""Where the program `tar2tokens` begins: our packages are found before anything of them is imported."""

from __future__ import annotations

from typing import NoReturn

from tar2tokens import own_packages_first

__all__ = ["main"]

own_packages_first()  # here and not in main: processes that a command starts import this module, and do not call main


def main(name: str = "tar2tokens") -> NoReturn:
    """The program, called `name`."""
    from tar2tokens.commands import run

    run(name)


if __name__ == "__main__":
    main("python -m tar2tokens")
