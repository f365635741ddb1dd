"""The commands by name, and how they end: well, refused in one sentence, or interrupted.

A command's module is imported when the command is asked for, so that help comes at once.
"""

import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

from indiret.cli.progress import ProgressLines
from indiret.images import printable

COMMANDS = {  # module, where the command is NAME_command, and help by name
    "search": ("search", "Rank a folder of photos for a query photo."),
    "explain": ("explain", "Show which patches of two photos matched."),
    "index": ("index", "Encode a folder of photos once; goes on if killed."),
    "duplicates": ("index", "Group the photos of a folder by what they show."),
    "evaluate": ("evaluate", "Measure a method on a data set."),
    "compare": ("evaluate", "Measure many methods; goes on if killed."),
    "methods": ("evaluate", "List what --method takes."),
    "doctor": ("doctor", "Say whether this machine has what is needed."),
    "train": ("train", "Train a network; resumes where it was killed."),
    "data": ("data", "Fetch, verify or describe a benchmark's data."),
    "regions": ("data", "Propose regions of interest; goes on if killed."),
    "reproduce": ("experiments", "Do a grid of runs; goes on if killed."),
    "report": ("experiments", "Set a grid beside the paper, claim by claim."),
    "study": ("experiments", "Compare attention and feedback; goes on if killed."),
    "audit": ("experiments", "Measure what leaks from training; goes on if killed."),
    "robustness": ("experiments", "Change one thing at a time; goes on if killed."),
    "ablate": ("experiments", "Change one choice at a time; goes on if killed."),
}
_WITHOUT_VALUE = {"--scheduler": "local"}  # what an option means that is given without its value


class Command(TyperCommand):
    """Takes ``--methods A B`` as ``--methods A --methods B``, and ``--scheduler`` alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does, when every value has its option before it."""
        lists = {name for parameter in self.params if parameter.multiple for name in parameter.opts}
        spelt: list[str] = []
        option = ""
        for argument, after in zip(args, [*args[1:], "--"], strict=False):
            if argument.startswith("--"):
                option = argument.partition("=")[0]
            elif option in lists and spelt[-1] != option:
                spelt.append(option)
            spelt.append(argument)
            if argument in _WITHOUT_VALUE and after.startswith("--"):
                spelt.append(_WITHOUT_VALUE[argument])
        return super().parse_args(ctx, spelt)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input gets one sentence on standard error and exit status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Threads that wait for each other sleep, and do not spin; torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may be no text at all
    terminal = sys.stderr.isatty()
    try:
        group = build_group(arguments[0] if arguments else "")
        with (
            redirect_stderr(sys.stderr if terminal else ProgressLines(sys.stderr)),
            warnings.catch_warnings(),
        ):
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            with group.make_context("indiret", arguments) as context:
                group.invoke(context)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the list has enough of it
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 141
    except typer.Exit as done:  # after help
        return done.exit_code
    except (typer.TyperException, ValueError, OSError, ImportError) as error:
        is_usage = isinstance(error, typer.TyperException)
        said = _usage(error, group, arguments) if is_usage else error
        print(f"indiret: {printable(str(said))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("indiret: interrupted; what was finished is kept.", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, *_: object) -> None:
    """A warning in one line, without the code it comes from."""
    print(f"indiret: {printable(str(message))}", file=sys.stderr)


def build_group(chosen: str) -> Any:
    """All commands with their help, of which the chosen one can be run."""
    about = "Image retrieval that shows which patches matched which."
    app = typer.Typer(help=about, add_completion=False, suggest_commands=False)
    for name, (module, text) in COMMANDS.items():
        file = import_module(f"indiret.cli.{module}") if name == chosen else None
        run = getattr(file, f"{name}_command") if file else lambda: None
        app.command(name, help=text, rich_help_panel=module.capitalize(), cls=Command)(run)
    return typer.main.get_command(app)


def _usage(error: Any, group: Any, arguments: list[str]) -> str:
    """What is wrong with the command line, and what could stand there."""
    said = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    said = said[0].lower() + said[1:]
    if said.startswith("invalid value"):
        return f"{said}."
    if not arguments or arguments[0] not in group.commands:
        return f"{said}; choose from {', '.join(group.commands)}."
    parameters = group.commands[arguments[0]].params
    names = [one.opts[0] if one.opts[0].startswith("-") else one.metavar for one in parameters]
    return f"{said}; `indiret {arguments[0]}` takes {', '.join(names)}."
