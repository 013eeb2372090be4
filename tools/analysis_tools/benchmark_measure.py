"""How ``benchmark.py`` measures: time, peak memory, operations and bytes; and its table."""

import ctypes
import gc
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

Step = Callable[[], None]
Variants = dict[str, Callable[[], Step]]  # what to build, and then to run


def check_device(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse as ``--device`` a GPU where there is none."""
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(f'the device is {args.device}, but there is no GPU; leave it out')


class ByteCounter(TorchDispatchMode):
    """Counts operators, and the bytes that they read and write; views are none, and move none."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        """Run the operator and count."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operators += 1
            self.total += sum(x.numel() * x.element_size()
                              for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor))
        return result


def resident() -> dict[str, int]:
    """Resident bytes of this process: now (``VmRSS``) and at their peak (``VmHWM``)."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return {key: int(value.split()[0]) * 1024 for key, _, value in
            (line.partition(':') for line in lines) if key in ('VmRSS', 'VmHWM')}


def measure_memory(build: Callable[[], Step], device: torch.device) -> int:
    """Peak bytes of building a variant and running it twice."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        ctypes.CDLL(None).malloc_trim(0)
        before = resident()['VmRSS']
        Path('/proc/self/clear_refs').write_text('5')  # resets VmHWM
    step = build()
    for _ in range(2):
        step()
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) - before
    return resident()['VmHWM'] - before


def measure_time(steps: dict[str, Step], repeats: int, device: torch.device,
                 bar: tqdm) -> dict[str, list[float]]:
    """Seconds of each variant's runs, all variants in turn; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            if device.type == 'cuda':
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            step()
            if device.type == 'cuda':
                torch.cuda.synchronize(device)
            if repeat:
                seconds[name].append(time.perf_counter() - started)
            bar.update()
    return seconds


def count(step: Step) -> tuple[int, int, int]:
    """Floating-point operations (matrix products, convolutions, attention), bytes, operators."""
    with FlopCounterMode(display=False) as flops:
        step()
    with ByteCounter() as moved:
        step()
    return flops.get_total_flops(), moved.total, moved.operators


def run_case(variants: Variants, repeats: int, device: torch.device,
             bar: tqdm) -> list[dict[str, Any]]:
    """Measure a case: a row a variant, the first being what the others are divided by."""
    memory = {name: measure_memory(build, device) for name, build in variants.items()}
    steps = {name: build() for name, build in variants.items()}
    seconds = measure_time(steps, repeats, device, bar)
    rows = []
    for name, step in steps.items():
        flops, moved, operators = count(step)
        rows.append(dict(variant=name, seconds=statistics.median(seconds[name]),
                         spread=(max(seconds[name]) - min(seconds[name])) / 2,
                         memory=memory[name], flops=flops, bytes=moved, operators=operators))
    return [{**row, **{f'{key}_ratio': row[key] / rows[0][key] if rows[0][key] else 0.0
                       for key in ('seconds', 'memory', 'flops')}} for row in rows]


def table(results: dict[str, list[dict[str, Any]]], peaks: tuple[float, float] | None) -> str:
    """Markdown; with peaks (TFLOP/s, TB/s) also the milliseconds that a step takes at least."""
    head = ['case', 'variant', 'ms', '±', 'time ratio', 'peak MB', 'memory ratio', 'GFLOP', 'ratio',
            'GB moved', 'operators',
            *(['floor by operations, ms', 'by bytes, ms'] if peaks else [])]
    lines = [head, ['---'] * len(head)]
    for case, rows in results.items():
        for row in rows:
            cells = [case, row['variant'], f'{1e3 * row["seconds"]:.1f}',
                     f'{1e3 * row["spread"]:.1f}', f'{row["seconds_ratio"]:.3f}',
                     f'{row["memory"] / 1e6:.0f}', f'{row["memory_ratio"]:.2f}',
                     f'{row["flops"] / 1e9:.1f}', f'{row["flops_ratio"]:.3f}',
                     f'{row["bytes"] / 1e9:.2f}', f'{row["operators"]:,}']
            if peaks:
                cells += [f'{row["flops"] / peaks[0] / 1e9:.2f}',
                          f'{row["bytes"] / peaks[1] / 1e9:.2f}']
            lines.append(cells)
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
