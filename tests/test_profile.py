"""The profile of a step: products counted by hand, instants that belong to one instruction."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from rich.console import Console

from benchmarks import hlo, profile
from benchmarks.profile import Span, Spent

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="what XLA compiles for a CPU is read here"
)


def counted(function, *shapes):
    """Return the products of a compiled function of arrays of ones, loops counted once."""
    compiled = jax.jit(function).lower(*map(jnp.ones, shapes)).compile()
    return sum(one.flops for one in hlo.operations(compiled.as_text()).values())


def convolve(strides=(1, 1), padding="VALID", **arguments):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lambda x, k: lax.conv_general_dilated(
        x, k, strides, padding, dimension_numbers=numbers, **arguments
    )


def test_matrix_products_are_counted():
    assert counted(jnp.dot, (5, 7), (7, 3)) == 2 * 5 * 7 * 3
    batched = counted(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), (4, 5, 7), (4, 3, 7))
    assert batched == 2 * 4 * 5 * 7 * 3


@pytest.mark.parametrize(
    ("convolution", "expected"),
    [
        (convolve(), 2 * 2 * (4 * 3) * (3 * 3) * 5 * 6),
        # SAME: at each end of an axis one of the three places meets padding.
        (convolve(padding="SAME"), 2 * 2 * (6 * 3 - 2) * (5 * 3 - 2) * 5 * 6),
        # Stride 2 and SAME on 6 and 5 pixels: outputs see 3 + 3 + 2 and 2 + 3 + 2 of them.
        (convolve((2, 2), "SAME"), 2 * 2 * 8 * 7 * 5 * 6),
        # Spread out to 11 and 9 pixels, padded by two, every pixel meets each place once.
        (
            convolve(padding=((2, 2), (2, 2)), lhs_dilation=(2, 2)),
            2 * 2 * (6 * 3) * (5 * 3) * 5 * 6,
        ),
        (convolve(rhs_dilation=(2, 2)), 2 * 2 * (2 * 3) * (1 * 3) * 5 * 6),
    ],
)
def test_convolutions_are_counted_without_their_zeros(convolution, expected):
    assert counted(convolution, (2, 6, 5, 5), (3, 3, 5, 6)) == expected


def test_groups_are_counted():
    grouped = convolve(padding="VALID", feature_group_count=3)
    assert counted(grouped, (2, 6, 5, 6), (3, 3, 2, 9)) == 2 * 2 * (4 * 3) * (3 * 3) * 2 * 9


def test_a_path_says_where_in_few_words():
    assert hlo.path("jit(step)/jvp(RNN)/Recurrent_0/while/body/closed_call/add") == (
        "RNN/Recurrent_0/add"
    )
    assert hlo.path("jit(step)/transpose(jvp(CNN))/CNN/Conv_0/cond/branch_1_fun/slice") == (
        "CNN/Conv_0/slice, backward"
    )
    assert hlo.path("") == ""


def test_an_instant_belongs_to_what_began_last():
    # A loop of two rounds with a product in each, and a copy on another thread meanwhile.
    spans = [
        Span(0, "while", 0, 1000),
        Span(0, "dot", 100, 300),
        Span(0, "dot", 500, 700),
        Span(0, "copy", 600, 1100),
        Span(0, "add", 2000, 2500),
    ]
    times = profile.self_times(spans)
    nanoseconds = {name: round(seconds * 1e9) for name, seconds in times.items()}
    assert nanoseconds == {"while": 300, "dot": 300, "copy": 500, "add": 500}
    again = [span._replace(run=1, begin=span.begin + 1e4, end=span.end + 1e4) for span in spans]
    slower = [Span(2, "add", 0, 9000)]
    spent = profile.spent_per_step([*spans, *again, *slower])
    assert spent["dot"].calls == pytest.approx(4 / 3)
    assert spent["add"].seconds == pytest.approx(5e-7)


def test_a_traced_program_is_tabled():
    @jax.jit
    def step(x):
        return lax.scan(lambda carry, _: (jnp.tanh(carry @ x), None), x, length=3)[0]

    x = jnp.ones((64, 64)) / 64
    program = step.lower(x).compile()
    text = program.as_text()
    known = hlo.operations(text)
    spent = profile.spent_per_step(profile.traced(lambda: program(x), 2, "jit_step"))
    done = sum(known[name].flops * each.calls for name, each in spent.items())
    assert done == 3 * 2 * 64**3
    console = Console(width=100, record=True)
    console.print(profile.table("title", known, spent, 1e11))
    shown = console.export_text()
    assert "3 x" in shown
    assert "100.0%" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert profile.verdict(2e9, [0.05, 0.04, 0.08], 1e11).endswith(
        "40.000 ms (the best; median 50.000), 2.00 times that"
    )


def test_a_trace_without_the_program_is_refused():
    with pytest.raises(ValueError, match="no instruction of jit_other"):
        profile.traced(lambda: jnp.ones(3) + 1, 1, "jit_other")


def test_an_unknown_network_is_one_line():
    with pytest.raises(SystemExit, match="unknown networks mpl: mlp, article_cnn"):
        profile.main(["mpl", "gru"])


def test_the_page_says_how_much_of_a_step_are_products():
    known = {"dot": hlo.Operation("", "", 6e6), "add": hlo.Operation("", "", 0)}
    spent = {"dot": Spent(0.003, 2), "add": Spent(0.0005, 1), "while": Spent(0.0005, 1)}
    found = profile.summed(known, spent)
    assert found == {"flops": 12e6, "share": 0.75}
    # 12 MFLOP at 10 GFLOP/s are 1.2 ms, of 3 ms of a step of 4.
    kept = {"step": 0.004, "gemm": 1e10, **found, "measured": "here"}
    shown = profile.section({"lenet": kept, "cnn_mnist": kept})
    (row,) = (line for line in shown if line.startswith("| cnn_mnist (24, 48, 96,"))
    assert row.endswith("| 4 | 1.2 | 3.3 | 75% | 40% |")
    title = profile.NETWORKS["lenet"].title
    assert f"| {title} | 4 | 1.2 | 3.3 | 75% | 40% |" in shown
    assert "The best rate, GFLOP/s, measured beside each: lenet 10, cnn_mnist 10." in shown
    assert "- lenet: here" in shown
    # Of that network's step beside PyTorch, what one that met the target would have room for.
    assert [line for line in shown if line.startswith(f"- {title}: 1.15 times PyTorch's speed")]
