"""What keeps the package one-directional, lazy and small, read from its source."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cityjax"

# A module imports only from what stands left of it or above it: between `|` strictly, and so
# within a group, except that the modules of one package may import each other without a cycle.
ORDER = """
names errors terminal lettering | ops | metrics | forecast_metrics
| losses | data | models | optimizers | learner
| learners | parallel dispatch seeds | checkpoint | fit | report | tasks
| config choices grammar registry overrides help
| forecasters forecasting
| folder progress signals process train conclude run
"""
RANK = {name: place for place, name in enumerate(ORDER.replace("|", " ").split())}

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))
TREES = {path.stem: ast.parse(path.read_text()) for path in EXPERIMENTS}


def runtime_nodes(node):
    """Every node but those below `if TYPE_CHECKING`, function bodies included."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = node.orelse
    else:
        yield node
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from runtime_nodes(child)


def imports(module, tree):
    """Every module of cityjax that a module imports, at any depth; packages by their __init__."""
    found = set()
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            # `from cityjax.data import mnist` imports a module, `... import Source` a name of one.
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        for name in names:
            for known in (name, f"{name}.__init__"):
                if known in SOURCES:
                    found.add(known)
    return found - {"cityjax.__init__", module}


IMPORTS = {module: imports(module, tree) for module, tree in SOURCES.items()}


def layer(module):
    """`cityjax.data.mnist` lies in the layer `data`."""
    return module.split(".")[1]


def violations(graph):
    return [
        f"{module} imports {imported}"
        for module, names in graph.items()
        for imported in names
        if layer(module) != layer(imported) and RANK[layer(module)] < RANK[layer(imported)]
    ]


def test_every_module_has_a_place_in_the_order():
    modules = {layer(module) for module in SOURCES} - {"__init__"}
    assert modules == set(RANK)


def test_the_order_is_the_one_written_down():
    (written,) = (ROOT / "docs" / "adr" / "005-layers.md").read_text().split("```")[1::2]
    assert written == ORDER


def test_imports_point_one_way():
    assert violations({m: names for m, names in IMPORTS.items() if layer(m) != "__init__"}) == []


def test_no_module_imports_itself_through_others():
    # Raises CycleError, which names the cycle. A package's __init__ stands for its modules' names.
    assert len(list(graphlib.TopologicalSorter(IMPORTS).static_order())) == len(SOURCES)


def test_the_walk_sees_imports_in_functions_and_not_those_for_types():
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import cityjax.run\n"
        "def f():\n    from cityjax import fit, metrics\n"
        "import cityjax.data.mnist\n"
        "from cityjax.learners import supervised\n"
    )
    found = imports("cityjax.losses", tree)
    assert found == {
        "cityjax.fit",
        "cityjax.metrics",
        "cityjax.data.mnist",
        "cityjax.learners.__init__",
        "cityjax.learners.supervised",
    }
    wrong = violations({"cityjax.losses": found})
    assert {line.split()[-1] for line in wrong} == found - {"cityjax.metrics"}


def identifiers(tree):
    """Every name in the code of a file: not in its comments or its strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg


def test_only_parallel_names_devices_and_meshes():
    names = {"pmap", "Mesh", "shard_map"}
    users = {module for module, tree in SOURCES.items() if names & set(identifiers(tree))}
    assert users == {"cityjax.parallel"}


def test_configs_are_known_to_the_command_line_only():
    # Everything else takes plain arguments.
    allowed = {
        "choices",
        "grammar",
        "registry",
        "overrides",
        "help",
        "forecasting",
        "folder",
        "train",
        "conclude",
        "run",
    }
    users = {layer(module) for module, names in IMPORTS.items() if "cityjax.config" in names}
    assert users <= allowed


def axis_mentions(tree):
    """Mentions of axis_name other than in a `__call__`'s signature and as `axis_name=axis_name`."""
    permitted = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__call__":
            permitted |= {a for a in node.args.kwonlyargs if a.arg == "axis_name"}
            for inner in ast.walk(node):
                if (
                    isinstance(inner, ast.keyword)
                    and inner.arg == "axis_name"
                    and isinstance(inner.value, ast.Name)
                    and inner.value.id == "axis_name"
                ):
                    permitted |= {inner, inner.value}
    return [
        getattr(node, "lineno", 0)
        for node in ast.walk(tree)
        if node not in permitted
        and "axis_name"
        in (getattr(node, "id", None), getattr(node, "arg", None), getattr(node, "attr", None))
    ]


def test_axis_mentions_sees_what_is_not_passing_on():
    passing = "def __call__(self, x, *, axis_name=None):\n    return f(x, axis_name=axis_name)"
    assert axis_mentions(ast.parse(passing)) == []
    assert axis_mentions(ast.parse("def loss(x, *, axis_name=None):\n    return x")) == [1]
    assert axis_mentions(ast.parse("step(x,\n axis_name='batch')")) == [2]
    assert axis_mentions(ast.parse("def __call__(self, *, axis_name):\n    g(axis_name)")) == [2]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_is_short_complete_and_says_how_to_run_it(path):
    tree, lines = TREES[path.stem], path.read_text().splitlines()
    assert len(lines) <= 60
    defined = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    assert isinstance(defined.get("Config"), ast.ClassDef)
    assert isinstance(defined.get("build"), ast.FunctionDef)
    docstring = ast.get_docstring(tree) or ""
    command = f"python -m cityjax.run experiment={path.stem}"
    lines = docstring.splitlines()
    (run,) = [place for place, line in enumerate(lines) if f"{command} " in f"{line} "]
    assert lines[run + 1].startswith("Expect: ")
    assert axis_mentions(tree) == []


def test_experiments_do_not_import_each_other():
    for name, tree in TREES.items():
        modules = {
            part
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for part in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        }
        others = set(TREES) - {name}
        assert not {m for m in modules if m and ("experiments" in m or m in others)}, name


def python(program):
    """Run a program in a fresh interpreter with the package on its path; return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "CITYJAX_DATA")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_cityjax_imports_nothing_heavy():
    heavy = ("jax", "jaxlib", "numpy", "flax", "optax", "hydra", "matplotlib")
    program = f"import sys, cityjax; print([m for m in {heavy} if m in sys.modules])"
    assert python(program).strip() == "[]"


def test_importing_everything_touches_no_device_no_setting_and_no_environment():
    # All modules, then all experiments, in one interpreter; a package's __main__ would run.
    modules = [m.removesuffix(".__init__") for m in SOURCES if not m.endswith("__main__")]
    assert len(modules) > 30
    program = f"""
import importlib, importlib.util, logging, os, signal
import jax
from jax._src import xla_bridge
settings, environment = dict(jax.config.values), dict(os.environ)
handler, handlers = signal.getsignal(signal.SIGTERM), list(logging.getLogger().handlers)
for module in {modules}:
    importlib.import_module(module)
for name in {list(TREES)}:
    spec = importlib.util.spec_from_file_location(name, f"{ROOT / "experiments"}/{{name}}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Config()
# Libraries that cityjax uses may bring settings of their own; none that was there changes.
changed = [name for name, value in settings.items() if jax.config.values[name] != value]
changed += [name for name, value in os.environ.items() if environment.get(name) != value]
if signal.getsignal(signal.SIGTERM) != handler or logging.getLogger().handlers != handlers:
    changed.append("handlers")
print(changed, xla_bridge.backends_are_initialized())
"""
    assert python(program).strip() == "[] False"


def test_library_files_stay_small():
    sizes = {m: len((ROOT / f"{m.replace('.', '/')}.py").read_text().splitlines()) for m in SOURCES}
    assert {module: size for module, size in sizes.items() if size > 320} == {}
