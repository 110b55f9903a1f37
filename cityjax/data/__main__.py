"""`python -m cityjax.data [list | fetch | check | describe]`: the data sets, and their files."""

import sys
from collections.abc import Sequence

from cityjax.data import files
from cityjax.data.catalog import dataset, datasets
from cityjax.data.dataset import Dataset
from cityjax.data.files import DataError, DataFile
from cityjax.errors import UserError
from cityjax.terminal import Parser, standard_output


@standard_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 where a file is absent or altered, 2 after an error."""
    parser = Parser(prog="python -m cityjax.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="name the data sets (so does no command)")
    texts = {
        "fetch": "download what is not here, or say how to get it",
        "check": "compare the files with their checksums",
        "describe": "span, step, sensors, missing values, protocols",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "names", nargs="+", metavar="NAME", help="a data set, ./mine.py, or a table or folder"
        )
        if name == "describe":
            command.add_argument("--figure", metavar="FILE.png", help="draw it, too")
    options = parser.parse_args(arguments)
    try:
        if options.command in (None, "list"):
            _list()
            return 0
        found = [dataset(name) for name in options.names]
        if options.command == "describe":
            if options.figure is not None and len(found) > 1:
                parser.error("--figure takes one data set")
            for one in found:
                _describe(one, options.figure)
            return 0
        run = {"fetch": _fetch, "check": _check}[options.command]
        return max([run(one) for one in found])
    except UserError as error:
        parser.error(str(error))


def _list() -> None:
    found = [dataset(name) for name in datasets()]
    rows = [("name", "domain", "where", "what")]
    rows += [(one.name, one.domain, where(one), one.title) for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        print("  ".join([*cells, row[-1]]))
    print("\npython -m cityjax.data [fetch | check | describe] NAME")


def where(one: Dataset) -> str:
    """Where the files of a data set are: packaged, found, to fetch, or by hand."""
    needed = [file for file in one.files if not file.optional]
    if all(file.packaged is not None for file in needed):
        return "packaged"
    missing = [file for file in needed if files.locate(file) is None]
    if not missing:
        return "found"
    return "to fetch" if all(file.url for file in missing) else "by hand"


def _fetch(one: Dataset) -> int:
    if not one.files:
        print(f"{one.name}: nothing to fetch")
    by_hand = []
    for file in one.files:
        if file.url is None and files.locate(file) is None:
            by_hand.append(file)
            continue
        files.read(file)
        print(f"{_name(file)}: {files.locate(file)}")
    if not by_hand:
        return 0
    if all(file.optional for file in by_hand):
        print(f"{one.name} is there. What else it can have, got by hand:")
    else:
        print(f"{one.name} cannot be fetched whole. Get it by hand:")
        for line in one.steps.splitlines():
            print(f"  {line}")
    for file in by_hand:
        optional = " (optional)" if file.optional else ""
        sha256 = f"\n    sha256 of the content {file.sha256}" if file.sha256 else ""
        if file.original:
            sha256 = f"\n    sha256 of the content {file.original}, where it was not saved anew"
        print(f"  {file.name}{optional} from {file.source}")
        print(f"    into {files.cache_folder() / file.dataset}, plain, .gz or .xz{sha256}")
    return int(any(not file.optional for file in by_hand))


def _check(one: Dataset) -> int:
    if not one.files:  # made, or read as it was found
        print(f"ok       {one.name}")
    bad = 0
    for file in one.files:
        path = files.locate(file)
        if path is None:
            print(f"absent   {_name(file)}{' (optional)' if file.optional else ''}")
            bad |= not file.optional
            continue
        try:
            digest = files.digest(file)
        except DataError as error:
            print(f"altered  {_name(file)}: {error}")
            bad = 1
        else:
            line = f"{_name(file)}: {path}, sha256 {digest}"
            if file.sha256 or digest == file.original:
                print(f"ok       {line}")
            elif file.original:
                print(f"other    {line}; of the original {file.original}: saved anew, or altered")
            else:
                print(f"unknown  {line}")
    return int(bad)


def _describe(one: Dataset, path: str | None) -> None:
    from cityjax.data import describe

    series = one.read()
    print(describe.summary(one, series))
    if path is not None:
        print(f"figure: {describe.save(describe.figure(one, series), path)}")


def _name(file: DataFile) -> str:
    return f"{file.dataset}/{file.name}"


if __name__ == "__main__":
    sys.exit(main())
