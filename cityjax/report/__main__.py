"""`python -m cityjax.report RUN [RUN ...]`: rebuild one run's report, or compare several runs."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cityjax.report.compare import compare_runs, comparison_table, write_comparison
from cityjax.report.record import RunFolderError, load_run
from cityjax.report.tables import result_table
from cityjax.terminal import Parser, standard_output


@standard_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 after one line on standard error."""
    parser = Parser(prog="python -m cityjax.report", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--output",
        metavar="FILE.html",
        help="where several runs are compared (default: comparison.html)",
    )
    options = parser.parse_args(arguments)
    console = Console()
    try:
        if len(options.runs) == 1:
            if options.output is not None:
                parser.error("--output is for comparing two or more runs")
            from cityjax.report.html import write_report

            path = write_report(options.runs[0])
            console.print(result_table(load_run(options.runs[0]).result))
        else:
            output = Path(options.output or "comparison.html")
            if output.suffix != ".html":
                parser.error(f"--output={output}: expected a name ending in .html")
            comparison = compare_runs(options.runs)
            path = write_comparison(comparison, output)
            console.print(comparison_table(comparison))
    except RunFolderError as error:
        parser.error(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
