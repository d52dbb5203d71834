"""Command-line options stated once, as the fields of a struct: name, type, default, help.

    class Where(msgspec.Struct, frozen=True, kw_only=True):
        output_dir: Annotated[Path, Option("the run directory")] = Path("tokens")

    @with_options
    def command(where: Where, dry_run: bool = False) -> int: ...

YAML can be read as the same struct, and `option_words` turns it back into the words of a command line.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import typer

from audio_tokenizers.errors import UsageError
from jobs.commands import number_parser

__all__ = ["Only", "Option", "option_words", "with_defaults", "with_options"]

AnyStruct = TypeVar("AnyStruct", bound=msgspec.Struct)


class Option(NamedTuple):
    """Metadata of a field that is an option; other fields are none."""

    help: str
    group: str | None = None
    """The heading of --help that it stands under."""
    flags: tuple[str, ...] = ()
    """Its names where they are not the field's: `("--list", "--tar-list")`, or `("--yes/--no",)`."""
    parse: Callable[[Any], object] | None = None
    """Makes the value of what typer gives: of a list of texts for a mapping, which needs it."""
    show: Callable[[str, Any], str] = "{}={}".format
    """One item of a mapping, as a text that `parse` takes."""
    expected: str | None = None
    """What the option of a float takes, for messages about a value with a unit."""


class Only(NamedTuple):
    """Metadata of a command's parameter: which of the struct's options the command has. The others keep their defaults."""

    names: tuple[str, ...]


class _Field(NamedTuple):
    """A field as an option. `kinds` are the alternatives of its type without None, `least` is the bound of a number."""

    name: str
    option: Option
    default: Any
    flags: tuple[str, ...]
    kinds: tuple[type, ...]
    least: float | None

    def parameter(self) -> inspect.Parameter:
        """Of the command's signature, as typer reads it."""
        kind: Any = str
        default, least = self.default, None
        if get_origin(self.kinds[0]) in (tuple, dict):
            kind, default = list[str], None
        elif len(self.kinds) == 1 and self.kinds[0] in (bool, int, float, Path):
            kind, least = self.kinds[0], self.least
        settings: dict[str, Any] = {"help": self.option.help, "rich_help_panel": self.option.group, "min": least}
        if self.option.expected is not None:
            settings |= {"parser": number_parser(self.option.expected, self.least), "metavar": "FLOAT", "min": None}
        option = typer.Option(*self.flags, **settings)
        annotation: Any = Annotated[kind if default is not None else kind | None, option]
        default = inspect.Parameter.empty if default is msgspec.NODEFAULT else default
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def read(self, given: Any) -> object:  # noqa: ANN401 (whatever typer makes of a parameter's type)
        """The field's value for what typer gives. Raises UsageError that says what is expected."""
        if given is None or given == []:
            return self.default
        if self.option.parse is not None:
            return self.option.parse(given)
        if isinstance(given, str) and str not in self.kinds:
            return self._choose(given)
        return tuple(given) if isinstance(given, list) else given

    def _choose(self, text: str) -> int | str:
        """One of the words of a Literal, or a number."""
        words = [str(word) for kind in self.kinds if get_origin(kind) is Literal for word in get_args(kind)]
        if text in words:
            return text
        if int not in self.kinds:
            raise UsageError(f"{self.flags[0]} {text!r}: expected {', '.join(words[:-1])} or {words[-1]}")
        if not (text.isascii() and text.isdecimal()) or int(text) < (self.least or 0):
            raise UsageError(f"{self.flags[0]} {text}: expected a number from {self.least or 0}, or {' or '.join(words)}")
        return int(text)


@functools.cache
def _fields(struct: type[msgspec.Struct]) -> tuple[_Field, ...]:
    hints = get_type_hints(struct, include_extras=True)
    found = []
    for field in msgspec.structs.fields(struct):
        for option in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(option, Option):
                default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
                flags = option.flags or ("--" + field.name.replace("_", "-"),)
                found.append(_Field(field.name, option, default, flags, *_alternatives(hints[field.name])))
    return tuple(found)


def _alternatives(kind: Any) -> tuple[tuple[type, ...], float | None]:  # noqa: ANN401 (a type expression)
    """`Annotated[int, Meta(ge=1)] | Literal["auto"] | None` -> `((int, Literal["auto"]), 1)`."""
    if get_origin(kind) is Annotated:
        kinds, least = _alternatives(kind.__origin__)
        return kinds, next((meta.ge for meta in kind.__metadata__ if isinstance(meta, msgspec.Meta)), least)
    if get_origin(kind) not in (Union, UnionType):
        return ((kind,) if kind is not NoneType else ()), None
    parts = [_alternatives(part) for part in get_args(kind)]
    return tuple(one for kinds, _ in parts for one in kinds), next((least for _, least in parts if least is not None), None)


def with_options(function: Callable[..., int]) -> Callable[..., int]:
    """A command with an option for each field of its parameters that are structs; these are made when it is called.

    A parameter of type `Annotated[STRUCT, Only(NAMES)]` takes some of the options. An impossible value raises UsageError.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters: list[inspect.Parameter] = []
    structs: dict[str, tuple[type[msgspec.Struct], list[_Field]]] = {}
    for name, parameter in signature.parameters.items():
        struct = parameter.annotation.__origin__ if get_origin(parameter.annotation) is Annotated else parameter.annotation
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
            only = [one for one in getattr(parameter.annotation, "__metadata__", ()) if isinstance(one, Only)]
            structs[name] = struct, [one for one in _fields(struct) if not only or one.name in only[0].names]
            parameters += [field.parameter() for field in structs[name][1]]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def command(**given: object) -> int:
        for name, (struct, fields) in structs.items():
            given[name] = struct(**{field.name: field.read(given.pop(field.name)) for field in fields})
        return function(**given)

    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def with_defaults(asked: AnyStruct, defaults: msgspec.Struct) -> AnyStruct:
    """`asked`, with the values of `defaults` for options that were not given."""
    missing = [one.name for one in _fields(type(asked)) if getattr(asked, one.name) == one.default]
    return msgspec.structs.replace(asked, **{name: getattr(defaults, name) for name in missing if hasattr(defaults, name)})


def option_words(given: msgspec.Struct, usual: msgspec.Struct) -> list[str]:
    """The words of a command line for what `given` says and `usual`, which has the same options, does not.

    None is never said, nor False for an option that has no opposite.
    """
    words: list[str] = []
    for field in _fields(type(given)):
        value, known = getattr(given, field.name), getattr(usual, field.name)
        flag, _, opposite = field.flags[0].partition("/")
        if value is None or value == known:
            continue
        if isinstance(value, bool):
            words += [flag] if value else [opposite] if opposite else []
            continue
        if isinstance(value, dict):
            value = tuple(field.option.show(key, item) for key, item in value.items() if (key, item) not in known.items())
        words += [word for one in (value if isinstance(value, tuple) else (value,)) for word in (flag, str(one))]
    return words
