"""Conv4d against a row loop of conv3d and against one matrix product, as ratios in one run.

    python benchmarks/conv4d.py [--channels 16] [--grid 7] [--batch 16] [--threads 1]

The row loop is NCNet's (Rocco et al., 2018), with its rows stacked so that current torch trains it.
The matrix product does the same multiplications on ready-made columns, without gathering them.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from indiret.conv4d import Conv4d, PivotConv4d


def row_loop(x: Tensor, conv: Conv4d) -> Tensor:
    """Every output row is a sum of conv3d over the input rows that its taps meet (stride 1)."""
    taps, border = conv.kernel_size[0], conv.padding[0]
    rows = F.pad(x, (0, 0) * 3 + (border, border)).movedim(2, 0).contiguous()
    out = []
    for i in range(len(rows) - taps + 1):
        row = F.conv3d(rows[i], conv.weight[:, :, 0], conv.bias, padding=conv.padding[1:])
        for tap in range(1, taps):
            row = row + F.conv3d(rows[i + tap], conv.weight[:, :, tap], padding=conv.padding[1:])
        out.append(row)
    return torch.stack(out, 2)


def times(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each, taken in turns so that a busy machine slows all alike."""
    spent: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 2):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if repeat >= 2:
                spent[name].append(1000 * (time.perf_counter() - start))
    return {name: median(values) for name, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=16, help="in and out")
    parser.add_argument("--grid", type=int, default=7, help="cells a dimension")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    c, cells = args.channels, args.batch * args.grid**4
    x = torch.randn(args.batch, c, *[args.grid] * 4, requires_grad=True)
    conv, pivot = Conv4d(c, c, 3, padding=1), PivotConv4d(c, c, 3, padding=1)
    columns = torch.randn(cells, 81 * c, requires_grad=True)
    matrix = torch.randn(81 * c, c, requires_grad=True)
    torch.testing.assert_close(row_loop(x, conv), conv(x), atol=1e-4, rtol=1e-4)

    forward: dict[str, Callable[[], Tensor]] = {
        "Conv4d": lambda: conv(x),
        "row loop": lambda: row_loop(x, conv),
        "matrix product": lambda: columns @ matrix,
        "PivotConv4d": lambda: pivot(x),
    }

    def both(run: Callable[[], Tensor]) -> Callable[[], None]:
        gradient = torch.ones_like(run())
        return lambda: run().backward(gradient)

    def without_gradient(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return torch.no_grad()(run)

    alone = times({name: without_gradient(run) for name, run in forward.items()}, args.repeats)
    trained = times({name: both(run) for name, run in forward.items()}, args.repeats)
    print(
        f"{c} → {c} channels, 3⁴ kernel, {args.grid}⁴ cells, batch {args.batch}, "
        f"{args.threads} thread(s), torch {torch.__version__}"
    )
    print(f"{'':16}{'forward ms':>12}{'× Conv4d':>10}{'+ backward ms':>16}{'× Conv4d':>10}")
    for name in forward:
        print(
            f"{name:16}{alone[name]:12.1f}{alone[name] / alone['Conv4d']:10.2f}"
            f"{trained[name]:16.1f}{trained[name] / trained['Conv4d']:10.2f}"
        )


if __name__ == "__main__":
    main()
