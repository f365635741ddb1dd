"""Make, measure and freeze the Toytown data set.

Set up:  pip install -e .[toytown]      (mitsuba and opencv; LLVM 16 or later doubles the speed)

    python -m tools.toytown make --work /tmp/toytown/work --jobs 2
    python -m tools.toytown baselines
    python -m tools.toytown contact-sheet --split test --out sheet.png
    python -m tools.toytown freeze --work /tmp/toytown/work
    python -m tools.toytown verify
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .layout import SPLITS

DATA = Path(__file__).resolve().parents[2] / "indiret" / "data" / "toytown"


def main(arguments=None):
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.toytown",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", choices=("make", "baselines", "freeze", "verify", "contact-sheet")
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("/tmp/toytown/work"),
        help="rendered pictures, outside the repository",
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, help="the data folder (default: %(default)s)"
    )
    parser.add_argument(
        "--split", choices=SPLITS, action="append", help="only this split; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument(
        "--limit", type=int, help="only the first subjects of each split, to look at"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("/tmp/toytown/sheet.png"), help="the contact sheet's file"
    )
    options = parser.parse_args(arguments)
    splits = options.split or list(SPLITS)
    if options.command == "make":
        from .make import assemble, make

        make(options.work, splits, options.jobs, options.limit)
        if options.limit is None:
            assemble(options.work, options.data, splits)
    elif options.command == "baselines":
        from .measures import baselines

        for split in options.split or ["test", "validation"]:
            print(split, json.dumps(baselines(options.data / split), indent=1))
    elif options.command == "contact-sheet":
        from .card import contact_sheet

        contact_sheet(options.data, splits, options.out)
        print(options.out)
    elif options.command == "freeze":
        from .card import freeze

        freeze(options.work, options.data)
    else:
        from .card import verify

        wrong = verify(options.data)
        print("\n".join(wrong) if wrong else "every file agrees with MANIFEST.sha256")
        return 1 if wrong else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
