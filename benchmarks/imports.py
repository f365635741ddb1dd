"""What ``import indiret`` costs after ``import torch``, and a first look-up after that, as ratios.

    python benchmarks/imports.py

Each is the median of fresh interpreters. The aim is 10 % of ``import torch`` for the first.
"""

import json
import statistics
import subprocess
import sys

RUNS = 5
CODE = """
import json, time
times = [time.perf_counter()]
import torch
times.append(time.perf_counter())
import indiret
times.append(time.perf_counter())
indiret.build_retriever, indiret.load_dataset
times.append(time.perf_counter())
indiret.list_retrievers()
times.append(time.perf_counter())
print(json.dumps([after - before for before, after in zip(times, times[1:])]))
"""


def main() -> None:
    command = [sys.executable, "-c", CODE]
    runs = [json.loads(subprocess.check_output(command)) for _ in range(RUNS)]
    torch, face, core, plugins = map(statistics.median, zip(*runs, strict=True))
    print(f"import torch            {torch:.3f} s")
    for what, seconds in (("import indiret", face), ("its core", core), ("its wings", plugins)):
        print(f"{what:23} {seconds:.3f} s, {100 * seconds / torch:.1f} %")


if __name__ == "__main__":
    main()
